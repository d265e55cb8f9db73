"""p(body | keypoints): the posterior, its files and draws, and the prior that the solver sees."""
