"""Sums as matrix products, where all data sets share a design of several columns.

With ψ_i the rows of the design and m_ij = 1 where y_ij is valid, Σ_i m_ij ψ_i ψ_iᵀ for all data sets j is the
product of the k(k+1)/2 products of columns, the same for all, with the mask. At n = 300 and k = 8 that
takes 0.8 µs a data set in float64, row by row 2 µs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.cost import is_valid
from jaxreg.engine.products import over_chunks, product
from jaxreg.engine.rows import Rows
from jaxreg.engine.sums import Raw, Sums, columns_of, size, z_of

MIN_COLUMNS = 6  # z_i: of fewer, sums row by row are faster


def applies(ansatz: Ansatz, x: Any, x_is_shared: bool) -> bool:
    """Whether products are the way to the sums."""
    return x_is_shared and size(ansatz, x) >= MIN_COLUMNS


def matrix_sums(
    ansatz: Ansatz, raw: Raw | None, x: Array, y: Array, weights: Array | None, *, rows: Rows
) -> Sums:
    """What `row_sums` gives, of an x whose axes of the data sets have length 1.

    The data sets that see an infinite x get NaN.
    """
    n, units = y.shape[0], not_none(raw)
    columns = columns_of(ansatz, x, 1)
    *psi, _ = z_of(ansatz, raw, columns, jnp.zeros_like(columns[0]))
    infinite, missing = jnp.isinf(x), jnp.isnan(x)
    if ansatz.x_is_vector:
        infinite, missing = infinite.any(axis=1), missing.any(axis=1)
    seen = ~(infinite | missing)
    of_y = jnp.stack([jnp.where(seen, a, 0).reshape(n) for a in (jnp.ones_like(psi[0]), *psi)])
    k = len(psi)
    i, j = np.tril_indices(k)
    of_x = jnp.concatenate([of_y, of_y[1 + i] * of_y[1 + j]])

    def add(some: Callable[..., Array], totals: list[Array]) -> list[Array]:
        def total(design: Array, a: Array) -> Array:
            return product(some(design, 1), a)

        some_y, w = some(y, fill=jnp.nan), None if weights is None else some(weights)
        valid = is_valid([jnp.where(some(missing), jnp.nan, 0.0)], some_y, w)
        wide = jnp.ones((), jnp.float64) if w is None else jnp.where(w > 0, w, jnp.nan).astype(jnp.float64)
        mask = jnp.where(valid, jnp.where(some(infinite), jnp.nan, wide), 0)
        u = (jnp.where(valid, some_y, 0).astype(jnp.float64) - units.y_center) * (1 / units.y_scale)
        wu = mask * u
        new = [total(of_x, mask), total(of_y, wu), total(of_y[:1], wu * u)]
        if w is not None:
            log_w = jnp.where(valid & (w > 0), jnp.log(wide), 0)
            new += [total(of_y[:1], valid.astype(jnp.float64)), total(of_y[:1], log_w)]
        return [a + b for a, b in zip(totals, new, strict=True)]

    zero = jnp.zeros_like(y[0], jnp.float64)
    zero = zero if weights is None else zero + jnp.zeros_like(weights[0], jnp.float64)
    lengths = [len(of_x), k + 1, 1] + ([] if weights is None else [1, 1])
    totals = [jnp.broadcast_to(zero, (length, *zero.shape)) for length in lengths]
    totals = over_chunks(n, rows, add, totals)
    A, b, square, *of_weights = totals
    weight = A[0]
    nobs, log_weight = (weight, None) if weights is None else (of_weights[0][0], of_weights[1][0])
    first = jnp.concatenate([A[1 : k + 1], b[:1]])
    second = jnp.concatenate([A[k + 1 :], b[1:], square])
    return Sums(nobs, weight, log_weight, first, second)
