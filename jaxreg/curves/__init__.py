"""Curves f(θ, x) that are not linear in their params, as an ansatz of `fit`."""
