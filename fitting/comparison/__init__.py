"""What `compare` puts side by side, and what it writes."""
