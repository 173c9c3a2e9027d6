"""The numbers of each data set from which all results are computed, in the dtype of the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

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

MIN_TERMS = 2.0**24  # times the smallest normal number: sums of smaller terms have no correct digits


class Exact(NamedTuple):
    """Coefs and their covariance in float64, not yet rounded to the dtype of the data.

    Attributes:
        coefs: c in units of y, (p, *batch).
        unit_cov: ⟨ψψᵀ⟩⁻¹, the lower triangle row by row.
    """

    coefs: Array
    unit_cov: Array


@pytree
class Estimate:
    """The turning point of each data set and what its inference needs.

    The basis is that of t = (x − x_origin − x_center) / x_scale, and f = y_origin + Σ c_k ψ_k(t). Where the
    status is one without params, only nobs, status and digits have a meaning.

    Attributes:
        params: θ, (p, *batch).
        bse: standard errors, (p, *batch).
        nobs: number of valid observations, (*batch); Σ λ^age of a stream that forgets.
        status: a `Status` code, (*batch).
        digits: number of correct decimal digits of the least accurate param, (*batch).
        coefs: c in units of y, (p, *batch).
        unit_cov: cov c df_resid / residual², or relative to `dispersion`, the lower triangle row by row,
            (p (p + 1) / 2, *batch).
            Complete data sets on a shared design of many columns share one read-only array.
        x_center: (*batch), or (k, *batch) where x is a vector.
        x_scale: the same.
        residual: √(Σ w ε² / Σ w), (*batch).
        explained: root of the reduction of the mean squared error relative to the intercept-only model (to
            f = 0 without an intercept); negative if it is increased, by the minimum of another cost,
            (*batch).
        y_mean: ⟨y⟩, (*batch); None without an intercept.
        y_deviation: √⟨(y − ⟨y⟩)²⟩, (*batch); None with an intercept.
        root_weight: √Σ w, (*batch), also without params; None without weights.
        log_weight: Σ log w, (*batch); None without weights.
        cost: S(θ), (*batch); None for the mean squared error.
        dispersion: cov c is unit_cov times this, (*batch); None for residual² / df_resid.
        deviance: of a likelihood, (*batch), or None.
        pearson_chi2: the same.
        llf: its logarithm, the same.
        error_scale: scale of the residuals of a robust cost, (*batch), or None.
        alpha: strength of the penalty of a ridge regression, (*batch), or None.
        effective_dof: the trace of its hat matrix, the same.
        groups: number of clusters with valid observations, (*batch), or None.
        x_origin: subtracted from integer x before its conversion to floats, shaped as x_center, or None.
        y_origin: the same of y, (*batch), or None.
    """

    params: Float[Array, "p *batch"]
    bse: Float[Array, "p *batch"]
    nobs: Int[Array, "*batch"] | Float[Array, "*batch"]
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
    dispersion: Float[Array, "*batch"] | None = None
    deviance: Float[Array, "*batch"] | None = None
    pearson_chi2: Float[Array, "*batch"] | None = None
    llf: Float[Array, "*batch"] | None = None
    error_scale: Float[Array, "*batch"] | None = None
    alpha: Float[Array, "*batch"] | None = None
    effective_dof: Float[Array, "*batch"] | None = None
    groups: Int[Array, "*batch"] | None = None
    x_origin: Float[Array, "*columns_and_batch"] | None = None
    y_origin: Float[Array, "*batch"] | None = None


def estimate_of(
    ansatz: Ansatz,
    point: TurningPoint,
    sums: Sums | SharedSums,
    solver_status: Array | Status,
    dtype: np.dtype,
) -> tuple[Estimate, Exact]:
    """The estimate at a point, rounded to the dtype of the data, and its coefs and covariance in float64."""
    nobs = sums.nobs + jnp.zeros_like(point.unexplained)  # a solver may add batch axes to the point
    df = nobs - len(point.params)
    deviation = point.y_unit * jnp.sqrt(jnp.where(df > 0, point.unexplained / jnp.maximum(df, 1), jnp.nan))
    bse = elementwise(lambda a: a * deviation, point.unit_deviations)
    status = _status(point, nobs, solver_status, bse, dtype)
    solved = sum((status == s for s in Status if s.has_params), jnp.zeros((), bool))
    zero_or_nan = jnp.sqrt(jnp.where(solved, 0.0, -1.0))  # a root, since XLA stores roots

    def nan_if_failed(a: Array) -> Array:
        return (a + zero_or_nan).astype(dtype)

    is_shared = isinstance(sums, SharedSums)

    def from_columns(arrays: list[Array]) -> Array:
        columns = [(a if is_shared else jnp.broadcast_to(a, nobs.shape)).astype(dtype) for a in arrays]
        return jnp.stack(columns) if ansatz.x_is_vector else columns[0]

    has_weights = sums.log_weight is not None
    weight = jnp.where((nobs > 0) & point.finite, sums.weight, jnp.nan)  # a penalized fit may have params
    exact = Exact(_stack(prepend(point.c0, point.coefs)), _unit_cov(ansatz, point))
    estimate = Estimate(
        params=nan_if_failed(_stack(point.params)),
        bse=nan_if_failed(_stack(bse)),
        nobs=nobs.astype(jnp.int32),
        status=status,
        digits=_digits(point, solved, dtype),
        coefs=nan_if_failed(exact.coefs),
        unit_cov=exact.unit_cov.astype(dtype) if is_shared else nan_if_failed(exact.unit_cov),
        x_center=from_columns(point.x_center),
        x_scale=from_columns(point.x_scale),
        residual=nan_if_failed(point.y_unit * jnp.sqrt(point.unexplained)),
        explained=nan_if_failed(
            point.y_unit * jnp.sign(point.explained) * jnp.sqrt(jnp.abs(point.explained))
        ),
        y_mean=nan_if_failed(point.y_unit * point.y_mean) if ansatz.has_intercept else None,
        y_deviation=None
        if ansatz.has_intercept
        else nan_if_failed(point.y_unit * jnp.sqrt(jnp.maximum(point.y_variance, 0))),
        root_weight=jnp.sqrt(weight).astype(dtype) if has_weights else None,
        log_weight=nan_if_failed(not_none(sums.log_weight)) if has_weights else None,
    )
    return estimate, exact


def without_squares(estimate: Estimate) -> Estimate:
    """The estimate with NaN for sums of squares about f, which is not the mean of y."""
    xp: Any = np if isinstance(estimate.residual, np.ndarray) else jnp
    missing = xp.full_like(estimate.residual, xp.nan)
    return replace(estimate, residual=missing, explained=missing)


def _stack(v: Vector) -> Array:
    return jnp.stack(v) if isinstance(v, list) else v


def _unit_cov(ansatz: Ansatz, point: TurningPoint) -> Array:
    """⟨ψ ψᵀ⟩⁻¹ with the constant, from V = ⟨ψ ψᵀ⟩⁻¹ about the means m: [[1 + mᵀVm, −mᵀV], [−Vm, V]]."""
    V_rows = point.inverse.lower
    if not ansatz.has_intercept:
        return jnp.concatenate(V_rows)
    if not point.inverse.k:
        return jnp.ones_like(point.unexplained)[None]
    Vm = point.inverse.times(point.offsets)
    corner = 1 + dot(Vm, point.offsets)
    rows = iter(V_rows)
    lower = [corner[None]]
    for i in range(point.inverse.k):
        lower.append(-Vm[i][None])
        lower += [next(rows) for _ in range(i + 1 if point.inverse.is_list else 1)]
    return jnp.concatenate(lower)


def _status(
    point: TurningPoint, nobs: Array, solver_status: Array | Status, bse: Vector, dtype: np.dtype
) -> Array:
    """The status of each data set; of several failures the most basic one, which is checked last."""
    p = len(point.params)
    status = jnp.where((solver_status == Status.ok) & (nobs == p), Status.exact_fit, solver_status)
    in_range = _in_range(point, bse, dtype) | (solver_status == Status.diverged)
    status = jnp.where(in_range, status, Status.out_of_range)
    status = jnp.where(point.full_rank, status, Status.rank_deficient)
    status = jnp.where(nobs < p, Status.too_few_observations, status)
    status = jnp.where(nobs == 0, Status.no_observations, status)
    return jnp.where(point.finite, status, Status.invalid_data).astype(jnp.int8)


def _in_range(point: TurningPoint, bse: Vector, dtype: np.dtype) -> Array:
    """Whether params and their errors neither overflow nor underflow in this dtype; a param may be 0."""
    info = jnp.finfo(dtype)
    max_float, min_normal = float(info.max), float(info.tiny)

    def in_range(theta: Array, terms: Array, error: Array) -> Array:
        size = jnp.maximum(terms, jnp.where(jnp.isnan(error), 0, error))
        no_underflow = (size == 0) | (jnp.abs(theta) >= min_normal) | (size >= MIN_TERMS * min_normal)
        return (jnp.abs(theta) <= max_float) & ~(error > max_float) & no_underflow

    return all_true(elementwise(in_range, point.params, point.param_terms, bse))


def _digits(point: TurningPoint, solved: Array, dtype: np.dtype) -> Array:
    """−log₁₀ of a bound of the largest relative error of the params, rounded down."""
    relative = elementwise(lambda t, e: jnp.where(e > 0, e / jnp.abs(t), 0), point.params, point.param_errors)
    bound = largest(relative) + float(jnp.finfo(dtype).eps) / 2
    has_digits = solved & (bound < 1)  # not for NaN and infinity
    return jnp.where(has_digits, jnp.floor(-jnp.log10(jnp.where(has_digits, bound, 1))), 0).astype(jnp.int8)
