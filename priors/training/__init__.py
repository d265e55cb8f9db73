"""How posteriors are trained: configurations, losses, loops."""
