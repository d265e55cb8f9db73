"""What a fit is worth: sides, quality, facing, doubts, standard deviations."""
