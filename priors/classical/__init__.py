"""Priors without a network: mixtures and Gaussians of poses, joint limits."""
