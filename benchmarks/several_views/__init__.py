"""Fits of several views, measured."""
