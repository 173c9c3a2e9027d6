"""Costs S(θ) other than the mean squared error, as means of a loss over the observations."""
