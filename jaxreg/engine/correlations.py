"""Partial correlations of all columns of x with all columns of y, and which pairs are worth a second look.

The products are in float32 with bounds of their errors: no pair that should be kept is left out, and those
that are taken are computed again in float64.

With x and y projected onto the complement of (1, covariates), of norm 1, r = xᵀ y. With gaps in y alone, of
mask w and basis Q of the covariates in its rows, r = xᵀ y / √(Σ w x² − |Qᵀ x|²). With gaps in both, the Gram
matrix of (covariates, x, y) in the common rows is eliminated.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, Bool, Float, Int
from jaxreg.numerics.precision import float64
from jaxreg.numerics.pytrees import pytree, static

UNIT = 2.0**-24  # the relative error of an operation in float32
UNCERTAIN_PIVOT = 1e-6  # of the Gram matrix, below which too many digits are lost
DEPENDENT_PIVOT = 1e-13  # that is 0 up to rounding


@pytree
class Group:
    """Columns of x or of y, all with gaps or all without, padded with zeros.

    Attributes:
        values: what (1, covariates) do not explain, of norm 1, 0 in gaps, (n, b).
        pattern: which pattern of gaps each column has, (b,).
        masks: 1 in the valid rows of each pattern, (n, P).
        bases: orthonormal bases of (1, covariates) in the valid rows, (n, q, P).
        df: degrees of freedom of each pattern, (P,).
        basis: the basis of (1, covariates) in all rows, (n, q).
        has_gaps: whether the columns have gaps.
    """

    values: Float[Array, "n b"]
    pattern: Int[Array, "b"]
    masks: Float[Array, "n P"]
    bases: Float[Array, "n q P"]
    df: Int[Array, "P"]
    basis: Float[Array, "n q"]
    has_gaps: bool = static()


class Bounds(NamedTuple):
    """Bounds of |r|, (k, m), and degrees of freedom, which broadcast with them."""

    lower: Array
    upper: Array
    df: Array


@jax.jit
def above(x: Group, y: Group, least: Float[Array, "n"]) -> Bool[Array, "k m"]:
    """The pairs with |r| ≥ least[df], up to rounding."""
    _, upper, df = _bounds(x, y)
    return upper >= least[jnp.maximum(df, 0)]


@jax.jit
def best(x: Group, y: Group, score: Float[Array, "m"]) -> tuple[Array, Array, Bool[Array, "k m"]]:
    """The pairs that may have the smallest p-value of their y.

    Args:
        x: columns.
        y: columns.
        score: of the best x so far, 0 where there is none.

    Returns:
        The new scores, upper bounds of the scores of these x, and the pairs.

    Pairs of different degrees of freedom are compared by Wallace's normal deviate of Student's t, whose
    relative error is below 1/(4 df): z = (8 df + 1) / (8 df + 3) · √(−df log(1 − r²)).
    """
    lower, upper, df = _bounds(x, y)
    df = jnp.maximum(df, 0).astype(jnp.float32)
    if df.shape[0] == 1:  # the largest |r| is the best
        upper_of_y = _maximum(upper)
        lower = _maximum(lower) if y.has_gaps else _lower(upper_of_y - _error(x), x)
    else:
        upper_of_y = upper
    score = jnp.maximum(score, _maximum(_factor(df, -1) * _deviate(lower))[0])
    limit = _maximum(jnp.where(df > 0, _factor(df, 1) * _deviate(upper_of_y), 0))[0]
    least = _inverse_deviate(score / jnp.maximum(_factor(df, 1), UNIT))
    return score, limit, (upper >= least - 4 * UNIT) & (df > 0)


def _maximum(a: Float[Array, "k m"]) -> Float[Array, "1 m"]:
    """Of each column, for k a power of two: XLA reduces rows on the CPU one column after the other."""
    while a.shape[0] > 1:
        parts = jnp.split(a, min(8, a.shape[0]))
        a = lax.optimization_barrier(reduce(jnp.maximum, parts))
    return a


def _factor(df: Array, sign: int) -> Array:
    """Of Wallace's deviate, with the bound of its error."""
    return jnp.sqrt(df) * (8 * df + 1) / (8 * df + 3) * (1 + sign * 0.25 / jnp.maximum(df, 1))


def _deviate(r: Array) -> Array:
    return jnp.sqrt(-jnp.log1p(-jnp.square(jnp.minimum(r, 1))))


def _inverse_deviate(z: Array) -> Array:
    return jnp.sqrt(-jnp.expm1(-jnp.square(z)))


