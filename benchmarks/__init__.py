"""Measurements that the documentation quotes; each is rerun by one command."""
