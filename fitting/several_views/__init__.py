"""Several views of the same people: one body in all of them."""
