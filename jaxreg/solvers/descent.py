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
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.status import Status

SLOT_ELEMENTS = 2**18  # observations in all slots together: they stay in cache for all steps
MAX_SLOTS = 1024
BURST = 32  # steps between two looks at which slots are done


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
        theta, opt_state, taken = state
        value, gradient = slope(theta, *data)
        moved = (
            *_moved(theta, opt_state, gradient, optimizer, value, lambda theta: cost(theta, *data)),
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


def in_slots(
    cost: Callable[..., Array],
    params: Array,
    data: Any,
    prepare: Callable[[Any], tuple],
    optimizer: optax.GradientTransformation,
    steps: int,
    tol: float | Array | None,
) -> Descent:
    """`loop` for many data sets, of which some at a time are in slots and their data in cache.

    A converged data set gives its slot to the next, so that none waits for the slowest of all.

    Args:
        cost: S(params, *prepared) of one data set.
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
    slots = max(1, min(MAX_SLOTS, SLOT_ELEMENTS // n))  # of n alone: the last bits depend on it
    burst = steps + 1 if tol is None else min(steps + 1, BURST)
    gradients = jax.vmap(jax.grad(cost))

    def take_up(ids: Array) -> tuple[_Slot, tuple]:
        def rows(a: Array) -> Array:  # slots in front, where vmap needs them to be fast
            return jnp.moveaxis(jnp.take(a, jnp.minimum(ids, m - 1), axis=-1), -1, 0)

        theta, own = jax.tree.map(rows, (params, data))
        prepared = jax.vmap(prepare)(own)
        slot = _Slot(
            params=theta,
            gradient=gradients(theta, *prepared),
            opt_state=jax.vmap(optimizer.init)(theta),
            taken=jnp.zeros(slots, jnp.int32),
            done=ids >= m,
        )
        return slot, prepared

    def step(slot: _Slot, *prepared: Any) -> _Slot:
        done = slot.done | (slot.taken >= steps)
        if tol is not None:
            done |= optax.tree.norm(slot.gradient) <= tol

        def value_of(theta: Array) -> Array:
            return cost(theta, *prepared)

        value = value_of(slot.params)  # which most optimizers do not read, and which is then not computed
        theta, opt_state = _moved(slot.params, slot.opt_state, slot.gradient, optimizer, value, value_of)
        moved = replace(slot, params=theta, opt_state=opt_state, taken=slot.taken + 1)
        return _choose(done, replace(slot, done=done), moved)

    # The gradient ends the body: what is computed from a sum in the same kernel keeps XLA from
    # vectorizing the sum, and a step takes six times as long.
    def steps_of(prepared: tuple, _: Any, slot: _Slot) -> _Slot:
        slot = jax.vmap(step)(slot, *prepared)
        return replace(slot, gradient=gradients(slot.params, *prepared))

    def round_(state: tuple) -> tuple:
        ids, next_id, slot, prepared, ends = state
        slot = lax.fori_loop(0, burst, partial(steps_of, prepared), slot)
        value = jax.vmap(cost)(slot.params, *prepared)
        norm = jax.vmap(optax.tree.norm)(slot.gradient)
        place = jnp.where(slot.done, ids, m)
        end = (slot.params.T, value, norm, slot.taken)
        ends = jax.tree.map(
            lambda whole, a: whole.at[..., place].set(a.astype(whole.dtype), mode="drop"), ends, end
        )
        ids = jnp.where(slot.done, next_id + jnp.cumsum(slot.done) - 1, ids)
        next_id += jnp.sum(slot.done)
        fresh = take_up(ids)
        return ids, next_id, *_choose(slot.done, fresh, (slot, prepared)), ends

    ids = jnp.arange(slots)
    nothing = jnp.zeros(m, params.dtype)
    ends = (jnp.zeros_like(params), nothing, nothing, jnp.zeros(m, jnp.int32))
    state = (ids, jnp.asarray(slots, ids.dtype), *take_up(ids), ends)
    *_, ends = lax.while_loop(lambda state: jnp.any(state[0] < m), round_, state)
    return _ended(*ends, tol)


@pytree
class _Slot:
    """Where a descent is."""

    params: Array
    gradient: Array
    opt_state: Any
    taken: Array
    done: Array


def _moved(
    theta: Any,
    opt_state: Any,
    gradient: Any,
    optimizer: optax.GradientTransformation,
    value: Array,
    value_of: Callable[[Any], Array],
) -> tuple:
    """One step; line searches and learning rates that adapt ask for the cost, the others ignore it."""
    update = optax.with_extra_args_support(optimizer).update
    updates, opt_state = update(gradient, opt_state, theta, value=value, grad=gradient, value_fn=value_of)
    return optax.apply_updates(theta, updates), opt_state


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
