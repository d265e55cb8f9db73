"""Results as files, each whole or not at all."""
