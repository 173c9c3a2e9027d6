"""Steps to the turning point of any cost from its value, slope and curvature at the present point.

A step solves (H + λ diag H) d = −∇S. It is taken if it improves the point; otherwise λ grows and a shorter
one is tried. Each turn evaluates S once, for all data sets that are not finished.

Source: D. W. Marquardt, J. SIAM 11 (1963) 431.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.engine.loss_sums import Local
from jaxreg.engine.normal_equations import solve
from jaxreg.engine.scores import outer
from jaxreg.numerics.vectors import (
    Symmetric,
    Vector,
    all_true,
    as_array,
    as_list,
    dot,
    elementwise,
    largest,
    vector,
)
from jaxreg.status import Status

RUNNING = -1  # the status of a data set that is not finished

FIRST_DAMPING, EASED, RAISED = 1e-3, 0.1, 10.0  # λ after the first step that was refused, and its factors
MAX_EASED = 2.0  # the factor of λ after a step that improved the point less than predicted
MAX_DAMPING = 1e12  # above it no step improves the point
MAX_WRITTEN_OUT = 5  # params up to which the solution is written out, half the time of the loop
NEAR = 1e-3  # a step of this size, in the unit of f, leads to where undamped ones converge
MIN_GAIN = 2.0**-48  # a relative change of S that is rounding
ROUNDING = 4  # in units of the last digit of the coefs: a step that small is rounding
STEEPER = 0.5  # a step is too long if the slope at its end is above this share of that at its start, upwards
MIN_PIVOT = 1e-12  # share of the curvature along a column that is independent of the others
MIN_CURVATURE = 1e-9  # relative to the start: below it the cost has no curvature left, and no minimum


class Rule(NamedTuple):
    """What is known of a cost.

    Attributes:
        tolerance: a data set is finished after a step of this size, in the unit of f.
        judge: "value", "slope" (convex costs) or "none" (every step improves the point).
        may_vanish: whether the curvature may tend to 0 along a descent without end.
        starts_from_y: whether the first step comes from derivatives near the y of each observation.
        takes_last_step: whether a data set that is finished takes one more step, which costs no turn.
        first_damping: λ of the first step.
        min_damping: below it λ is 0.
        invalid_start: the status of a data set whose S is not finite at the start.
        limits: the largest change of each coef in a step, None for no limit; or None without limits.
    """

    tolerance: float
    judge: str
    may_vanish: bool
    starts_from_y: bool
    takes_last_step: bool
    first_damping: float = 0.0
    min_damping: float = 1e-6
    invalid_start: Status = Status.invalid_data
    limits: tuple[float | None, ...] | None = None


class State(NamedTuple):
    """The state of the data sets.

    Attributes:
        coefs: the present point.
        local: S near it.
        step: the step to be tried.
        decrement: −∇S · d of the step that led to the present point.
        damping: λ.
        raised: the factor of λ if the step is refused.
        curvature: the largest diagonal entry of H at the start.
        status: RUNNING, or a `Status` code.
        extra: what evaluations hand on from one to the next.
    """

    coefs: Vector
    local: Local
    step: Vector
    decrement: Array
    damping: Array
    raised: Array
    curvature: Array
    status: Array
    extra: Any


# (coefs, extra, turn) → S near these coefs, the measure of steps there, and the new extra
Evaluate = Callable[[Vector, Any, Array], "tuple[Local, Measure, Any]"]


class Measure(NamedTuple):
    """What a step is compared with.

    Attributes:
        is_small: whether the step of a state is small enough to be the last.
        noise: the rounding error of S; None where slopes are enough.
        is_near: whether it is so small that undamped steps converge; None where slopes are enough.
    """

    is_small: Callable[[State], Array]
    noise: Array | None = None
    is_near: Callable[[State], Array] | None = None


def start(rule: Rule, coefs: Vector, runs: Array, extra: Any, local: Local | None = None) -> State:
    """The state at a point.

    Args:
        rule: of the cost.
        coefs: the point.
        runs: which data sets are to be solved.
        extra: for `evaluate`.
        local: S near it; if omitted, the first turn evaluates it.
    """
    zero = jnp.zeros_like(coefs[0])
    if local is None:
        nothing = elementwise(jnp.zeros_like, coefs)
        local = Local(zero if rule.judge == "value" else None, nothing, outer(nothing, zero))
        step = nothing
    else:
        step, _ = newton_step(local, zero)
    curvature = largest(local.curvature.diagonal)
    status = jnp.where(runs, RUNNING, Status.ok).astype(jnp.int8)
    damping, raised = zero + rule.first_damping, zero + _first_raise(rule)
    return State(coefs, local, step, zero + jnp.inf, damping, raised, curvature, status, extra)


def advance(evaluate: Evaluate, rule: Rule, state: State, first: Any, last: Any) -> State:
    """The turns first to last, or fewer.

    Args:
        evaluate: of the cost.
        rule: of the cost.
        state: the present state.
        first: number of turns before.
        last: number of turns afterwards.
    """

    def runs(loop: tuple[Array, State]) -> Array:
        return (loop[0] < last) & jnp.any(loop[1].status == RUNNING)

    def turn(loop: tuple[Array, State]) -> tuple[Array, State]:
        count, state = loop
        return count + 1, _choose(state.status == RUNNING, _turn(evaluate, rule, state, count), state)

    return lax.while_loop(runs, turn, (jnp.asarray(first, jnp.int32), state))[1]


def _turn(evaluate: Evaluate, rule: Rule, state: State, count: Array) -> State:
    """Try the step, and find the next one."""
    trial = elementwise(jnp.add, state.coefs, state.step)
    local, measure, extra = evaluate(trial, state.extra, count)
    is_first = (count == 0) & (not rule.starts_from_y)  # whose step is 0
    is_small = measure.is_small(state) & ~is_first
    is_finite = all_true(elementwise(jnp.isfinite, local.gradient))
    if rule.judge == "value":
        is_finite = is_finite & jnp.isfinite(not_none(local.value))
    # The first step from y does not start from a point: any end of it is better.
    accepted = is_finite & (is_small | (count == 0) | _improves(rule, state, local, measure.noise))
    eased = jnp.where(is_first, state.damping, _eased(rule, state, local, measure))
    damping = jnp.where(accepted, eased, jnp.maximum(state.damping * state.raised, FIRST_DAMPING))
    raised = _first_raise(rule) if rule.judge != "value" else jnp.where(accepted, 2.0, 2 * state.raised)
    here, new = (state.coefs, state.local, state.extra), (trial, local, extra)
    coefs, local, extra = _choose(accepted, new, here)
    step, pivot = newton_step(local, damping)
    if rule.limits is not None:
        step = _limited(local, damping, step, rule.limits)
    largest_curvature = largest(local.curvature.diagonal)
    curvature = jnp.where(is_first, largest_curvature, state.curvature)
    raised += jnp.zeros_like(damping)  # not broadcast_to: it forgets an Explicit mesh
    decrement = jnp.where(accepted & ~is_first, -dot(state.local.gradient, state.step), state.decrement)
    next_state = State(coefs, local, step, decrement, damping, raised, curvature, state.status, extra)
    is_finished = accepted & is_small & (state.damping == 0)
    if rule.judge == "value":  # the next step, which follows without another turn, is the last
        is_finished = is_finite & measure.is_small(next_state) & (damping == 0)
    if rule.takes_last_step:
        is_taken = is_finished & (pivot > MIN_PIVOT)
        coefs = elementwise(lambda c, d: jnp.where(is_taken, c + d, c), coefs, step)
    status = jnp.where(is_finished, Status.ok, RUNNING)
    if rule.may_vanish:
        vanishes = (pivot <= MIN_PIVOT) | (largest_curvature <= MIN_CURVATURE * curvature)
        status = jnp.where(vanishes, Status.no_minimum, status)
    status = jnp.where(damping > MAX_DAMPING, Status.not_converged, status)
    status = jnp.where(is_first & ~is_finite, rule.invalid_start, status).astype(jnp.int8)
    return next_state._replace(coefs=coefs, status=status)


def small_coefs(tolerance: float, unit: Array, state: State) -> Array:
    """Whether a step is small in the unit of f, for coefs of a basis of order 1."""
    size = largest(elementwise(jnp.abs, state.step))
    end = elementwise(jnp.add, state.coefs, state.step)
    rounding = ROUNDING * jnp.finfo(size.dtype).eps * largest(elementwise(jnp.abs, end))
    return size <= tolerance * unit + rounding


def _first_raise(rule: Rule) -> float:
    return 2.0 if rule.judge == "value" else RAISED


def _eased(rule: Rule, state: State, local: Local, measure: Measure) -> Array:
    """λ after a step that was accepted.

    Where S is compared, λ depends on the ratio of its reduction to that of the parabola.

    Source: H. B. Nielsen, Damping parameter in Marquardt's method (1999).
    """
    if rule.judge != "value":
        damping = state.damping * EASED
        return jnp.where(damping < rule.min_damping, 0, damping)
    noise = not_none(measure.noise)
    bend = dot(state.step, state.local.curvature.times(state.step))
    predicted = -dot(state.local.gradient, state.step) - bend / 2
    reduction = not_none(state.local.value) - not_none(local.value)
    gain = jnp.where(predicted > noise, reduction / jnp.maximum(predicted, noise), 1)
    damping = state.damping * jnp.clip(1 - (2 * gain - 1) ** 3, EASED, MAX_EASED)
    return jnp.where((damping < rule.min_damping) | not_none(measure.is_near)(state), 0, damping)


def _improves(rule: Rule, state: State, local: Local, noise: Array | None) -> Array:
    """Whether a step leads to a better point."""
    if rule.judge == "none":
        return jnp.ones_like(state.damping, bool)
    if rule.judge == "value":
        return not_none(local.value) <= not_none(state.local.value) + not_none(noise)
    before, after = dot(state.local.gradient, state.step), dot(local.gradient, state.step)
    return after <= STEEPER * jnp.abs(before)


def newton_step(local: Local, damping: Array, min_pivot: float = MIN_PIVOT) -> tuple[Vector, Array]:
    """d, and the smallest pivot of H."""
    k = len(local.gradient)
    diagonal = elementwise(jnp.abs, local.curvature.diagonal)
    H = local.curvature.plus_diagonal(elementwise(lambda a: damping * a, diagonal))
    zero = jnp.zeros_like(damping)
    if H.is_list:
        bordered = Symmetric([*H.entries, *(-g for g in local.gradient), zero], k + 1)
    else:
        g = -local.gradient
        top = jnp.concatenate([H.entries, g[:, None]], axis=1)
        bottom = jnp.concatenate([g, zero[None]])[None]
        bordered = Symmetric(jnp.concatenate([top, bottom]), k + 1)
        if k <= MAX_WRITTEN_OUT:
            solution = solve(as_list(bordered), as_list(diagonal), min_pivot)
            return as_array(solution.coefs), solution.smallest_pivot
    solution = solve(bordered, diagonal, min_pivot)
    return solution.coefs, solution.smallest_pivot


def _limited(local: Local, damping: Array, step: Vector, limits: tuple[float | None, ...]) -> Vector:
    """The step whose entries beyond a limit are the limit, and the others those that are best then."""
    entries = list(zip(step, limits, strict=True))
    is_held = vector([jnp.zeros(d.shape, bool) if c is None else jnp.abs(d) > c for d, c in entries])
    held = vector([jnp.zeros_like(d) if c is None else jnp.clip(d, -c, c) for d, c in entries])
    held = elementwise(lambda flag, d: jnp.where(flag, d, 0), is_held, held)
    shift = local.curvature.times(held)
    gradient = elementwise(
        lambda flag, g, change, d: jnp.where(flag, -d * (1 + damping), g + change),
        is_held,
        local.gradient,
        shift,
        held,
    )
    H = local.curvature.with_outer(lambda a, i, j: jnp.where(i | j, 0, a), is_held, is_held)
    unit = elementwise(lambda flag: jnp.where(flag, 1.0, 0.0).astype(damping.dtype), is_held)
    return newton_step(Local(None, gradient, H.plus_diagonal(unit)), damping)[0]


def _choose(condition: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), a, b)
