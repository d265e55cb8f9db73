"""Where poses come from: motion capture files."""
