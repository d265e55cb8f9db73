"""Drawn pictures of made-up people."""
