"""What is kept of each data set: the numbers that results are made of, in the dtype of the data."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, Float, Int, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine.shared_sums import SharedSums
from jaxreg.engine.sums import Sums
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.vectors import Vector, all_true, dot, elementwise, largest, prepend
from jaxreg.status import Status

MIN_TERMS = 2.0**24  # of the smallest normal number: below, what a param is the sum of has no digits


class Exact(NamedTuple):
    """Coefs and their covariance in float64, before they are rounded to the dtype of the data.

    Attributes:
        coefs: c in units of y, (p, *batch).
        unit_cov: ⟨ψψᵀ⟩⁻¹, the lower triangle row by row.
    """

    coefs: Array
    unit_cov: Array


@pytree
class Estimate:
    """The turning point of each data set and what its inference needs.

    The basis is that of t = (x − x_origin − x_center) / x_scale and f = y_origin + Σ c_k ψ_k(t). All but
    the first five mean something where the status is one with params; elsewhere they are NaN.

    Attributes:
        params: θ, (p, *batch).
        bse: standard errors, (p, *batch).
        nobs: how many observations are valid, (*batch).
        status: a `Status` code, (*batch).
        digits: decimal digits of every param that are right, (*batch).
        coefs: c in units of y, (p, *batch).
        unit_cov: cov c df_resid / residual², the lower triangle row by row, (p (p + 1) / 2, *batch).
            For complete data sets on one design of many columns it is one array that all see, to be read.
        x_center: (*batch), or (k, *batch) where x is a vector.
        x_scale: the same.
        residual: √(Σ w ε² / Σ w), (*batch).
        explained: the root of what Σ w y² / Σ w is lowered by, about the mean if there is an intercept;
            negative where a cost of another kind has raised it, (*batch).
        y_mean: ⟨y⟩ where there is an intercept, (*batch); else None.
        y_deviation: √⟨(y − ⟨y⟩)²⟩ where there is no intercept, (*batch); else None.
        root_weight: √Σ w, (*batch); None without weights.
        log_weight: Σ log w, (*batch); None without weights.
        cost: S(θ), (*batch); None for the mean squared error.
        groups: how many clusters have valid observations, (*batch), or None.
        x_origin: what was taken out of integers, as x_center, or None.
        y_origin: the same, (*batch), or None.
    """

    params: Float[Array, "p *batch"]
    bse: Float[Array, "p *batch"]
    nobs: Int[Array, "*batch"]
    status: Int[Array, "*batch"]
    digits: Int[Array, "*batch"]
    coefs: Float[Array, "p *batch"]
    unit_cov: Float[Array, "triangle *#batch"]
    x_center: Float[Array, "*columns_and_batch"]
    x_scale: Float[Array, "*columns_and_batch"]
    residual: Float[Array, "*batch"]
    explained: Float[Array, "*batch"]
    y_mean: Float[Array, "*batch"] | None = None
    y_deviation: Float[Array, "*batch"] | None = None
    root_weight: Float[Array, "*batch"] | None = None
    log_weight: Float[Array, "*batch"] | None = None
    cost: Float[Array, "*batch"] | None = None
    groups: Int[Array, "*batch"] | None = None
    x_origin: Float[Array, "*columns_and_batch"] | None = None
    y_origin: Float[Array, "*batch"] | None = None


def estimate_of(
    ansatz: Ansatz, point: TurningPoint, sums: Sums | SharedSums, end: Array | Status, dtype: np.dtype
) -> tuple[Estimate, Exact]:
    """Rounded to the dtype of the data, with NaN where nothing is known; and to more digits."""
    nobs = sums.nobs + jnp.zeros_like(
        point.unexplained
    )  # of every data set, if a solver has several for each
    df = nobs - len(point.params)
    deviation = point.y_unit * jnp.sqrt(jnp.where(df > 0, point.unexplained / jnp.maximum(df, 1), jnp.nan))
    bse = elementwise(lambda a: a * deviation, point.unit_deviations)
    code = _status(point, nobs, end, bse, dtype)
    solved = sum((code == s for s in Status if s.has_params), jnp.zeros((), bool))
    nothing = jnp.sqrt(jnp.where(solved, 0.0, -1.0))  # 0 or NaN, a root: XLA stores it for those that read it

    def kept(a: Array) -> Array:
        return (a + nothing).astype(dtype)

    is_shared = isinstance(sums, SharedSums)

    def of_columns(arrays: list[Array]) -> Array:
        columns = [(a if is_shared else jnp.broadcast_to(a, nobs.shape)).astype(dtype) for a in arrays]
        return jnp.stack(columns) if ansatz.x_is_vector else columns[0]

    weighted = sums.log_weight is not None
    exact = Exact(_array(prepend(point.c0, point.coefs)), _unit_cov(ansatz, point))
    found = Estimate(
        params=kept(_array(point.params)),
        bse=kept(_array(bse)),
        nobs=nobs.astype(jnp.int32),
        status=code,
        digits=_digits(point, solved, dtype),
        coefs=kept(exact.coefs),
        unit_cov=exact.unit_cov.astype(dtype) if is_shared else kept(exact.unit_cov),
        x_center=of_columns(point.x_center),
        x_scale=of_columns(point.x_scale),
        residual=kept(point.y_unit * jnp.sqrt(point.unexplained)),
        explained=kept(point.y_unit * jnp.sign(point.explained) * jnp.sqrt(jnp.abs(point.explained))),
        y_mean=kept(point.y_unit * point.y_mean) if ansatz.has_intercept else None,
        y_deviation=None
        if ansatz.has_intercept
        else kept(point.y_unit * jnp.sqrt(jnp.maximum(point.y_variance, 0))),
        root_weight=kept(jnp.sqrt(sums.weight)) if weighted else None,
        log_weight=kept(not_none(sums.log_weight)) if weighted else None,
    )
    return found, exact


def _array(v: Vector) -> Array:
    return jnp.stack(v) if isinstance(v, list) else v


def _unit_cov(ansatz: Ansatz, point: TurningPoint) -> Array:
    """⟨ψ ψᵀ⟩⁻¹ with the constant, which takes up the offsets from the means: the lower triangle."""
    behind = point.inverse.lower
    if not ansatz.has_intercept:
        return jnp.concatenate(behind)
    if not point.inverse.k:
        return jnp.ones_like(point.unexplained)[None]
    first = point.inverse.times(point.offsets)
    constant = 1 + dot(first, point.offsets)
    rows = iter(behind)
    lower = [constant[None]]
    for i in range(point.inverse.k):
        lower.append(-first[i][None])
        lower += [next(rows) for _ in range(i + 1 if point.inverse.is_list else 1)]
    return jnp.concatenate(lower)


def _status(point: TurningPoint, nobs: Array, end: Array | Status, bse: Vector, dtype: np.dtype) -> Array:
    """What became of each data set; what stands later is the more basic trouble and wins."""
    p = len(point.params)
    code = jnp.where((end == Status.ok) & (nobs == p), Status.exact_fit, end)
    code = jnp.where(_in_range(point, bse, dtype) | (end == Status.diverged), code, Status.out_of_range)
    code = jnp.where(point.full_rank, code, Status.rank_deficient)
    code = jnp.where(nobs < p, Status.too_few_observations, code)
    code = jnp.where(nobs == 0, Status.no_observations, code)
    return jnp.where(point.finite, code, Status.invalid_data).astype(jnp.int8)


def _in_range(point: TurningPoint, bse: Vector, dtype: np.dtype) -> Array:
    """Whether params and their errors have digits in this dtype; a param may be 0 by chance."""
    info = jnp.finfo(dtype)
    largest, least = float(info.max), float(info.tiny)

    def inside(theta: Array, terms: Array, error: Array) -> Array:
        noticed = jnp.maximum(terms, jnp.where(jnp.isnan(error), 0, error))
        small = (noticed == 0) | (jnp.abs(theta) >= least) | (noticed >= MIN_TERMS * least)
        return (jnp.abs(theta) <= largest) & ~(error > largest) & small

    return all_true(elementwise(inside, point.params, point.param_terms, bse))


def _digits(point: TurningPoint, solved: Array, dtype: np.dtype) -> Array:
    """−log₁₀ of a bound of the largest relative error of the params, rounded down."""
    relative = elementwise(lambda t, e: jnp.where(e > 0, e / jnp.abs(t), 0), point.params, point.param_errors)
    bound = largest(relative) + float(jnp.finfo(dtype).eps) / 2
    known = solved & (bound < 1)  # NaN and infinity: none
    return jnp.where(known, jnp.floor(-jnp.log10(jnp.where(known, bound, 1))), 0).astype(jnp.int8)
