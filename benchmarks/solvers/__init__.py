"""The solver beside ProHMR's, measured."""
