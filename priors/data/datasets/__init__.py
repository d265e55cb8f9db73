"""The field's datasets: where they are from, their files, and one form of them all."""
