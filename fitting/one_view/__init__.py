"""One picture: where a fit begins, the fit, and what is still open after it."""
