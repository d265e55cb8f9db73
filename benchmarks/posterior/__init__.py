"""The keypoint posterior, measured and calibrated."""
