"""Gradient descent θ ← θ − α∇S, the flow θ̇ = −∇S in steps of α (seed paper, equation 16).

The only gradient-descent loops in the package: one `lax.scan` that knows no mathematics but the
gradient, and the same step for many data sets that come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxreg._typing import Array, Bool, Float, Int
from jaxreg.precision import in_own_precision
from jaxreg.pytree import pytree
from jaxreg.status import Status

LANE_ELEMENTS = 2**18  # observations in all lanes together: they stay in cache for all steps
MOST_LANES = 1024
BURST = 32  # steps between two looks at which lanes are done


@pytree
class History:
    """Every step of a descent; entry k is the state after k steps, entry 0 the start.

    Attributes:
        params: as the params, with a first axis of length steps + 1.
        cost: S, (steps + 1,).
    """

    params: Any
    cost: Float[Array, " steps_and_start"]


@pytree
class Descent:
    """Where a descent ended.

    Attributes:
        params: θ after the last step; NaN if the descent left the finite numbers.
        cost: S(θ).
        gradient_norm: |∇S(θ)|, the size of the momentum.
        steps: how many steps were taken before the tolerance was met.
        status: `ok`, `not_converged` (above `tol` after the last step) or `diverged`.
        history: every step, if asked for.
    """

    params: Any
    cost: Float[Array, "*batch"]
    gradient_norm: Float[Array, "*batch"]
    steps: Int[Array, "*batch"]
    status: Int[Array, "*batch"]
    history: History | None

    @property
    def converged(self) -> Bool[Array, "*batch"]:
        """Whether the status is `ok`."""
        return self.status == Status.ok


@in_own_precision
def descend(
    cost: Callable[..., Array],
    params: Any,
    *data: Any,
    optimizer: optax.GradientTransformation = optax.sgd(0.05),
    steps: int = 1000,
    tol: float | None = None,
    history: bool = False,
) -> Descent:
    """Descend from `params` along −∇S: θ ← θ − α∇S for `optax.sgd(α)`, or as any optimizer has it.

    Written for one data set: `jax.vmap` makes it many, and it can be differentiated and compiled. It
    descends in the coordinates of the params as they are; `jaxreg.learning_rates` tells which α converge
    there, and a centered and scaled x lets α of 0.01 to 0.1 do so.

    Args:
        cost: S(params, *data), a pure function to a number. Compiled once per function object, so
            define it once.
        params: θ₀, an array or any pytree of them.
        *data: the arrays the cost reads; new data of one shape compile nothing anew.
        optimizer: an optax gradient transformation, compiled once per object as well.
        steps: how many steps at most.
        tol: once |∇S| ≤ tol the params stay where they are. Without, every step is taken.
        history: whether to keep params and cost of every step.

    Returns:
        `Descent`. Without `tol`, any finite end counts as `ok`.

    Source: seed paper, equation 16.

    >>> x, y = jnp.array([-1.0, 0.0, 1.0]), jnp.array([-1.0, 1.0, 3.0])
    >>> from jaxreg import mean_squared_error
    >>> descend(mean_squared_error, jnp.zeros(2), x, y).params.round(4).tolist()
    [1.0, 2.0]
    """
    check_steps(steps)
    return _compiled(cost, params, data, optimizer, steps, tol, history)


def loop(
    cost: Callable[..., Array],
    params: Any,
    data: tuple,
    optimizer: optax.GradientTransformation,
    steps: int,
    tol: float | Array | None,
    history: bool,
) -> Descent:
    """`descend` for callers that are compiled already; `tol` may be an array."""
    params = jax.tree.map(jnp.asarray, params)
    slope = jax.value_and_grad(cost)

    def step(state: tuple, _: None) -> tuple[tuple, tuple | None]:
        theta, memory, taken = state
        value, gradient = slope(theta, *data)
        moved = (
            *_moved(theta, memory, gradient, optimizer, value, lambda theta: cost(theta, *data)),
            taken + 1,
        )
        if tol is not None:
            moved = _choose(optax.tree.norm(gradient) <= tol, state, moved)
        return moved, ((theta, value) if history else None)

    start = (params, optimizer.init(params), jnp.int32(0))
    (theta, _, taken), before = lax.scan(step, start, length=steps)
    value, gradient = slope(theta, *data)
    found = _ended(theta, value, optax.tree.norm(gradient), taken, tol)
    return found if before is None else replace(found, history=_with_end(before, (theta, value)))


def in_lanes(
    cost: Callable[..., Array],
    unit: Array,
    params: Array,
    data: Any,
    prepare: Callable[[Any], tuple],
    optimizer: optax.GradientTransformation,
    steps: int,
    tol: float | Array | None,
) -> Descent:
    """`loop` on cost / unit for many data sets, some at a time in lanes whose data stay in cache.

    A lane whose data set is done takes up the next one, so that none waits for the slowest of all.

    Args:
        cost: S(params, *prepared) of one data set.
        unit: what S is divided by, (m,).
        params: (p, m).
        data: arrays with the data sets on their last axis.
        prepare: what the cost reads, once per data set from its data.
        optimizer: an optax gradient transformation.
        steps: how many steps at most.
        tol: once |∇S| ≤ tol a data set is done.

    Returns:
        `Descent` with the data sets on the last axis of every array.
    """
    m = params.shape[-1]
    n = max(a.size // m for a in jax.tree.leaves(data))
    lanes = max(1, min(MOST_LANES, LANE_ELEMENTS // n))  # of n alone: the last bits depend on it
    burst = steps + 1 if tol is None else min(steps + 1, BURST)
    gradients = jax.vmap(jax.grad(cost))

    def take_up(ids: Array) -> tuple[_Lane, tuple]:
        def rows(a: Array) -> Array:  # lanes in front, where vmap needs them to be fast
            return jnp.moveaxis(jnp.take(a, jnp.minimum(ids, m - 1), axis=-1), -1, 0)

        theta, own, lane_unit = jax.tree.map(rows, (params, data, unit))
        prepared = jax.vmap(prepare)(own)
        lane = _Lane(
            params=theta,
            gradient=gradients(theta, *prepared),
            unit=lane_unit,
            memory=jax.vmap(optimizer.init)(theta),
            taken=jnp.zeros(lanes, jnp.int32),
            done=ids >= m,
        )
        return lane, prepared

    def step(lane: _Lane, *prepared: Any) -> _Lane:
        slope = lane.gradient / lane.unit
        done = lane.done | (lane.taken >= steps)
        if tol is not None:
            done |= optax.tree.norm(slope) <= tol

        def value_of(theta: Array) -> Array:
            return cost(theta, *prepared) / lane.unit

        value = value_of(lane.params)  # which most optimizers do not read, and which is then not computed
        theta, memory = _moved(lane.params, lane.memory, slope, optimizer, value, value_of)
        moved = replace(lane, params=theta, memory=memory, taken=lane.taken + 1)
        return _choose(done, replace(lane, done=done), moved)

    # The gradient ends the body: what is computed from a sum in the same kernel keeps XLA from
    # vectorizing the sum, and a step takes six times as long.
    def steps_of(prepared: tuple, _: Any, lane: _Lane) -> _Lane:
        lane = jax.vmap(step)(lane, *prepared)
        return replace(lane, gradient=gradients(lane.params, *prepared))

    def round_(state: tuple) -> tuple:
        ids, next_id, lane, prepared, ends = state
        lane = lax.fori_loop(0, burst, partial(steps_of, prepared), lane)
        value = jax.vmap(cost)(lane.params, *prepared) / lane.unit
        norm = jax.vmap(optax.tree.norm)(lane.gradient) / lane.unit
        place = jnp.where(lane.done, ids, m)
        end = (lane.params.T, value, norm, lane.taken)
        ends = jax.tree.map(
            lambda whole, a: whole.at[..., place].set(a.astype(whole.dtype), mode="drop"), ends, end
        )
        ids = jnp.where(lane.done, next_id + jnp.cumsum(lane.done) - 1, ids)
        next_id += jnp.sum(lane.done)
        fresh = take_up(ids)
        return ids, next_id, *_choose(lane.done, fresh, (lane, prepared)), ends

    ids = jnp.arange(lanes)
    nothing = jnp.zeros(m, params.dtype)
    ends = (jnp.zeros_like(params), nothing, nothing, jnp.zeros(m, jnp.int32))
    state = (ids, jnp.asarray(lanes, ids.dtype), *take_up(ids), ends)
    *_, ends = lax.while_loop(lambda state: jnp.any(state[0] < m), round_, state)
    return _ended(*ends, tol)


@pytree
class _Lane:
    """Where a descent is: the gradient is that of the cost, which is to be divided by the unit."""

    params: Array
    gradient: Array
    unit: Array
    memory: Any
    taken: Array
    done: Array


def _moved(
    theta: Any,
    memory: Any,
    gradient: Any,
    optimizer: optax.GradientTransformation,
    value: Array,
    value_of: Callable[[Any], Array],
) -> tuple:
    """One step; line searches and learning rates that adapt ask for the cost, the others ignore it."""
    update = optax.with_extra_args_support(optimizer).update
    updates, memory = update(gradient, memory, theta, value=value, grad=gradient, value_fn=value_of)
    return optax.apply_updates(theta, updates), memory


def _ended(theta: Any, value: Array, norm: Array, taken: Array, tol: float | Array | None) -> Descent:
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    above = False if tol is None else norm > tol
    status = jnp.where(finite, jnp.where(above, Status.not_converged, Status.ok), Status.diverged)
    return Descent(
        params=jax.tree.map(lambda a: jnp.where(finite, a, jnp.nan), theta),
        cost=value,
        gradient_norm=norm,
        steps=taken,
        status=status.astype(jnp.int8),
        history=None,
    )


def _choose(condition: Array, a: Any, b: Any) -> Any:
    """`jnp.where` for trees, over the first axes of their arrays."""

    def where(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (jnp.ndim(b) - condition.ndim)), a, b)

    return jax.tree.map(where, a, b)


_compiled = jax.jit(loop, static_argnames=("cost", "optimizer", "steps", "history"))


def check_steps(steps: Any) -> None:
    """Raise on a number of steps that is none."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
        raise ValueError(f"steps is a whole number, 0 or more; got {steps!r}")


def _with_end(before: tuple, end: tuple) -> History:
    return History(*jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), before, end))
