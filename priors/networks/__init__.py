"""Neural networks and what is computed with them: flows, encoders, a backbone."""
