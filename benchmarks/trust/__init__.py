"""What the scores and intervals are worth, measured."""
