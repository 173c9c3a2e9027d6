"""Units and origins in which no offset and no unit of the data costs a digit.

x = x_center + x_scale·t and y = y_center + y_scale·u: squares of t and u neither overflow nor cancel. A basis
moves between scalings by a triangular matrix, and moments and coefficients move with it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import power_of_two
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.small import broadcast_arrays


@pytree
class Scaling:
    """x = x_origin + x_center + x_scale·t and y likewise with u; the scales are powers of two.

    Attributes:
        x_center: (*batch); (k, *batch) where x is a vector.
        x_scale: the same shape.
        y_center: (*batch).
        y_scale: (*batch).
        x_origin: what was taken out of integers before they became floats, as x_center, or None.
        y_origin: the same of y.
    """

    x_center: Array
    x_scale: Array
    y_center: Array
    y_scale: Array
    x_origin: Array | None = None
    y_origin: Array | None = None


def of_ranges(x_range: tuple[Array, Array], y_range: tuple[Array, Array], ansatz: Ansatz) -> Scaling:
    """The scaling that maps both ranges, each (lowest, highest), into [−1, 1].

    Without an intercept the origin is a point of its own and stays where it is.
    """
    return Scaling(
        *_center_and_scale(*x_range, ansatz.has_intercept),
        *_center_and_scale(*y_range, ansatz.has_intercept),
    )


def data_units(like: Scaling) -> Scaling:
    """The scaling in which t is x and u is y."""
    return Scaling(
        jnp.zeros_like(like.x_center),
        jnp.ones_like(like.x_scale),
        jnp.zeros_like(like.y_center),
        jnp.ones_like(like.y_scale),
    )


def union(a: Scaling, a_there: Array, b: Scaling, b_there: Array, ansatz: Ansatz) -> Scaling:
    """A scaling of both data sets; one that is not there does not count."""

    def ends(axis: str) -> tuple[Array, Array]:
        low_a, high_a = _ends(a, axis, a_there)
        low_b, high_b = _ends(b, axis, b_there)
        return jnp.minimum(low_a, low_b), jnp.maximum(high_a, high_b)

    return of_ranges(ends("x"), ends("y"), ansatz)


def between(old: Scaling, new: Scaling, ansatz: Ansatz) -> DoubleDouble:
    """The matrix R with z_new = R z_old for z = (ψ(t), u), (p + 1, p + 1, *batch), to twice the digits."""
    x_unit, y_unit = 1 / new.x_scale, 1 / new.y_scale  # powers of two
    shift = _difference(old.x_center, old.x_origin, new.x_center, new.x_origin).scaled(x_unit)
    edge = _difference(old.y_center, old.y_origin, new.y_center, new.y_origin).scaled(y_unit)
    corner = DoubleDouble.of(old.y_scale * y_unit)
    basis = ansatz.change(shift, old.x_scale * x_unit)
    p = basis.hi.shape[0]

    def bordered(block: Array, corner: Array, edge: Array) -> Array:
        zero = jnp.zeros_like(broadcast_arrays([corner, block[0, 0]])[0])
        R = jnp.broadcast_to(zero, (p + 1, p + 1, *zero.shape))
        R = R.at[:p, :p].set(block).at[p, p].set(corner)
        return R.at[p, 0].set(edge) if ansatz.has_intercept else R

    return jax.tree.map(bordered, basis, corner, edge)


def _difference(old: Array, old_origin: Array | None, new: Array, new_origin: Array | None) -> DoubleDouble:
    """What one center is from another."""
    away = DoubleDouble.of(old) - new
    away = away if old_origin is None else away + old_origin
    return away if new_origin is None else away - new_origin


def constant(matrix: np.ndarray, like: DoubleDouble) -> DoubleDouble:
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


def _ends(scaling: Scaling, axis: str, there: Array) -> tuple[Array, Array]:
    center, scale, origin = (getattr(scaling, f"{axis}_{name}") for name in ("center", "scale", "origin"))
    center = center if origin is None else center + origin
    return jnp.where(there, center - scale, jnp.inf), jnp.where(there, center + scale, -jnp.inf)
