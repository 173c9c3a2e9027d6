"""Solvers of `fit` (closed form, gradient descent), and the minimizers that they and mechanics use."""
