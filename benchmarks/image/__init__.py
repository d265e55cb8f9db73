"""The image posterior, measured."""
