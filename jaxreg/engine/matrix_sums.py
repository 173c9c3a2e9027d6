"""Sums as matrix products, for data sets that share a design of several columns.

With ψ_i the rows of the design and m_ij = 1 where y_ij is valid, Σ_i m_ij ψ_i ψ_iᵀ of all data sets j is one
product: that of the k(k+1)/2 products of columns, which are shared, and the mask. At n = 300 and k = 8 it
takes 0.8 µs a data set in float64; row by row, 2 µs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine.products import over_row_tiles, product
from jaxreg.engine.rows import Rows
from jaxreg.engine.sums import Sums, SumScaling, augmented_row, augmented_size, columns_of
from jaxreg.gaps import is_valid

MIN_SIZE = 6  # entries of z; with fewer, sums row by row are faster


def applies(ansatz: Ansatz, x: Any, x_is_shared: bool) -> bool:
    """Whether the sums are computed as matrix products."""
    return x_is_shared and augmented_size(ansatz, x) >= MIN_SIZE


def matrix_sums(
    ansatz: Ansatz, scaling: SumScaling | None, x: Array, y: Array, weights: Array | None, *, rows: Rows
) -> Sums:
    """The same as `row_sums`, for an x that all data sets share.

    A data set gets NaN if one of its valid observations has an infinite x.
    """
    n, scaling = y.shape[0], not_none(scaling)
    columns = columns_of(ansatz, x, 1)
    *psi, _ = augmented_row(ansatz, scaling, columns, jnp.zeros_like(columns[0]))
    infinite, missing = jnp.isinf(x), jnp.isnan(x)
    if ansatz.x_is_vector:
        infinite, missing = infinite.any(axis=1), missing.any(axis=1)
    finite = ~(infinite | missing)
    design = jnp.stack([jnp.where(finite, a, 0).reshape(n) for a in (jnp.ones_like(psi[0]), *psi)])
    k = len(psi)
    i, j = np.tril_indices(k)
    design_and_products = jnp.concatenate([design, design[1 + i] * design[1 + j]])

    def step(tile: Callable[..., Array], totals: list[Array]) -> list[Array]:
        def total(rows: Array, a: Array) -> Array:
            return product(tile(rows, 1), a)

        y_tile, w = tile(y, fill=jnp.nan), None if weights is None else tile(weights)
        valid = is_valid([jnp.where(tile(missing), jnp.nan, 0.0)], y_tile, w)
        positive = (
            jnp.ones((), jnp.float64) if w is None else jnp.where(w > 0, w, jnp.nan).astype(jnp.float64)
        )
        mask = jnp.where(valid, jnp.where(tile(infinite), jnp.nan, positive), 0)
        y_scaled = (jnp.where(valid, y_tile, 0).astype(jnp.float64) - scaling.y_center) * (
            1 / scaling.y_scale
        )
        wy = mask * y_scaled
        terms = [total(design_and_products, mask), total(design, wy), total(design[:1], wy * y_scaled)]
        if w is not None:
            log_w = jnp.where(valid & (w > 0), jnp.log(positive), 0)
            terms += [total(design[:1], valid.astype(jnp.float64)), total(design[:1], log_w)]
        return [a + b for a, b in zip(totals, terms, strict=True)]

    zero = jnp.zeros_like(y[0], jnp.float64)
    zero = zero if weights is None else zero + jnp.zeros_like(weights[0], jnp.float64)
    lengths = [len(design_and_products), k + 1, 1] + ([] if weights is None else [1, 1])
    totals = [jnp.broadcast_to(zero, (length, *zero.shape)) for length in lengths]
    A, b, square, *weight_sums = over_row_tiles(n, rows, step, totals)
    weight = A[0]
    nobs, log_weight = (weight, None) if weights is None else (weight_sums[0][0], weight_sums[1][0])
    first = jnp.concatenate([A[1 : k + 1], b[:1]])
    second = jnp.concatenate([A[k + 1 :], b[1:], square])
    return Sums(nobs, weight, log_weight, first, second)
