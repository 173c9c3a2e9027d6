"""Centers and scales with which offsets and units of the data cost no digits.

x = x_center + x_scale·t and y = y_center + y_scale·u: squares of t and u neither overflow nor cancel. A
change of scaling multiplies the basis by a triangular matrix; moments and coefficients transform accordingly.
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
    """x = x_origin + x_center + x_scale·t, and the same for y and u; the scales are powers of two.

    Attributes:
        x_center: (*batch), or (k, *batch) where x is a vector.
        x_scale: the same shape.
        y_center: (*batch).
        y_scale: (*batch).
        x_origin: subtracted from integer x before its conversion to floats, shaped as x_center, or None.
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

    Without an intercept the centers are 0.
    """
    return Scaling(
        *_center_and_scale(*x_range, ansatz.has_intercept),
        *_center_and_scale(*y_range, ansatz.has_intercept),
    )


def data_units(like: Scaling) -> Scaling:
    """The scaling with t = x and u = y."""
    return Scaling(
        jnp.zeros_like(like.x_center),
        jnp.ones_like(like.x_scale),
        jnp.zeros_like(like.y_center),
        jnp.ones_like(like.y_scale),
    )


def union(a: Scaling, a_valid: Array, b: Scaling, b_valid: Array, ansatz: Ansatz) -> Scaling:
    """A scaling of the ranges of both a and b, or of the valid one."""

    def union_range(axis: str) -> tuple[Array, Array]:
        low_a, high_a = _range(a, axis, a_valid)
        low_b, high_b = _range(b, axis, b_valid)
        return jnp.minimum(low_a, low_b), jnp.maximum(high_a, high_b)

    return of_ranges(union_range("x"), union_range("y"), ansatz)


def between(old: Scaling, new: Scaling, ansatz: Ansatz) -> DoubleDouble:
    """The matrix R with z_new = R z_old for z = (ψ(t), u), (p + 1, p + 1, *batch), in double-double."""
    x_unit, y_unit = 1 / new.x_scale, 1 / new.y_scale  # powers of two
    x_shift = _difference(old.x_center, old.x_origin, new.x_center, new.x_origin).scaled(x_unit)
    y_shift = _difference(old.y_center, old.y_origin, new.y_center, new.y_origin).scaled(y_unit)
    y_ratio = DoubleDouble.of(old.y_scale * y_unit)
    basis_change = ansatz.change(x_shift, old.x_scale * x_unit)
    p = basis_change.hi.shape[0]

    def bordered(block: Array, corner: Array, edge: Array) -> Array:
        zero = jnp.zeros_like(broadcast_arrays([corner, block[0, 0]])[0])
        R = jnp.broadcast_to(zero, (p + 1, p + 1, *zero.shape))
        R = R.at[:p, :p].set(block).at[p, p].set(corner)
        return R.at[p, 0].set(edge) if ansatz.has_intercept else R

    return jax.tree.map(bordered, basis_change, y_ratio, y_shift)


def _difference(old: Array, old_origin: Array | None, new: Array, new_origin: Array | None) -> DoubleDouble:
    """(old_origin + old) − (new_origin + new)."""
    difference = DoubleDouble.of(old) - new
    difference = difference if old_origin is None else difference + old_origin
    return difference if new_origin is None else difference - new_origin


def constant(matrix: np.ndarray, like: DoubleDouble) -> DoubleDouble:
    """A matrix of floats as a double-double with the axes of `like`."""
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


def _range(scaling: Scaling, axis: str, valid: Array) -> tuple[Array, Array]:
    """The range that is mapped to [−1, 1]; empty where not valid."""
    center, scale, origin = (getattr(scaling, f"{axis}_{name}") for name in ("center", "scale", "origin"))
    center = center if origin is None else center + origin
    return jnp.where(valid, center - scale, jnp.inf), jnp.where(valid, center + scale, -jnp.inf)
