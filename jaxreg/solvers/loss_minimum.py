"""The turning point of a cost that is the mean of a loss, from the least-squares solution of each data set.

It works with coefs c in the basis of least squares, f = Σ c_k ψ_k(t), in float64.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.costs.ridge import Penalized
from jaxreg.costs.robust import MEDIAN_OF_NORMAL
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.features import deviation, feature_rows, params_of
from jaxreg.engine.loss_sums import (
    MIN_PRODUCTS,
    Data,
    Local,
    LossSums,
    Terms,
    shared_scaling,
    symmetric_from_lower,
)
from jaxreg.engine.normal_equations import solve
from jaxreg.engine.rows import ROWS, Rows
from jaxreg.engine.sandwich import Covariance, with_errors_of
from jaxreg.engine.scores import Model, Observation, Scores
from jaxreg.engine.sums import columns_of
from jaxreg.numerics.vectors import Symmetric, Vector, as_array, dot, elementwise, largest, vector
from jaxreg.solvers.damped_steps import (
    MIN_GAIN,
    MIN_PIVOT,
    NEAR,
    RUNNING,
    Measure,
    Rule,
    State,
    small_coefs,
    start,
)
from jaxreg.solvers.quantile_errors import quantile_covariance
from jaxreg.status import Status

# The size of the last step, if errors are squared by a step and if they only shrink by a factor.
QUADRATIC = {"float32": 2.0**-12, "float64": 2.0**-16}
LINEAR = {"float32": 2.0**-24, "float64": 2.0**-38}
MIN_SCALE = 2.0**-40  # of residuals, relative to those of least squares, or to f where these are 0
RESULTS = (
    *("params", "bse", "coefs", "unit_cov", "residual", "explained", "cost", "dispersion"),
    *("deviance", "pearson_chi2", "llf", "error_scale", "alpha", "effective_dof"),
)  # fields of an estimate that a data set without params does not have
CAREFUL_AFTER = 20  # turns: long steps and the scale may follow each other around


def loss_sums(
    ansatz: Ansatz,
    cost: MeanLoss | Penalized,
    least_squares: Estimate,
    data: Data,
    rows: Rows | None,
    dtype: Any,
) -> LossSums:
    """The sums of a cost in the basis of least squares."""
    x, axes = data[0], data[1].ndim - 1
    x_is_shared = math.prod(x.shape[x.ndim - axes :]) == 1
    p = len(least_squares.params)
    cost = jax.tree.map(lambda a: jnp.asarray(a, dtype), cost)
    cost, alpha = (cost.cost, cost.alpha) if isinstance(cost, Penalized) else (cost, None)
    by_products = rows is not None and uses_products(cost, p, x_is_shared)
    if by_products:
        center, scale = shared_scaling(ansatz, x.astype(dtype))
    else:
        center, scale = (
            columns_of(ansatz, a.astype(dtype), 0) for a in (least_squares.x_center, least_squares.x_scale)
        )
    return LossSums(ansatz, cost, center, scale, data, rows, by_products, alpha)


def uses_products(cost: MeanLoss, p: int, x_is_shared: bool) -> bool:
    """Whether sums are matrix products; other costs than likelihoods need the basis of least squares."""
    return cost.is_likelihood and x_is_shared and p >= MIN_PRODUCTS


def starts_from_y(cost: MeanLoss, offset: Array | None) -> bool:
    """Whether the first step comes from derivatives near y: f = 0 is far from it with an offset."""
    return cost.starts_from_y or (cost.is_likelihood and offset is not None)


def rule_of(cost: MeanLoss, offset: Array | None, dtype: np.dtype) -> Rule:
    """What damped steps know of a cost, for data of this dtype."""
    judge = "none" if cost.has_scale else "slope" if cost.is_convex else "value"
    tolerances = QUADRATIC if cost.converges_quadratically else LINEAR
    return Rule(
        tolerances[dtype.name],
        judge,
        may_vanish=cost.is_likelihood,
        starts_from_y=starts_from_y(cost, offset),
        takes_last_step=not cost.has_scale,
    )


def begin(rule: Rule, sums: LossSums, least_squares: Estimate, exact: Exact) -> State:
    """The state at the start."""
    cost = sums.cost
    passes_through_y = least_squares.status == Status.exact_fit
    is_solved = (least_squares.status == Status.ok) | passes_through_y
    if not cost.is_likelihood:
        coefs = vector(list(jnp.where(is_solved & jnp.isfinite(exact.coefs), exact.coefs, 0)))
        guess = _first_guess(least_squares, exact.coefs.dtype) if cost.has_scale else None
        return start(rule, coefs, is_solved & ~passes_through_y, guess)
    zeros = elementwise(jnp.zeros_like, vector(list(exact.coefs)))
    if not rule.starts_from_y:
        return start(rule, zeros, is_solved, None)

    def terms(row: Observation, f: Array) -> Terms:
        not_admitted = jnp.where(row.weight > 0, ~jnp.isfinite(cost.slope(row.y, f)), False)
        return Terms((row.weight, row.weight * row.y, not_admitted.astype(f.dtype)))

    (weight, sum_y, not_admitted), *_ = sums.total(terms, zeros)
    local = sums.first_local(zeros, sum_y / jnp.where(weight > 0, weight, 1))
    state = start(rule, zeros, is_solved, None, local)
    has_mean = jnp.isfinite(local.gradient[0])  # counts that are all 0 have none
    status = jnp.where(is_solved & ~has_mean, Status.no_minimum, state.status)
    status = jnp.where(is_solved & (not_admitted > 0), Status.invalid_data, status)
    return state._replace(status=status.astype(jnp.int8))


def _first_guess(least_squares: Estimate, dtype: Any) -> Array:
    """The median of √w |ε| of least squares, if errors are normal."""
    guess = MEDIAN_OF_NORMAL * _times_root_weight(least_squares.residual.astype(dtype), least_squares)
    return jnp.where(guess > 0, guess, 1)


def _times_root_weight(size: Array, least_squares: Estimate) -> Array:
    """√w times a size, for the mean weight."""
    if least_squares.root_weight is None:
        return size
    return size * least_squares.root_weight / jnp.sqrt(jnp.maximum(least_squares.nobs, 1))


def evaluate(
    sums: LossSums, rule: Rule, least_squares: Estimate, coefs: Vector, guess: Any, turn: Array
) -> tuple[Local, Measure, Any]:
    """S near coefs, the measure of steps, and the median of √w |ε|."""
    cost = sums.cost
    if cost.has_scale:
        median = median_size(sums, least_squares, coefs, guess)
        scale = median / MEDIAN_OF_NORMAL
        careful = turn >= CAREFUL_AFTER
        local = sums.local(coefs, scale, with_value=False, careful=careful)
        return local, Measure(partial(small_coefs, rule.tolerance, scale)), median
    local = sums.local(coefs, None, with_value=not cost.is_convex)
    unit = jnp.ones(()) if cost.is_likelihood else least_squares.residual
    noise = None if local.value is None else MIN_GAIN * jnp.abs(local.value)
    is_small, is_near = (partial(small_coefs, size, unit) for size in (rule.tolerance, NEAR))
    return local, Measure(is_small, noise, is_near), None


def median_size(sums: LossSums, least_squares: Estimate, coefs: Vector, guess: Array) -> Array:
    """The median of √w |ε|, or a small number in place of 0."""
    residual, f_size = least_squares.residual.astype(guess.dtype), largest(elementwise(jnp.abs, coefs))
    size = jnp.where(residual > 0, residual, jnp.where(f_size > 0, f_size, 1))
    median = sums.median_size(coefs, least_squares.nobs.astype(guess.dtype), guess)
    return jnp.maximum(median, MIN_SCALE * _times_root_weight(size, least_squares))


def finish(
    sums: LossSums,
    least_squares: Estimate,
    unit_cov: Array,
    coefs: Vector,
    median: Array | None,
    dtype: np.dtype,
) -> Estimate:
    """The estimate at the coefs, of which params and errors are differentiable functions."""
    ansatz, cost, p = sums.ansatz, sums.cost, len(coefs)
    scale = None if median is None else median / MEDIAN_OF_NORMAL
    nobs = least_squares.nobs.astype(unit_cov.dtype)
    f_is_mean = cost.link == "identity" and not cost.is_piecewise_linear

    def terms(row: Observation, f: Array) -> Terms:
        t = cost.terms(row.y, f, row.weight, scale)
        totals = {
            "value": t.value,
            **({} if sums.data[2] is None else {"weight": row.weight}),
            **({"square": row.weight * jnp.square(row.y - f)} if f_is_mean else {}),
            **cost.statistics(row.y, f, row.weight, scale),
        }
        return Terms(totals, None, t.working_curvature if cost.is_likelihood else None)

    totals, _, curvature = sums.total(terms, coefs)
    totals = {"weight": nobs} | totals
    summary = cost.summary(totals, nobs, p, scale)
    weight = jnp.where(totals["weight"] > 0, totals["weight"], 1)
    if curvature is None:
        V, dispersion = symmetric_from_lower(unit_cov, p), summary.dispersion / weight
    else:
        V, dispersion = inverse(curvature), summary.dispersion
    if cost.is_piecewise_linear:
        V, dispersion = quantile_covariance(sums, coefs, V, nobs), summary.dispersion
    penalty, dof = jnp.zeros_like(weight), None
    if sums.alpha is not None:
        penalty, dof = _penalty(sums, coefs, scale)
        V = V.map(lambda a: a + jnp.nan)  # params are biased: they have no standard errors
    rows = feature_rows(ansatz, sums.center, sums.scale)
    params = params_of(rows, list(coefs))
    bse = [deviation(row, V) * jnp.sqrt(dispersion) for row in rows]
    changes: dict[str, Any] = {
        "params": jnp.stack(params),
        "bse": jnp.stack(bse),
        "coefs": as_array(coefs),
        "unit_cov": jnp.concatenate(V.lower),
        **{
            name: jnp.zeros_like(getattr(least_squares, name))
            + (jnp.stack(a) if ansatz.x_is_vector else a[0])
            for name, a in (("x_center", sums.center), ("x_scale", sums.scale))
        },
        "cost": (totals["value"] + penalty) / weight,
        "dispersion": dispersion,
        "alpha": None if sums.alpha is None else sums.alpha + jnp.zeros_like(weight),
        "effective_dof": dof,
        **{name: getattr(summary, name) for name in ("deviance", "pearson_chi2", "llf")},
        "error_scale": scale,
        **_squares(least_squares, totals.get("square", jnp.nan) / weight),
    }
    return replace(
        least_squares,
        digits=jnp.zeros_like(least_squares.digits),
        **{name: None if a is None else a.astype(dtype) for name, a in changes.items()},
    )


def _penalty(sums: LossSums, coefs: Vector, scale: Array | None) -> tuple[Array, Array]:
    """α Σ β², and the trace of (H + 2D)⁻¹H with the second derivatives H of Σ w ρ and D of the penalty."""
    d = elementwise(lambda a, c: a + jnp.zeros_like(c), sums.penalty, coefs)
    V = inverse(sums.local(coefs, scale, with_value=False).curvature)
    lost = dot(elementwise(lambda a: 2 * a, d), V.diagonal)
    return dot(d, elementwise(jnp.square, coefs)), len(coefs) - lost


def _squares(least_squares: Estimate, mean_square: Array) -> dict[str, Array]:
    """`residual` and `explained` from ⟨ε²⟩, which is NaN if f is not the mean of y."""
    residual, explained = (
        a.astype(mean_square.dtype) for a in (least_squares.residual, least_squares.explained)
    )
    reduction = jnp.sign(explained) * jnp.square(explained) + jnp.square(residual) - mean_square
    return {
        "residual": jnp.sqrt(mean_square),
        "explained": jnp.sign(reduction) * jnp.sqrt(jnp.abs(reduction)),
    }


def inverse(H: Symmetric) -> Symmetric:
    """H⁻¹."""
    if H.is_list:
        zero = jnp.zeros_like(H[0, 0])
        bordered = Symmetric([*H.entries, *[zero] * (H.k + 1)], H.k + 1)
    else:
        bordered = Symmetric(jnp.pad(H.entries, ((0, 1), (0, 1), *((0, 0),) * (H.entries.ndim - 2))), H.k + 1)
    return solve(bordered, H.diagonal, MIN_PIVOT).inverse


def with_status(estimate: Estimate, least_squares: Estimate, status: Array) -> Estimate:
    """The estimate with its status, and NaN where it is one without params."""
    was_solved = (least_squares.status == Status.ok) | (least_squares.status == Status.exact_fit)
    status = jnp.where(was_solved & (status != Status.ok), status, least_squares.status)
    has_params = sum((status == s for s in Status if s.has_params), jnp.zeros((), bool))
    is_finite = jnp.isfinite(estimate.params).all(axis=0)
    status = jnp.where(has_params & ~is_finite, Status.out_of_range, status)
    has_params &= is_finite

    def nan_if_failed(a: Array) -> Array:
        return jnp.where(has_params, a, jnp.nan).astype(a.dtype)

    values = {name: getattr(estimate, name) for name in RESULTS}
    changes = {name: nan_if_failed(a) for name, a in values.items() if a is not None}
    return replace(estimate, status=status.astype(jnp.int8), **changes)


def with_sandwich(sums: LossSums, covariance: Covariance, estimate: Estimate, coefs: Vector) -> Estimate:
    """The estimate with the errors (Σ w ρ'' ψψᵀ)⁻¹ M (Σ w ρ'' ψψᵀ)⁻¹."""
    dtype, scale = sums.scale[0].dtype, estimate.error_scale
    solved = jnp.isfinite(estimate.params).all(axis=0) & (estimate.nobs > len(coefs))
    scale = None if scale is None else jnp.where(solved, scale, 1).astype(dtype)
    coefs = vector([jnp.where(solved, c, 0) for c in coefs])

    def terms(row: Observation, f: Array) -> Terms:
        return Terms(row.weight, None, sums.cost.terms(row.y, f, row.weight, scale).curvature)

    weight, _, curvature = sums.total(terms, coefs)
    weight = jnp.where(solved & (weight > 0), weight, 1)
    one = jnp.ones_like(weight)
    V = inverse(not_none(curvature).map(lambda a: a / weight))
    model = Model(sums.center, sums.scale, coefs, V, one, weight, sums.cost, scale)
    rows = ROWS["cpu"] if sums.rows is None else sums.rows
    scores = Scores(sums.ansatz, model, estimate.nobs.astype(dtype), sums.data, rows, None)
    estimate = with_errors_of(scores, covariance, estimate, one, solved)
    dispersion = jnp.where(solved, 1 / scores.df, jnp.nan).astype(estimate.params.dtype)
    return replace(estimate, dispersion=dispersion)


def estimate_of(
    sums: LossSums,
    least_squares: Estimate,
    unit_cov: Array,
    covariance: Covariance | None,
    state: State,
    dtype: np.dtype,
) -> Estimate:
    """The estimate at the end of all turns."""
    status = jnp.where(state.status == RUNNING, Status.not_converged, state.status)
    estimate = finish(sums, least_squares, unit_cov, state.coefs, state.extra, dtype)
    estimate = with_status(estimate, least_squares, status)
    return estimate if covariance is None else with_sandwich(sums, covariance, estimate, state.coefs)
