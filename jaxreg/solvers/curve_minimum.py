"""The minimum of a cost of a curve, from a start, by damped Gauss–Newton steps.

Near a point f is taken as linear, f(θ + d) ≈ f + J d with J = ∂f/∂θ, in the place of the basis of an ansatz
that is linear. The search runs in variables u without bounds; the estimate is one in the params θ.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, not_none
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.costs.squares import SquaredError
from jaxreg.curves.bounds import is_pressed, limits
from jaxreg.curves.curve import CompiledCurve, from_free_params, guessed_start, to_free_params
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.loss_sums import Data, Local, LossSums, Terms
from jaxreg.engine.rows import Rows
from jaxreg.engine.sandwich import Covariance
from jaxreg.engine.scores import Observation, observed_response
from jaxreg.engine.sums import columns_of
from jaxreg.numerics.vectors import Vector, all_true, as_array, dot, elementwise, vector
from jaxreg.solvers.damped_steps import (
    MIN_GAIN,
    MIN_PIVOT,
    NEAR,
    RUNNING,
    Measure,
    Rule,
    State,
    newton_step,
    start,
)
from jaxreg.solvers.loss_minimum import inverse, with_sandwich, with_status
from jaxreg.status import Status

TOLERANCE = {"float32": 2.0**-20, "float64": 2.0**-34}  # distance from the minimum, in standard errors
FIRST_DAMPING = 0.1  # a curve may bend between its start and its minimum
MIN_DAMPING = 2.0**-53
ROUNDING = 4  # in units of the last digit of f: a step that changes f less is rounding
MAX_ROUNDING = 1e-3  # relative change of a param by rounding of f above which it is not determined
AT_MINIMUM = 1e-6  # distance from the minimum, in standard errors, above which it is at a bound


def search_sums(
    curve: CompiledCurve, cost: MeanLoss, mean: Estimate, data: Data, rows: Rows, dtype: Any
) -> LossSums:
    """The sums of a cost as functions of the variables of the search."""
    sums = curve_sums(curve.free, cost, mean, data, rows, dtype)
    return replace(sums, center=[_center(mean, dtype)]) if curve.is_centered else sums


def _center(mean: Estimate, dtype: Any) -> Array:
    """The middle of x."""
    return mean.x_center.astype(dtype)


def curve_sums(
    curve: CompiledCurve, cost: MeanLoss, mean: Estimate, data: Data, rows: Rows | None, dtype: Any
) -> LossSums:
    """The sums of a cost as functions of the params."""
    zero = jnp.zeros_like(mean.residual, dtype)
    columns = len(columns_of(curve, data[0], 1))
    cost = jax.tree.map(lambda a: jnp.asarray(a, dtype), cost)
    return LossSums(curve, cost, [zero] * columns, [zero + 1] * columns, data, rows)


def curve_rule(curve: CompiledCurve, dtype: np.dtype) -> Rule:
    """What damped steps know of a cost of a curve."""
    return Rule(
        TOLERANCE[dtype.name],
        judge="value",
        may_vanish=False,
        starts_from_y=False,
        takes_last_step=True,
        first_damping=FIRST_DAMPING,
        min_damping=MIN_DAMPING,
        invalid_start=Status.undetermined,
        limits=limits(curve.bounds) if curve.is_bounded else None,
    )


def begin(rule: Rule, sums: LossSums, curve: CompiledCurve, mean: Estimate, given: Array | None) -> State:
    """The state at the start, which is given or estimated from the data."""
    dtype = sums.scale[0].dtype
    if given is None:
        x, y, weights, _ = sums.data
        columns = columns_of(curve, x, 1)
        response = observed_response(columns, y, weights, dtype)
        columns = [jnp.where(response.valid, a, 0).astype(dtype) for a in columns]
        columns = [a - c for a, c in zip(columns, sums.center, strict=True)]
        x = jnp.stack(columns, axis=1) if curve.x_is_vector else columns[0]
        params = list(guessed_start(curve, x, response.y, response.weight))
    else:
        params = list(curve.shifted([a.astype(dtype) for a in given], sums.center[0]))
    zero = jnp.zeros_like(mean.residual, dtype)
    params = [a + zero for a in params]
    runs = (mean.status == Status.ok) | (mean.status == Status.exact_fit)
    runs = runs & (mean.nobs >= curve.p) & all_true([jnp.isfinite(a) for a in params])
    params = [jnp.where(jnp.isfinite(a), a, 1) for a in params]
    state = start(rule, to_free_params(curve, params), runs, elementwise(jnp.abs, vector(params)))
    no_start = (state.status == Status.ok) & (mean.nobs >= curve.p)
    return state._replace(status=jnp.where(no_start, Status.undetermined, state.status).astype(jnp.int8))


def evaluate(
    sums: LossSums, rule: Rule, curve: CompiledCurve, mean: Estimate, u: Vector, reach: Vector, turn: Array
) -> tuple[Local, Measure, Vector]:
    """S near u, the measure of steps, and the largest |θ| so far."""
    local = sums.local(u, None, with_value=True)
    value, squares = jnp.abs(not_none(local.value)), _sum_of_squares(mean, sums)
    unit = _dispersion(sums.cost, mean, len(u), not_none(local.value))
    rounding = _rounding(mean, sums)
    noise = MIN_GAIN * (value + jnp.sqrt(value) * jnp.sqrt(squares))
    size = elementwise(jnp.abs, from_free_params(curve, u))
    measure = Measure(
        partial(_is_small, rule.tolerance, curve, unit, rounding), noise, partial(_is_near, unit, rounding)
    )
    return local, measure, elementwise(jnp.maximum, reach, size)


def _is_near(unit: Array, rounding: Array, state: State) -> Array:
    """Whether the step changes f by a small part of its standard error."""
    return -dot(state.local.gradient, state.step) <= 2 * (NEAR**2 * unit + rounding)


def _is_small(tolerance: float, curve: CompiledCurve, unit: Array, rounding: Array, state: State) -> Array:
    """Whether the distance to the minimum after the step is a small part of the standard error.

    If steps shrink by a factor r, that is r / (1 − r) times the step. On a plateau a step changes f little,
    but the params by much.

    Source: D. M. Bates and D. G. Watts, Technometrics 23 (1981) 179.
    """
    decrement = -dot(state.local.gradient, state.step)
    size, size_before = (jnp.sqrt(jnp.maximum(a, 0)) for a in (decrement, state.decrement))
    distance = jnp.where(size_before < jnp.inf, size * size / jnp.maximum(size_before - size, 0), jnp.inf)
    is_close = (distance <= tolerance * jnp.sqrt(2 * unit)) | (decrement <= 2 * rounding)
    end = elementwise(jnp.add, state.coefs, state.step)
    here, there = (from_free_params(curve, u) for u in (state.coefs, end))
    has_settled = [
        jnp.abs(b - a) <= tolerance**0.5 * reach for a, b, reach in zip(here, there, state.extra, strict=True)
    ]
    return is_close & all_true(has_settled)


def _dispersion(cost: MeanLoss, mean: Estimate, p: int, value: Array) -> Array:
    """The unit of Σ w ρ: the change that is a standard error."""
    return jnp.ones_like(value) if cost.is_likelihood else jnp.abs(value) / jnp.maximum(mean.nobs - p, 1)


def _sum_of_squares(mean: Estimate, sums: LossSums) -> Array:
    """Σ w y², of which rounding errors are relative parts."""
    dtype = sums.scale[0].dtype
    weight = mean.nobs if mean.root_weight is None else jnp.square(mean.root_weight.astype(dtype))
    mean_square = jnp.square(not_none(mean.y_mean).astype(dtype)) + jnp.square(mean.residual.astype(dtype))
    return weight * mean_square


def _rounding(mean: Estimate, sums: LossSums) -> Array:
    """Σ w δ² of rounding errors δ of f."""
    eps = jnp.finfo(sums.scale[0].dtype).eps
    return jnp.square(ROUNDING * eps) * _sum_of_squares(mean, sums)


def finish(
    sums: LossSums,
    curve: CompiledCurve,
    mean: Estimate,
    params: Vector,
    dtype: np.dtype,
    reach: Vector | None = None,
) -> tuple[Estimate, Array]:
    """The estimate at the params, a differentiable function of them, and its status if it converged.

    With the largest |θ| of the search, a param that the rounding of f could change by a part of it is
    undetermined, such as the rate of a decay whose amplitude is 0.
    """
    cost, p = sums.cost, curve.p
    nobs = mean.nobs.astype(sums.scale[0].dtype)

    def terms(row: Observation, f: Array) -> Terms:
        t = cost.terms(row.y, f, row.weight, None)
        totals = {
            "value": t.value,
            **({} if sums.data[2] is None else {"weight": row.weight}),
            **({"square": row.weight * jnp.square(row.y - f)} if cost.link == "identity" else {}),
            **cost.statistics(row.y, f, row.weight, None),
        }
        return Terms(totals, t.slope, t.working_curvature)

    totals, gradient, H = sums.total(terms, params)
    totals = {"weight": nobs} | totals
    weight = jnp.where(totals["weight"] > 0, totals["weight"], 1)
    step, pivot = newton_step(Local(None, gradient, not_none(H)), jnp.zeros_like(weight))
    decrement = -dot(gradient, step)
    unit = _dispersion(cost, mean, p, totals["value"])
    status = jnp.where(pivot > MIN_PIVOT, Status.ok, Status.undetermined)
    if curve.is_bounded and reach is not None:
        is_away = decrement > 2 * (AT_MINIMUM**2 * unit + _rounding(mean, sums))
        pressed = [
            is_pressed(*entry) for entry in zip(curve.bounds, params, reach, cast(Any, gradient), strict=True)
        ]
        at_end = jnp.where(all_true([~a for a in pressed]), Status.not_converged, Status.at_bound)
        status = jnp.where(is_away & (status == Status.ok), at_end, status)

    summary = cost.summary(totals, nobs, p, None)
    if cost.is_likelihood:
        V, dispersion = inverse(not_none(H)), summary.dispersion
    else:
        V, dispersion = (
            inverse(_gram(sums, params, not_none(H)).map(lambda a: a / weight)),
            summary.dispersion / weight,
        )
    if reach is not None:
        error = _rounding(mean, sums) / (1 if cost.is_likelihood else weight)
        is_noise = [error * V[k, k] > jnp.square(MAX_ROUNDING * reach[k]) for k in range(p)]
        status = jnp.where(all_true([~a for a in is_noise]), status, Status.undetermined)
    theta = as_array(params)
    bse = jnp.stack([jnp.sqrt(V[k, k] * dispersion) for k in range(p)])
    is_squared_error = isinstance(cost, SquaredError)
    x_center = jnp.zeros_like(mean.x_center)
    changes: dict[str, Any] = {
        "params": theta,
        "bse": bse,
        "coefs": theta,
        "unit_cov": jnp.concatenate(V.lower),
        "x_center": x_center,
        "x_scale": jnp.ones_like(x_center),
        "y_mean": None,
        "y_deviation": mean.residual,
        **_squares(mean, totals.get("square", jnp.nan) / weight),
    }
    if not is_squared_error:
        changes |= {"cost": totals["value"] / weight, "dispersion": dispersion}
        changes |= {name: getattr(summary, name) for name in ("deviance", "pearson_chi2", "llf")}
    estimate = replace(
        mean,
        digits=jnp.zeros_like(mean.digits),
        **{name: None if a is None else a.astype(dtype) for name, a in changes.items()},
    )
    return estimate, status


def _gram(sums: LossSums, params: Vector, H: Any) -> Any:
    """Σ w JJᵀ, which is half the curvature of the squared error."""
    if isinstance(sums.cost, SquaredError):
        return H.map(lambda a: a / 2)
    return not_none(sums.total(lambda row, f: Terms(None, None, row.weight), params)[2])


def _squares(mean: Estimate, mean_square: Array) -> dict[str, Array]:
    """`residual` and `explained`, relative to f = 0, from ⟨ε²⟩."""
    square = jnp.square(not_none(mean.y_mean)) + jnp.square(mean.residual)
    reduction = square.astype(mean_square.dtype) - mean_square
    return {
        "residual": jnp.sqrt(mean_square),
        "explained": jnp.sign(reduction) * jnp.sqrt(jnp.abs(reduction)),
    }


def estimate_of(
    curve: CompiledCurve,
    sums: LossSums,
    mean: Estimate,
    covariance: Covariance | None,
    state: State,
    dtype: np.dtype,
) -> Estimate:
    """The estimate at the end of all turns."""
    params = curve.shifted(from_free_params(curve, state.coefs), -_center(mean, sums.scale[0].dtype))
    reach = elementwise(lambda a, b: jnp.maximum(a, jnp.abs(b)), state.extra, params)
    estimate, at_end = finish(sums, curve, mean, params, dtype, reach)
    status = jnp.where(state.status == RUNNING, Status.not_converged, state.status)
    status = jnp.where(status == Status.ok, at_end, status)
    is_stuck = (status == Status.not_converged) & (at_end == Status.undetermined)
    status = jnp.where(is_stuck, Status.undetermined, status)
    squares, size = _sum_of_squares(mean, sums), jnp.abs(not_none(mean.y_mean)) + mean.residual
    is_out_of_range = (squares == jnp.inf) | ((squares == 0) & (size > 0))
    status = jnp.where((status == Status.undetermined) & is_out_of_range, Status.out_of_range, status)
    status = jnp.where((status == Status.ok) & (mean.nobs == curve.p), Status.exact_fit, status)
    status = jnp.where((mean.nobs < curve.p) & (mean.nobs > 0), Status.too_few_observations, status)
    estimate = with_status(estimate, mean, status)
    if covariance is not None:
        estimate = with_sandwich(sums, covariance, estimate, params)
    has_errors = (estimate.status != Status.at_bound) & (estimate.status != Status.exact_fit)
    return replace(
        estimate,
        **{name: jnp.where(has_errors, getattr(estimate, name), jnp.nan) for name in ("bse", "unit_cov")},
    )
