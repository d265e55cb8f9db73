"""Crops of pictures with what is known of the people in them."""
