"""What `evaluate` measures, on whom, and its tables."""
