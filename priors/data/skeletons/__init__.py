"""Pairs of 2D and 3D skeletons, and the camera between them."""
