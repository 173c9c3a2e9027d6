"""The frame of a data set: x = center + scale·t and y likewise, with t and u in [−1, 1].

In it no offset and no unit of the data costs a digit: squares neither overflow nor cancel. A basis
moves between frames by a triangular matrix, and moments, coefficients and covariances move with it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.pair import Pair
from jaxreg.pytree import pytree


@pytree
class Frame:
    """x = x_center + x_scale·t and y = y_center + y_scale·u; the scales are powers of two.

    Attributes:
        x_center: (*batch); (k, *batch) where x is a vector.
        x_scale: the same shape.
        y_center: (*batch).
        y_scale: (*batch).
    """

    x_center: Array
    x_scale: Array
    y_center: Array
    y_scale: Array

    def inside(self, x: Array, y: Array) -> tuple[Array, Array]:
        """(t, u) of (x, y)."""
        return (x - self.x_center) * (1 / self.x_scale), (y - self.y_center) * (1 / self.y_scale)


def of_ranges(x_range: tuple[Array, Array], y_range: tuple[Array, Array], ansatz: Ansatz) -> Frame:
    """The frame that maps both ranges, each (lowest, highest), into [−1, 1].

    Without an intercept the origin is a point of its own and stays where it is.
    """
    return Frame(
        *_center_and_scale(*x_range, ansatz.has_intercept),
        *_center_and_scale(*y_range, ansatz.has_intercept),
    )


def data_units(like: Frame) -> Frame:
    """The frame in which t is x and u is y."""
    return Frame(
        jnp.zeros_like(like.x_center),
        jnp.ones_like(like.x_scale),
        jnp.zeros_like(like.y_center),
        jnp.ones_like(like.y_scale),
    )


def union(a: Frame, a_there: Array, b: Frame, b_there: Array, ansatz: Ansatz) -> Frame:
    """A frame of both data sets; one that is not there does not count."""

    def ends(center: str, scale: str) -> tuple[Array, Array]:
        low_a, high_a = _ends(getattr(a, center), getattr(a, scale), a_there)
        low_b, high_b = _ends(getattr(b, center), getattr(b, scale), b_there)
        return jnp.minimum(low_a, low_b), jnp.maximum(high_a, high_b)

    return of_ranges(ends("x_center", "x_scale"), ends("y_center", "y_scale"), ansatz)


def between(old: Frame, new: Frame, ansatz: Ansatz, number: Callable[[Array], Pair] = Pair.of) -> Pair:
    """The matrix R with z_new = R z_old for z = (ψ(t), u), (p + 1, p + 1, *batch).

    Args:
        old: the frame of z_old.
        new: the frame of z_new.
        ansatz: whose basis ψ is.
        number: what to compute with, `Pair.of` or `pair.widen`.
    """
    x_unit, y_unit = 1 / new.x_scale, 1 / new.y_scale  # powers of two
    shift = (number(old.x_center) - new.x_center).scaled(x_unit)
    edge = (number(old.y_center) - new.y_center).scaled(y_unit)
    corner = number(old.y_scale).scaled(y_unit)
    basis = ansatz.change(shift, number(old.x_scale).scaled(x_unit).hi)
    p = basis.hi.shape[0]
    batch = jnp.broadcast_shapes(corner.hi.shape, basis.hi.shape[2:])

    def bordered(block: Array, corner: Array, edge: Array) -> Array:
        R = jnp.zeros((p + 1, p + 1, *batch), block.dtype)
        R = R.at[:p, :p].set(block).at[p, p].set(corner)
        return R.at[p, 0].set(edge) if ansatz.has_intercept else R

    return jax.tree.map(bordered, basis, corner, edge)


def constant(matrix: np.ndarray, like: Pair) -> Pair:
    """A matrix of exact numbers beside a pair with batch axes."""
    exact = jnp.asarray(matrix, like.hi.dtype).reshape(matrix.shape + (1,) * (like.hi.ndim - 2))
    return like.map(lambda _: jnp.zeros_like(exact)) + exact


def _center_and_scale(low: Array, high: Array, has_intercept: bool) -> tuple[Array, Array]:
    if not has_intercept:
        high = jnp.maximum(jnp.abs(low), jnp.abs(high))
        low = -high
    center = low / 2 + high / 2
    half_range = jnp.maximum(high - center, center - low)
    usable = jnp.isfinite(center) & jnp.isfinite(half_range)
    return jnp.where(usable, center, 0), power_of_two(jnp.where(usable, half_range, 0))


def power_of_two(a: Array) -> Array:
    """The smallest power of two that is not below a, 1 for 0; multiplying by it rounds nothing."""
    info = jnp.finfo(a.dtype)
    inside = jnp.clip(a, 2.0 ** (info.minexp + 1), 2.0 ** (info.maxexp - 3)).astype(a.dtype)
    bits = lax.bitcast_convert_type(inside, jnp.int32 if info.bits == 32 else jnp.int64)
    below = lax.bitcast_convert_type(bits - 1 >> info.nmant << info.nmant, a.dtype)  # no significand
    return jnp.where(a > 0, 2 * below, 1)


def _ends(center: Array, scale: Array, there: Array) -> tuple[Array, Array]:
    return jnp.where(there, center - scale, jnp.inf), jnp.where(there, center + scale, -jnp.inf)
