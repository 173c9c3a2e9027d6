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
from jaxreg.numerics.vectors import Symmetric, Vector, all_true, dot, elementwise, largest
from jaxreg.status import Status

RUNNING = -1  # the status of a data set that is not finished

FIRST_DAMPING, EASED, RAISED = 1e-3, 0.1, 10.0  # λ after the first step that was refused, and its factors
MIN_DAMPING, MAX_DAMPING = 1e-6, 1e12  # below it is 0, above it no step improves the point
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
    """

    tolerance: float
    judge: str
    may_vanish: bool
    starts_from_y: bool
    takes_last_step: bool


class State(NamedTuple):
    """The state of the data sets.

    Attributes:
        coefs: the present point.
        local: S near it.
        step: the step to be tried.
        damping: λ.
        curvature: the largest diagonal entry of H at the start.
        status: RUNNING, or a `Status` code.
        extra: what evaluations hand on from one to the next.
    """

    coefs: Vector
    local: Local
    step: Vector
    damping: Array
    curvature: Array
    status: Array
    extra: Any


Evaluate = Callable[[Vector, Any, Array], "tuple[Local, Array, Any]"]


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
        step, _ = _step(local, zero)
    curvature = largest(local.curvature.diagonal)
    return State(
        coefs, local, step, zero, curvature, jnp.where(runs, RUNNING, Status.ok).astype(jnp.int8), extra
    )


def advance(evaluate: Evaluate, rule: Rule, state: State, first: Any, last: Any) -> State:
    """The turns first to last, or fewer.

    Args:
        evaluate: a function (coefs, extra, turn) to S near these coefs, the unit of f, and the new extra.
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
    local, unit, extra = evaluate(trial, state.extra, count)
    is_first = (count == 0) & (not rule.starts_from_y)  # whose step is 0
    size = largest(elementwise(jnp.abs, state.step))
    rounding = ROUNDING * jnp.finfo(size.dtype).eps * largest(elementwise(jnp.abs, trial))
    is_small = (size <= rule.tolerance * unit + rounding) & ~is_first
    is_finite = all_true(elementwise(jnp.isfinite, local.gradient))
    # The first step from y does not start from a point: any end of it is better.
    accepted = is_finite & (is_small | (count == 0) | _improves(rule, state, local))
    eased = jnp.where(state.damping > MIN_DAMPING, state.damping * EASED, 0)
    damping = jnp.where(accepted, eased, jnp.maximum(state.damping * RAISED, FIRST_DAMPING))
    here, new = (state.coefs, state.local, state.extra), (trial, local, extra)
    coefs, local, extra = _choose(accepted, new, here)
    step, pivot = _step(local, damping)
    is_finished = accepted & is_small & (state.damping == 0)
    if rule.takes_last_step:
        is_taken = is_finished & (pivot > MIN_PIVOT)
        coefs = elementwise(lambda c, d: jnp.where(is_taken, c + d, c), coefs, step)
    status = jnp.where(is_finished, Status.ok, RUNNING)
    largest_curvature = largest(local.curvature.diagonal)
    curvature = jnp.where(is_first, largest_curvature, state.curvature)
    if rule.may_vanish:
        vanishes = (pivot <= MIN_PIVOT) | (largest_curvature <= MIN_CURVATURE * curvature)
        status = jnp.where(vanishes, Status.no_minimum, status)
    status = jnp.where(damping > MAX_DAMPING, Status.not_converged, status)
    status = jnp.where(is_first & ~is_finite, Status.invalid_data, status).astype(jnp.int8)
    return State(coefs, local, step, damping, curvature, status, extra)


def _improves(rule: Rule, state: State, local: Local) -> Array:
    """Whether a step leads to a better point."""
    if rule.judge == "none":
        return jnp.ones_like(state.damping, bool)
    if rule.judge == "value":
        return not_none(local.value) <= not_none(state.local.value)
    before, after = dot(state.local.gradient, state.step), dot(local.gradient, state.step)
    return after <= STEEPER * jnp.abs(before)


def _step(local: Local, damping: Array) -> tuple[Vector, Array]:
    """d, and the smallest pivot of H."""
    k = len(local.gradient)
    diagonal = elementwise(jnp.abs, local.curvature.diagonal)
    zero = jnp.zeros_like(damping)
    if local.curvature.is_list:
        rows = [[local.curvature[i, j] for j in range(i + 1)] for i in range(k)]
        for i in range(k):
            rows[i][i] = rows[i][i] + damping * diagonal[i]
        lower = [*(a for row in rows for a in row), *(-g for g in local.gradient), zero]
        bordered = Symmetric(lower, k + 1)
    else:
        H = local.curvature.entries
        H = H + jnp.eye(k).reshape(k, k, *(1,) * damping.ndim) * (damping * diagonal)[:, None]
        g = -local.gradient
        top = jnp.concatenate([H, g[:, None]], axis=1)
        bottom = jnp.concatenate([g, zero[None]])[None]
        bordered = Symmetric(jnp.concatenate([top, bottom]), k + 1)
    solution = solve(bordered, diagonal, MIN_PIVOT)
    return solution.coefs, solution.smallest_pivot


def _choose(condition: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), a, b)
