"""What is minimised: the problem, its terms, their gradient and Gauss-Newton model."""
