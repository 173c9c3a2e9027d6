"""Gradient descent θ ← θ − α∇S, the flow θ̇ = −∇S in steps of α (seed paper, equation 16).

The package has two gradient-descent loops, and both know the cost only through its value and gradient:
`loop` is one `lax.scan` over the steps of one data set, `in_slots` works through many data sets, a few at
a time.
"""

from __future__ import annotations

import math
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
from jaxreg.numerics import html
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.short_repr import short_repr
from jaxreg.solvers.arguments import as_params_tree, scalar
from jaxreg.status import Status, named_counts

SLOT_ELEMENTS = 2**18  # observations in all slots together, few enough to stay in cache
MAX_SLOTS = 1024
BURST = 32  # steps between two checks for finished slots


@pytree
class History:
    """Every step of a descent: entry 0 is the start, entry k the state after k steps.

    The numbers are those of the descent itself, infinite or NaN from where it diverges.

    Attributes:
        params: θ, with a first axis of length steps + 1.
        cost: S, (steps + 1,).
    """

    params: Any
    cost: Float[Array, " steps_and_start"]

    def __repr__(self) -> str:
        return short_repr(self)


@pytree
class Descent:
    """The end of a descent.

    Attributes:
        params: θ after the last step; NaN if the descent diverged.
        cost: S(θ).
        gradient_norm: |∇S(θ)|, the norm of the momentum.
        steps: the number of steps taken.
        status: `ok`, `not_converged` (|∇S| above `tol` after the last step), `cost_increased` (S above that
            at the start) or `diverged`.
        history: every step with `history=True`, else None.
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

    def __repr__(self) -> str:
        return short_repr(self, status=named_counts)

    def _repr_html_(self) -> str | None:
        """A table of params, S and |∇S| for notebooks; None if there are no values to show."""
        numbers = (self.cost, self.gradient_norm, self.steps, self.status)
        if not html.are_numbers(*numbers, *jax.tree.leaves(self)):
            return None
        batch = self.cost.shape
        rows = {
            "S(θ)": np.asarray(self.cost),
            "|∇S(θ)|": np.asarray(self.gradient_norm),
            "steps": np.asarray(self.steps),
            **_named_params(self.params, batch),
        }
        path = None if self.history is None or batch else np.asarray(self.history.cost)
        curve = "" if path is None or path.ndim != 1 else html.curve(path, "S by step")
        notes = [html.Markup(f"S by step {curve}")] * bool(curve)
        shape = " × ".join(map(str, batch))
        counts = named_counts(self.status)
        return html.quantities(
            f"Descent of {shape} data sets: {counts}" if batch else f"Descent: {counts}", rows, notes
        )


def _named_params(params: Any, batch: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Each param over the data sets; of an array that is large or has other axes all numbers together."""
    named = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name, values = jax.tree_util.keystr(path, simple=True, separator=".") or "θ", np.asarray(leaf)
        axes = values.ndim - len(batch)
        if values.shape[axes:] != batch or math.prod(values.shape[:axes]) > html.MAX_ROWS:
            named[f"{name}, {values.size:,} numbers"] = values
        else:
            own = np.ndindex(values.shape[:axes])
            named |= {f"{name}{list(index) if index else ''}": values[(*index, ...)] for index in own}
    return named


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
    """Gradient descent from `params`: θ ← θ − α∇S with `optax.sgd(α)`, or the update of any optax optimizer.

    Written for one data set; `jax.vmap` applies it to many, and it can be compiled and differentiated. The
    coordinates of the params are used as they are: `jaxreg.learning_rates` gives the α that converge for
    the mean squared error, and with a centered and scaled x α of 0.01 to 0.1 does.

    Args:
        cost: S(params, *data), a pure function that returns one number. Compiled once per function object,
            so define it once.
        params: θ₀, an array or a pytree of arrays; integers are converted to floats.
        *data: arrays passed on to the cost; new data of the same shapes do not recompile.
        optimizer: an optax gradient transformation, also compiled once per object.
        steps: the maximum number of steps.
        tol: the params are frozen as soon as |∇S| ≤ tol. If omitted, every step is taken.
        history: whether to keep the params and the cost of every step.

    Returns:
        `Descent`. If `tol` is omitted, the status of a finite end is `ok`, or `cost_increased` if S is larger
        than at the start by a factor above 1 + √ε of the dtype. A temporary rise in between is allowed.

    Source: seed paper, equation 16.

    >>> x, y = jnp.array([-1.0, 0.0, 1.0]), jnp.array([-1.0, 1.0, 3.0])
    >>> from jaxreg import mean_squared_error
    >>> descend(mean_squared_error, jnp.zeros(2), x, y).params.round(4).tolist()
    [1.0, 2.0]
    """
    check_steps(steps)
    _check_optimizer(optimizer)
    return _compiled(cost, as_params_tree(params), data, optimizer, steps, tol, history)


