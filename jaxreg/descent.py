"""Gradient descent θ ← θ − α∇S, the flow θ̇ = −∇S in steps of α (seed paper, equation 16).

The only gradient-descent loop in the package: one `lax.scan` that knows no mathematics but the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
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
    cost: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Int[Array, ""]
    status: Int[Array, ""]
    history: History | None

    @property
    def converged(self) -> Bool[Array, ""]:
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
        updates, next_memory = optimizer.update(gradient, memory, theta)
        moved = (optax.apply_updates(theta, updates), next_memory, taken + 1)
        if tol is not None:
            done = optax.tree.norm(gradient) <= tol
            moved = jax.tree.map(partial(jnp.where, done), state, moved)
        return moved, ((theta, value) if history else None)

    start = (params, optimizer.init(params), jnp.int32(0))
    (theta, _, taken), before = lax.scan(step, start, length=steps)
    value, gradient = slope(theta, *data)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    above = False if tol is None else norm > tol
    status = jnp.where(finite, jnp.where(above, Status.not_converged, Status.ok), Status.diverged)
    return Descent(
        params=jax.tree.map(lambda a: jnp.where(finite, a, jnp.nan), theta),
        cost=value,
        gradient_norm=norm,
        steps=taken,
        status=status.astype(jnp.int8),
        history=None if before is None else _with_end(before, (theta, value)),
    )


_compiled = jax.jit(loop, static_argnames=("cost", "optimizer", "steps", "history"))


def check_steps(steps: Any) -> None:
    """Raise on a number of steps that is none."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
        raise ValueError(f"steps is a whole number, 0 or more; got {steps!r}")


def _with_end(before: tuple, end: tuple) -> History:
    return History(*jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), before, end))
