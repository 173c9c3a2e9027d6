"""Which observations are valid: the only definition of a gap."""

from __future__ import annotations

import jax.numpy as jnp

from jaxreg._typing import Array, Bool
from jaxreg.ansatz import Ansatz, Line


def observed(
    x: Array, y: Array, weights: Array | None = None, ansatz: Ansatz = Line()
) -> Bool[Array, "n *batch"]:
    """Which observations are valid: x and y are not NaN and the weight is not 0.

    Weights matter only where x and y are not NaN, so they may be NaN in the gaps of y.
    """

    def with_axes_of_y(a: Array) -> Array:
        return a.reshape(a.shape + (1,) * (y.ndim - a.ndim))

    columns = [x[:, j] for j in range(x.shape[1])] if ansatz.x_is_vector else [x]
    weights = None if weights is None else with_axes_of_y(weights)
    return is_valid([with_axes_of_y(a) for a in columns], y, weights)


def is_valid(x: list[Array], y: Array, weights: Array | None) -> Bool[Array, "*shape"]:
    """`observed`, for columns of x and weights that broadcast against y."""
    missing = _is_missing(x, y)
    return ~missing if weights is None else ~missing & (weights != 0)


def weight_or_zero(x: list[Array], y: Array, weights: Array | None) -> Array:
    """The weight of each observation, 1 without weights; 0 for exactly those that are not valid."""
    return jnp.where(_is_missing(x, y), 0, jnp.ones_like(y) if weights is None else weights)


def _is_missing(x: list[Array], y: Array) -> Array:
    missing = jnp.isnan(y)
    for column in x:
        missing |= jnp.isnan(column)
    return missing