def _bounds(x: Group, y: Group) -> Bounds:
    if x.has_gaps and y.has_gaps:
        return _with_gaps_in_both(x, y)
    if y.has_gaps:
        return _with_gaps_in_y(x, y)
    if x.has_gaps:
        lower, upper, df = _with_gaps_in_y(y, x)
        return Bounds(lower.T, upper.T, df.T)
    r = jnp.abs(_product(x.values.T, y.values))
    return Bounds(_lower(r, x), r + _error(x), y.df[:1, None])


def _with_gaps_in_y(x: Group, y: Group) -> Bounds:
    transposed = x.values.T

    def without(j: Any, square: Array) -> Array:
        return square - jnp.square(_product(transposed, y.bases[:, j]))

    square = _product(jnp.square(transposed), y.masks)
    square = lax.fori_loop(0, y.bases.shape[1], without, square)[:, y.pattern]
    error = jnp.float32(_error(x) * 2)
    return _quotient(_product(transposed, y.values), square, error, y.df[y.pattern][None])


def _with_gaps_in_both(x: Group, y: Group) -> Bounds:
    with float64():
        xx, xy, yy, rank, smallest = _eliminated(x, y)
        error = jnp.float64(_error(x) + 1e-8)
        nobs = _product(x.masks.T, y.masks)[x.pattern][:, y.pattern]
        df = jnp.round(nobs).astype(jnp.int32) - rank - 1
        lower, upper, _ = _quotient(xy, xx * yy, error, df)
        certain = smallest > UNCERTAIN_PIVOT
        lower, upper = jnp.where(certain, lower, 0), jnp.where(certain, upper, jnp.inf)
        return Bounds(lower.astype(jnp.float32), upper.astype(jnp.float32), df)


def _eliminated(x: Group, y: Group) -> tuple[Array, Array, Array, Array, Array]:
    """x², x y, y² without what (1, covariates) explain in the common rows; the rank; the smallest pivot."""
    x_values, y_values, basis = (a.astype(jnp.float64) for a in (x.values, y.values, x.basis))
    x_masks = x.masks.astype(jnp.float64)[:, x.pattern]
    y_masks = y.masks.astype(jnp.float64)[:, y.pattern]
    q = basis.shape[1]
    left = [x_masks * basis[:, j, None] for j in range(q)] + [x_values]
    right = [y_masks * basis[:, j, None] for j in range(q)] + [y_values]
    G = jnp.einsum("ank,bnm->abkm", jnp.stack(left), jnp.stack(right), precision=lax.Precision.HIGHEST)
    xx, yy = _product(jnp.square(x_values).T, y_masks), _product(x_masks.T, jnp.square(y_values))

    def eliminate(j: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        G, xx, yy, rank, smallest = state
        pivot = G[j, j]
        independent = pivot > DEPENDENT_PIVOT
        inverse = jnp.where(independent, 1 / jnp.where(independent, pivot, 1), 0)
        row, column = G[q, j], G[j, q]
        xx, yy = xx - jnp.square(row) * inverse, yy - jnp.square(column) * inverse
        G = G - G[:, j, None] * G[None, j] * inverse
        smallest = jnp.where(independent, jnp.minimum(smallest, pivot), smallest)
        return G, xx, yy, rank + independent, smallest

    state = (G, xx, yy, jnp.zeros(xx.shape, jnp.int32), jnp.ones_like(xx))
    G, xx, yy, rank, smallest = lax.fori_loop(0, q, eliminate, state)
    return xx, G[q, q], yy, rank, smallest


def _quotient(product: Array, square: Array, error: Array, df: Array) -> Bounds:
    """Bounds of |product| / √square."""
    product, one = jnp.abs(product), 1 - 8 * UNIT
    lower = jnp.maximum(product - error, 0) / jnp.sqrt(jnp.maximum(square, 0) + error)
    certain = square > 2 * error
    upper = (product + error) / jnp.sqrt(jnp.where(certain, square - error, 1))
    return Bounds(jnp.minimum(lower, one), jnp.where(certain, upper, jnp.inf), df)


def _lower(r: Array, x: Group) -> Array:
    return jnp.clip(r - _error(x), 0, 1 - 8 * UNIT)


def _error(x: Group) -> float:
    """A bound of the rounding error of a sum of n products of norm 1, which grows as √n."""
    return (8 * x.values.shape[0] ** 0.5 + 16) * UNIT


_product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