def loop(
    cost: Callable[..., Array],
    params: Any,
    data: tuple[Any, ...],
    optimizer: optax.GradientTransformation,
    steps: int,
    tol: float | Array | None,
    history: bool,
) -> Descent:
    """`descend` inside compiled code; `tol` may be an array."""
    cost = scalar(cost)
    value_and_gradient = jax.value_and_grad(cost)

    def step(state: tuple, _: None) -> tuple[tuple, tuple | None]:
        theta, opt_state, steps_taken = state
        value, gradient = value_and_gradient(theta, *data)
        next_state = (
            *_updated(theta, opt_state, gradient, optimizer, value, lambda theta: cost(theta, *data)),
            steps_taken + 1,
        )
        if tol is not None:
            next_state = _choose(optax.tree.norm(gradient) <= tol, state, next_state)
        return next_state, ((theta, value) if history else None)

    start = (params, optimizer.init(params), jnp.int32(0))
    (theta, _, steps_taken), path = lax.scan(step, start, length=steps)
    value, gradient = value_and_gradient(theta, *data)
    initial_value = jnp.asarray(cost(params, *data))
    descent = _ended(theta, value, optax.tree.norm(gradient), steps_taken, initial_value, tol)
    return descent if path is None else replace(descent, history=_with_end(path, (theta, value)))


