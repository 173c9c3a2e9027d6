"""The sums that one pass over the data makes: the contract of row_sums, reduced_sums and matrix_sums.

With the augmented row z = (ψ₁(t), …, ψ_k(t), u), the basis of the ansatz without its constant followed by the
response, a quadratic cost depends on the data through Σ w, Σ w z and Σ w z zᵀ alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.gaps import is_valid
from jaxreg.numerics.precision import power_of_two
from jaxreg.numerics.vectors import Vector

FIRST_ROWS = 8  # whose middle is the center of x and y


class SumScaling(NamedTuple):
    """t = (x − x_center) / x_scale and u = (y − y_center) / y_scale, of which sums are made, in float64.

    Attributes:
        x_center: for each column of x, () or (*batch).
        x_scale: the same, powers of two.
        y_center: () or (*batch).
        y_scale: the same, a power of two.
    """

    x_center: list[Array]
    x_scale: list[Array]
    y_center: Array
    y_scale: Array


class Origin(NamedTuple):
    """The origin subtracted from integers before their conversion to floats; see `floats_and_origin`.

    Attributes:
        x: for each column of x, () or (*batch); None for floats.
        y: () or (*batch), or None.
    """

    x: list[Array] | None
    y: Array | None


class Sums(NamedTuple):
    """Sums over the valid observations of each data set, in float64, all of shape (*batch).

    Attributes:
        nobs: number of valid observations.
        weight: Σ w.
        log_weight: Σ log w; None without weights.
        first: Σ w z.
        second: the lower triangle of Σ w z zᵀ, row by row.
    """

    nobs: Array
    weight: Array
    log_weight: Array | None
    first: Vector
    second: Vector


def columns_of(ansatz: Ansatz, x: Array, axis: int) -> list[Array]:
    """The columns of x: along `axis` if an observation is a vector, else x alone."""
    if not ansatz.x_is_vector:
        return [x]
    return [x[(slice(None),) * axis + (j,)] for j in range(x.shape[axis])]


def augmented_size(ansatz: Ansatz, x: Array) -> int:
    """The length k + 1 of z."""
    return 1 + len(ansatz.param_names(x.shape[1] if ansatz.x_is_vector else 1)) - ansatz.has_intercept


def augmented_row(ansatz: Ansatz, scaling: SumScaling | None, x: list[Array], y: Array) -> list[Array]:
    """z in float64, of the columns of x and of y; in the units of the data if `scaling` is None."""
    x_scaled, y_scaled = [a.astype(jnp.float64) for a in x], y.astype(jnp.float64)
    if scaling is not None:
        centers_and_scales = zip(x_scaled, scaling.x_center, scaling.x_scale, strict=True)
        x_scaled = [(a - c) * (1 / s) for a, c, s in centers_and_scales]
        y_scaled = (y_scaled - scaling.y_center) * (1 / scaling.y_scale)
    return [*ansatz.basis(x_scaled)[int(ansatz.has_intercept) :], y_scaled]


def sum_scaling(
    ansatz: Ansatz, x: Array, y: Array, weights: Array | None, *, centered: bool = False
) -> SumScaling | None:
    """The scaling of the sums; None for the units of the data.

    Products of float32 numbers are exact in float64, so float32 data are summed unscaled. float64 data are
    centered at the middle of the first rows and divided by their half range there; without an intercept x = 0
    has a meaning and stays the origin.

    The whole range of x, gaps included, is used in two cases: for a basis that needs t in [−1, 1], so that
    shared and own x have the same scaling; and for a shared design (`centered`), which has one center.
    """
    is_float32 = y.dtype == jnp.float32
    needs_range_of_x = centered or not ansatz.basis_is_x
    if is_float32 and not needs_range_of_x:
        return None
    one = jnp.ones((1,) * (y.ndim - 1), jnp.float64)
    rows = slice(0, FIRST_ROWS)
    first_x, first_y = columns_of(ansatz, x[rows], 1), y[rows]
    if is_float32:
        y_center, y_scale = 0 * one, one
    else:
        valid = is_valid(first_x, first_y, None if weights is None else weights[rows])
        y_center, y_scale = _center_and_scale(first_y, valid & jnp.isfinite(first_y), may_shift=True)
    x_rows = x if needs_range_of_x else x[rows]
    center, scale = _center_and_scale(x_rows, jnp.isfinite(x_rows), may_shift=ansatz.has_intercept)
    return SumScaling(columns_of(ansatz, center, 0), columns_of(ansatz, scale, 0), y_center, y_scale)


def _center_and_scale(a: Array, usable: Array, *, may_shift: bool) -> tuple[Array, Array]:
    """Center (0 without `may_shift`) and scale that map the range over the rows into [−1, 1], in float64."""
    low = jnp.where(usable, a, jnp.inf).min(axis=0).astype(jnp.float64)
    high = jnp.where(usable, a, -jnp.inf).max(axis=0).astype(jnp.float64)
    center = (low / 2 + high / 2).astype(a.dtype).astype(jnp.float64) if may_shift else jnp.zeros_like(low)
    reach = jnp.maximum(high - center, center - low)
    usable = jnp.isfinite(center) & jnp.isfinite(reach)
    return jnp.where(usable, center, 0), power_of_two(jnp.where(usable, reach, 0))
