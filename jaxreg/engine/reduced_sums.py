"""The sums of `row_sums` as one reduction, for NVIDIA GPUs.

Whatever several sums have in common, first of all the mask, XLA would store between two kernels; each sum
therefore compares with an infinity of its own. Compiled for an H200, the sums of a line move 1.05 times the
data, and those of `row_sums` 1.5 to 2 times.
"""

from __future__ import annotations

from functools import reduce
from operator import add, mul
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine.reduction import MAX_SUMS, SomeRows, reduce_rows
from jaxreg.engine.row_sums import FLOAT32_FACTORS
from jaxreg.engine.sums import Sums, SumScaling, augmented_row, augmented_size, columns_of

MAX_OWN = 4  # entries of z if data sets have their own x: for more, masks would be stored


class Own(NamedTuple):
    """x, y and weights as for `row_sums`; None where all data sets share them, or without weights."""

    x: Array | None
    y: Array
    weights: Array | None


class Shared(NamedTuple):
    """What follows from x and weights that all data sets share, (n, …, *batch) in float64, or None.

    Attributes:
        design: ψ without its constant, and the lower triangle of ψψᵀ.
        weights: w and log₂ w.
    """

    design: Array | None
    weights: Array | None


def applies(ansatz: Ansatz, x: Array, y: Array, weights: Array | None) -> bool:
    """Whether XLA makes one kernel of the sums; those of a constant alone have no design."""
    if augmented_size(ansatz, x) == 1:
        return False
    if _is_shared(x, y):
        return _number_of_sums(ansatz, x, weights) <= MAX_SUMS
    return ansatz.basis_is_x and augmented_size(ansatz, x) <= MAX_OWN


def _number_of_sums(ansatz: Ansatz, x: Array, weights: Array | None) -> int:
    q = augmented_size(ansatz, x)
    return 1 + q * (q + 3) // 2 + (0 if weights is None else 2)


def _is_shared(a: Array, y: Array) -> bool:
    return all(length == 1 for length in a.shape[a.ndim - (y.ndim - 1) :])


def reduced_sums(
    ansatz: Ansatz, scaling: SumScaling | None, x: Array, y: Array, weights: Array | None
) -> Sums:
    """The same as `row_sums`."""
    q, count = augmented_size(ansatz, x), _number_of_sums(ansatz, x, weights)
    own, shared, seen = _split(ansatz, scaling, x, y, weights)
    at_once = FLOAT32_FACTORS if y.dtype == jnp.float32 else 1
    # XLA knows a constant infinity, and that comparisons with it are one.
    infinity, zero = lax.optimization_barrier((jnp.full(count, jnp.inf, y.dtype), jnp.zeros(count, y.dtype)))

    def mask(own: Own, is_summed: Array | None, i: int) -> Array:
        columns = [] if own.x is None else columns_of(ansatz, own.x, 1)
        return _is_valid(columns, own, is_summed, infinity[i], zero[i])

    def element(several: list[SomeRows]) -> list[Array]:
        sums, logs = [], []
        for own, shared, is_summed in several:
            terms = enumerate(_terms(ansatz, scaling, own, shared))
            sums.append([jnp.where(mask(own, is_summed, i), a, 0) for i, a in terms])
            if own.weights is not None:
                logs.append(_factor(mask(own, is_summed, count - 1), own.weights))
        total = [reduce(add, terms) for terms in zip(*sums, strict=True)]
        return [*total, _log2_product(logs, at_once)] if logs else total

    nobs, *sums = reduce_rows(own, shared, seen, len(y), count, element)
    nobs = nobs.astype(jnp.float64)
    if weights is None:
        return Sums(nobs, nobs, None, sums[:q], sums[q:])
    weight, *sums, log2_weight = sums
    weight = jnp.where(jnp.isnan(log2_weight), jnp.nan, weight)  # a weight is negative
    return Sums(nobs, weight, log2_weight * np.log(2), sums[:q], sums[q:])


def _split(
    ansatz: Ansatz, scaling: SumScaling | None, x: Array, y: Array, weights: Array | None
) -> tuple[Own, Shared, Array | None]:
    """What the data sets have of their own, what they share, and where that is there."""
    own, shared, seen = Own(x, y, weights), Shared(None, None), []
    if _is_shared(x, y):
        own = own._replace(x=None)
        shared = shared._replace(design=jnp.stack(_design(ansatz, scaling, x), axis=1))
        seen += [~jnp.isnan(column) for column in columns_of(ansatz, x, 1)]
    if weights is not None and _is_shared(weights, y):
        w = jnp.where(weights < 0, jnp.nan, weights).astype(jnp.float64)
        own = own._replace(weights=None)
        shared = shared._replace(weights=jnp.stack([w, jnp.log2(w)], axis=1))
        seen.append(weights != 0)
    return own, shared, reduce(jnp.logical_and, seen) if seen else None


def _design(ansatz: Ansatz, scaling: SumScaling | None, x: Array) -> list[Array]:
    """ψ without its constant, and the lower triangle of ψψᵀ."""
    columns = columns_of(ansatz, x, 1)
    *psi, _ = augmented_row(ansatz, scaling, columns, jnp.zeros_like(columns[0]))
    return [*psi, *(a * b for i, a in enumerate(psi) for b in psi[: i + 1])]


def _is_valid(columns: list[Array], own: Own, is_summed: Array | None, infinity: Array, zero: Array) -> Array:
    """Whether an observation is valid; NaN is not even less than infinity."""
    valid = abs(own.y) <= infinity
    for column in columns:
        valid &= abs(column) <= infinity
    if own.weights is not None:
        valid &= own.weights != zero
    return valid if is_summed is None else valid & is_summed.reshape(-1, *(1,) * (valid.ndim - 1))


def _terms(ansatz: Ansatz, scaling: SumScaling | None, own: Own, shared: Shared) -> list[Array]:
    """1, w if given, w z, the lower triangle of w z zᵀ, and log₂ w if it is shared."""
    if own.x is None:
        design = list(jnp.moveaxis(not_none(shared.design), 1, 0))
    else:
        design = _design(ansatz, scaling, own.x)
    u = own.y.astype(jnp.float64)
    u = u if scaling is None else (u - scaling.y_center) * (1 / scaling.y_scale)
    k = int(np.sqrt(2 * len(design) + 2.25) - 1.5)  # k + k (k + 1) / 2 of them
    z, products = [*design[:k], u], design[k:]
    sums = [*z, *products, *(a * u for a in z)]
    if own.weights is not None:
        weight = own.weights.astype(jnp.float64)
        return [jnp.int32(1), weight, *(weight * a for a in sums)]
    if shared.weights is not None:
        weight, log2_weight = shared.weights[:, 0], shared.weights[:, 1]
        return [jnp.int32(1), weight, *(weight * a for a in sums), log2_weight]
    return [jnp.int32(1), *sums]


def _factor(valid: Array, w: Array) -> Array:
    """A weight, NaN if it is negative; 1 for a gap."""
    return jnp.where(valid, jnp.where(w < 0, jnp.nan, w.astype(jnp.float64)), 1)


def _log2_product(factors: list[Array], at_once: int) -> Array:
    """log₂ of the product, `at_once` of them in plain float64."""
    parts = [reduce(mul, factors[i : i + at_once]) for i in range(0, len(factors), at_once)]
    return reduce(add, map(jnp.log2, parts))
