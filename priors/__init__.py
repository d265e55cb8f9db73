"""Floor 1: which poses are likely, given nothing, keypoints or an image. Uses models only."""
