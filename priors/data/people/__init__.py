"""Made-up people: motion capture, more poses than it has, a made-up detector."""
