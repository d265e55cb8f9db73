"""p(body | picture, keypoints), and ProHMR's released posterior."""
