"""Floor 2: find the body that explains what was seen. Uses models and priors."""
