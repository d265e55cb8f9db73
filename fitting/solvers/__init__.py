"""How it is minimised, person by person."""
