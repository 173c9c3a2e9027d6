"""Sums of data sets without gaps on a design that all share, whose part of the work is done once.

Σ w ψψᵀ is the same for all, Σ w ψ y is one matrix product and A⁻¹ one small matrix: at n = 300 and p = 32 a
data set takes 30 times less than with sums and normal equations of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine.products import over_chunks, product
from jaxreg.engine.rows import Rows
from jaxreg.engine.sums import Raw, columns_of, z_of


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


def shared_sums(
    ansatz: Ansatz, raw: Raw | None, x: Array, y: Array, weights: Array | None, *, rows: Rows
) -> SharedSums:
    """The sums of y, (n, m), over all of its rows, with x and weights that are finite and there."""
    units, n = not_none(raw), y.shape[0]
    columns = columns_of(ansatz, x, 1)
    *psi, _ = z_of(ansatz, units, columns, jnp.zeros_like(columns[0]))
    one = jnp.ones((n, 1))
    w = one if weights is None else weights.astype(jnp.float64)
    design = jnp.concatenate([one, *psi], axis=1)
    weighted, q = (w * design).T, design.shape[1]

    def added(some: Callable[..., Array], sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        A, b, square = sums
        weighted_x = some(weighted, 1)
        u = (some(y).astype(jnp.float64) - units.y_center) * (1 / units.y_scale)
        square = square + jnp.sum(some(w) * u * u, axis=0)
        return A + product(weighted_x, some(design)), b + product(weighted_x, u), square

    zero = jnp.zeros_like(y[0], jnp.float64)
    sums = jnp.zeros((q, q)) + jnp.zeros_like(weighted[0, 0]), jnp.zeros((q, 1)) + zero, zero
    A, b, square = over_chunks(n, rows, added, sums)
    A = A[..., None]
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
