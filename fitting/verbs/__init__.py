"""The command line's verbs as functions, one a file."""
