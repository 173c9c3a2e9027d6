"""What one pass over the data adds up, whatever the way: the contract of row_sums and matrix_sums.

With z = (ψ₁(t), …, ψ_k(t), u), the basis of the ansatz without its constant and the response, both in
units near those of the data, a quadratic cost sees the data through Σ w, Σ w z and Σ w z zᵀ alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.cost import is_valid
from jaxreg.numerics.precision import power_of_two
from jaxreg.numerics.vectors import Vector

FIRST_ROWS = 8  # among which a near origin lies


class Raw(NamedTuple):
    """t = (x − x_center) / x_scale and u = (y − y_center) / y_scale, as they are added, in float64.

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
    """What was taken out of integers before they became floats; see `floats_and_origin` for its dtype.

    Attributes:
        x: for each column of x, () or (*batch); None where x came in floats.
        y: () or (*batch), or None.
    """

    x: list[Array] | None
    y: Array | None


class Sums(NamedTuple):
    """Sums over the valid observations of each data set, in float64; all of shape (*batch).

    Attributes:
        nobs: how many are valid.
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
    """The columns of x, which are on this axis where one observation is a vector."""
    if not ansatz.x_is_vector:
        return [x]
    return [x[(slice(None),) * axis + (j,)] for j in range(x.shape[axis])]


def size(ansatz: Ansatz, x: Array) -> int:
    """How many z_i there are."""
    return 1 + len(ansatz.param_names(x.shape[1] if ansatz.x_is_vector else 1)) - ansatz.has_intercept


def z_of(ansatz: Ansatz, raw: Raw | None, x: list[Array], y: Array) -> list[Array]:
    """z of observations with these columns of x, in float64; without `raw` in the units of the data."""
    t, u = [a.astype(jnp.float64) for a in x], y.astype(jnp.float64)
    if raw is not None:
        t = [(a - c) * (1 / s) for a, c, s in zip(t, raw.x_center, raw.x_scale, strict=True)]
        u = (u - raw.y_center) * (1 / raw.y_scale)
    return [*ansatz.basis(t)[int(ansatz.has_intercept) :], u]


def raw_units(
    ansatz: Ansatz, x: Array, y: Array, weights: Array | None, *, centered: bool = False
) -> Raw | None:
    """The units in which a pass adds, None for those of the data.

    Products of float32 numbers are exact in float64: float32 data are added as they are. float64 data are
    added from a near origin, the middle of the first rows, in units of their spread there; without an
    intercept x = 0 is a point of its own and stays where it is. A basis that lives on [−1, 1] needs the
    range of all x, of gaps too: so it is the same whether x is shared or not. So does a design that all
    share (`centered`), which is centered once for all.
    """
    single = y.dtype == jnp.float32
    of_all_x = centered or not ansatz.basis_is_x
    if single and not of_all_x:
        return None
    one = jnp.ones((1,) * (y.ndim - 1), jnp.float64)
    rows = slice(0, FIRST_ROWS)
    first_x, first_y = columns_of(ansatz, x[rows], 1), y[rows]
    if single:
        y_center, y_scale = 0 * one, one
    else:
        valid = is_valid(first_x, first_y, None if weights is None else weights[rows])
        y_center, y_scale = _middle(first_y, valid & jnp.isfinite(first_y), moves=True)
    of_x = x if of_all_x else x[rows]
    moves = ansatz.has_intercept
    center, scale = _middle(of_x, jnp.isfinite(of_x), moves)
    return Raw(columns_of(ansatz, center, 0), columns_of(ansatz, scale, 0), y_center, y_scale)


def _middle(a: Array, usable: Array, moves: bool) -> tuple[Array, Array]:
    """Center and scale that map the range over the rows into [−1, 1], in float64; 0 if it may not move."""
    low = jnp.where(usable, a, jnp.inf).min(axis=0).astype(jnp.float64)
    high = jnp.where(usable, a, -jnp.inf).max(axis=0).astype(jnp.float64)
    center = (low / 2 + high / 2).astype(a.dtype).astype(jnp.float64) if moves else jnp.zeros_like(low)
    reach = jnp.maximum(high - center, center - low)
    usable = jnp.isfinite(center) & jnp.isfinite(reach)
    return jnp.where(usable, center, 0), power_of_two(jnp.where(usable, reach, 0))
