"""3D skeletons given 2D ones, without a body."""
