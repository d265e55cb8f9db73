"""Lifting, measured."""
