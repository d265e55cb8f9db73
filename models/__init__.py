"""Floor 0: what a body, a camera and a keypoint are. Needs torch and numpy, nothing above it."""
