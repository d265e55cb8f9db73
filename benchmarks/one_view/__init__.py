"""Fits of one picture, measured."""
