"""Sums of data sets without gaps on a design that all share, whose part of the work is done once.

Σ w ψψᵀ is the same for all, Σ w ψ y is one matrix product and A⁻¹ one small matrix: at n = 300 and p = 32 a
data set takes 30 times less than with sums and normal equations of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, there
from jaxreg.ansatz import Ansatz
from jaxreg.engine.sums import Raw, columns_of, z_of

ROWS = 128  # of y that are in a cache in float64, while few for the columns that are added to


class SharedSums(NamedTuple):
    """`Sums` where the axis of the data sets has length 1 in what they share, all float64.

    Attributes:
        nobs: how many observations there are, (1,).
        weight: Σ w, (1,).
        log_weight: Σ log w, (1,); None without weights.
        psi: Σ w ψ, (k, 1).
        u: Σ w u, (m,).
        gram: Σ w ψψᵀ, (k, k, 1).
        cross: Σ w ψ u, (k, m).
        square: Σ w u², (m,).
    """

    nobs: Array
    weight: Array
    log_weight: Array | None
    psi: Array
    u: Array
    gram: Array
    cross: Array
    square: Array


def shared_sums(ansatz: Ansatz, raw: Raw | None, x: Array, y: Array, weights: Array | None) -> SharedSums:
    """The sums of y, (n, m), over all of its rows, with x and weights that are finite and there."""
    units, n = there(raw), y.shape[0]
    columns = columns_of(ansatz, x, 1)
    *psi, _ = z_of(ansatz, units, columns, jnp.zeros_like(columns[0]))
    one = jnp.ones((n, 1))
    w = one if weights is None else weights.astype(jnp.float64)
    design = jnp.concatenate([one, *psi], axis=1)
    by_rows = (((0,), (0,)), ((), ()))
    weighted = w * design
    A = lax.dot_general(weighted, design, by_rows, precision=lax.Precision.HIGHEST)[..., None]

    def added(first: Any, count: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        wide = lax.dynamic_slice_in_dim(y, first, count).astype(jnp.float64)
        u = (wide - units.y_center) * (1 / units.y_scale)
        some, some_w = (lax.dynamic_slice_in_dim(a, first, count) for a in (weighted, w))
        product = lax.dot_general(some, u, by_rows, precision=lax.Precision.HIGHEST)
        return sums[0] + product, sums[1] + jnp.sum(some_w * u * u, axis=0)

    zero, rows = jnp.zeros_like(y[0], jnp.float64), min(ROWS, n)
    sums = zero + jnp.zeros_like(A[0]), zero
    sums = lax.fori_loop(0, n // rows, lambda i, sums: added(i * rows, rows, sums), sums)
    b, square = added(n - n % rows, n % rows, sums) if n % rows else sums
    return SharedSums(
        nobs=jnp.full((1,), n, jnp.float64),
        weight=A[0, 0],
        log_weight=None if weights is None else jnp.sum(jnp.log(w), axis=0),
        psi=A[1:, 0],
        u=b[0],
        gram=A[1:, 1:],
        cross=b[1:],
        square=square,
    )