def in_slots(
    cost: Callable[..., Array],
    params: Array,
    data: Any,
    prepare: Callable[[Any], tuple],
    optimizer: optax.GradientTransformation,
    steps: int,
    tol: float | Array | None,
) -> Descent:
    """`loop` for many data sets, a fixed number at a time, each in a slot whose data stay in cache.

    A converged data set gives its slot to the next one, so that none waits for the slowest.

    Args:
        cost: S(params, *prepared) of one data set.
        params: (p, m).
        data: arrays with the data sets on their last axis.
        prepare: the arguments of the cost from the data of one data set, computed once for all steps.
        optimizer: an optax gradient transformation.
        steps: the maximum number of steps.
        tol: a data set is finished as soon as |∇S| ≤ tol.

    Returns:
        `Descent` with the data sets on the last axis of every array.
    """
    m = params.shape[-1]
    n = max(a.size // m for a in jax.tree.leaves(data))
    slots = max(1, min(MAX_SLOTS, SLOT_ELEMENTS // n))  # depends on n alone, as the last bits depend on it
    burst = steps + 1 if tol is None else min(steps + 1, BURST)
    cost = scalar(cost)
    gradients = jax.vmap(jax.grad(cost))

    def load(ids: Array) -> tuple[_Slot, tuple]:
        def rows(a: Array) -> Array:  # slots on axis 0, where vmap is fast
            return jnp.moveaxis(jnp.take(a, jnp.minimum(ids, m - 1), axis=-1), -1, 0)

        theta, own = jax.tree.map(rows, (params, data))
        prepared = jax.vmap(prepare)(own)
        slot = _Slot(
            params=theta,
            gradient=gradients(theta, *prepared),
            opt_state=jax.vmap(optimizer.init)(theta),
            steps_taken=jnp.zeros(slots, jnp.int32),
            initial_value=jax.vmap(cost)(theta, *prepared),
            done=ids >= m,
        )
        return slot, prepared

    def step(slot: _Slot, *prepared: Any) -> _Slot:
        done = slot.done | (slot.steps_taken >= steps)
        if tol is not None:
            done |= optax.tree.norm(slot.gradient) <= tol

        def value_of(theta: Array) -> Array:
            return cost(theta, *prepared)

        value = value_of(slot.params)  # dead code that XLA removes unless the optimizer reads it
        theta, opt_state = _updated(slot.params, slot.opt_state, slot.gradient, optimizer, value, value_of)
        next_slot = replace(slot, params=theta, opt_state=opt_state, steps_taken=slot.steps_taken + 1)
        return _choose(done, replace(slot, done=done), next_slot)

    # The gradient comes last in the body: if anything in the same kernel used its sums, XLA would not
    # vectorize them and a step would take six times as long.
    def step_all(prepared: tuple, _: Any, slot: _Slot) -> _Slot:
        slot = jax.vmap(step)(slot, *prepared)
        return replace(slot, gradient=gradients(slot.params, *prepared))

    def round_(state: tuple) -> tuple:
        ids, next_id, slot, prepared, ends = state
        slot = lax.fori_loop(0, burst, partial(step_all, prepared), slot)
        value = jax.vmap(cost)(slot.params, *prepared)
        norm = jax.vmap(optax.tree.norm)(slot.gradient)
        target = jnp.where(slot.done, ids, m)  # out of bounds, and dropped, while a slot is busy
        end = (slot.params.T, value, norm, slot.steps_taken, slot.initial_value)
        ends = jax.tree.map(
            lambda whole, a: whole.at[..., target].set(a.astype(whole.dtype), mode="drop"), ends, end
        )
        ids = jnp.where(slot.done, next_id + jnp.cumsum(slot.done) - 1, ids)
        next_id += jnp.sum(slot.done)
        return ids, next_id, *_choose(slot.done, load(ids), (slot, prepared)), ends

    ids = jnp.arange(slots)
    zeros = jnp.zeros(m, params.dtype)
    ends = (jnp.zeros_like(params), zeros, zeros, jnp.zeros(m, jnp.int32), zeros)
    state = (ids, jnp.asarray(slots, ids.dtype), *load(ids), ends)
    *_, ends = lax.while_loop(lambda state: jnp.any(state[0] < m), round_, state)
    return _ended(*ends, tol)


@pytree
class _Slot:
    """The state of one descent."""

    params: Array
    gradient: Array
    opt_state: Any
    steps_taken: Array
    initial_value: Array
    done: Array


def _updated(
    theta: Any,
    opt_state: Any,
    gradient: Any,
    optimizer: optax.GradientTransformation,
    value: Array,
    value_of: Callable[[Any], Array],
) -> tuple:
    """Params and optimizer state after one step; line searches also evaluate the cost."""
    update = optax.with_extra_args_support(optimizer).update
    updates, opt_state = update(gradient, opt_state, theta, value=value, grad=gradient, value_fn=value_of)
    return optax.apply_updates(theta, updates), opt_state


def _ended(
    theta: Any,
    value: Array,
    norm: Array,
    steps_taken: Array,
    initial_value: Array,
    tol: float | Array | None,
) -> Descent:
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    # At the minimum S may rise by rounding: its own, or that of params with a narrower dtype.
    eps = max(float(jnp.finfo(a.dtype).eps) for a in (value, *jax.tree.leaves(theta)))
    increased = value - initial_value > eps**0.5 * jnp.abs(initial_value)
    status = jnp.where(increased, Status.cost_increased, Status.not_converged)
    if tol is None:
        status = jnp.where(status == Status.cost_increased, status, Status.ok)
    else:
        status = jnp.where(norm > tol, status, Status.ok)
    status = jnp.where(finite, status, Status.diverged)
    return Descent(
        params=jax.tree.map(lambda a: jnp.where(finite, a, jnp.nan), theta),
        cost=value,
        gradient_norm=norm,
        steps=steps_taken,
        status=status.astype(jnp.int8),
        history=None,
    )


def _choose(condition: Array, a: Any, b: Any) -> Any:
    """`jnp.where` for trees; the condition has the first axes of their arrays."""

    def where(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (jnp.ndim(b) - condition.ndim)), a, b)

    return jax.tree.map(where, a, b)


_compiled = jax.jit(loop, static_argnames=("cost", "optimizer", "steps", "history"))


def check_steps(steps: Any) -> None:
    """Raise unless `steps` is a non-negative integer."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
        raise ValueError(f"steps must be a non-negative integer, got {steps!r}")


def _check_optimizer(optimizer: Any) -> None:
    if all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        return
    is_function = callable(optimizer) and hasattr(optimizer, "__name__")
    value = f"the function {optimizer.__name__} itself: call it" if is_function else repr(optimizer)
    raise TypeError(f"optimizer is an optax optimizer such as optax.sgd(0.01), got {value}")


def _with_end(path: tuple, end: tuple) -> History:
    return History(*jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), path, end))
