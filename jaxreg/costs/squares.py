"""The mean squared error in the form of other costs, for curves."""

from __future__ import annotations

import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.numerics.pytrees import pytree


@pytree
class SquaredError(MeanLoss):
    """S(θ) = Σ w (y − f)² / Σ w.

    >>> x, y = jnp.arange(3.0), jnp.array([1.0, 3.0, 6.0])
    >>> float(SquaredError()(jnp.array([1.0, 2.0]), x, y))
    0.333333...
    """

    is_convex = True
    uses_t = True

    def loss(self, y: Array, f: Array) -> Array:
        """(y − f)²."""
        return jnp.square(y - f)

    def slope(self, y: Array, f: Array) -> Array:
        """2 (f − y)."""
        return 2 * (f - y)

    def curvature(self, y: Array, f: Array) -> Array:
        """2."""
        return jnp.full_like(f, 2)
