"""Langevin's walk: the flow with noise, whose density is e^{−S/T}."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array, Float
from jaxreg.mechanics.arguments import as_params, one_positive
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.solvers.descent import check_steps


@pytree
class Samples:
    """A walk through e^{−S/T}.

    Attributes:
        params: θ after each step, (steps, p).
        cost: S(θ), (steps).
        acceptance: the share of proposed steps that were taken.
    """

    params: Float[Array, "steps p"]
    cost: Float[Array, " steps"]
    acceptance: Float[Array, ""]


@in_own_precision
def sample(
    cost: Callable[..., Array],
    params: Any,
    *data: Any,
    temperature: Any,
    key: Array,
    steps: int = 10_000,
    warmup: int = 1_000,
    time_step: Any = None,
) -> Samples:
    """Langevin's dθ = −∇S dt + √(2T) dW, the flow with noise, whose density becomes e^{−S/T}.

    θ ← θ − h∇S + √(2Th) ξ with a Metropolis step, which makes the density exact at any h. Written for one
    walk: `jax.vmap` over keys makes many.

    Args:
        cost: S(params, *data); compiled once per function object.
        params: θ at the start, (p,).
        *data: what the cost reads.
        temperature: T > 0 in units of S.
        key: of `jax.random`.
        steps: how many to return.
        warmup: how many to take before.
        time_step: h; p^{−⅓} / λ of the largest |λ| of ∇²S at the start without, so that most steps are
            taken where the start is as curved as the rest: a minimum is one.

    Returns:
        `Samples`; neighbors are correlated over about λmax/λmin steps, and over all of them where the
        `acceptance` is next to 0.

    Source: G. O. Roberts, R. L. Tweedie, Bernoulli 2 (1996) 341.

    >>> walk = sample(lambda q: q @ q / 2, jnp.zeros(1), temperature=0.5, key=jax.random.key(0))
    >>> bool(abs(walk.params.var() - 0.5) < 0.05)
    True
    """
    check_steps(steps)
    check_steps(warmup)
    theta = as_params(params)
    if theta.ndim != 1 or not theta.size:
        raise ValueError(f"params is (p,), where the walk begins; got shape {theta.shape}")
    T = one_positive("temperature", temperature, theta)
    if time_step is None:
        time_step = _time_step(cost, theta, data)
    h = one_positive("time_step", time_step, theta)
    return _walk(cost, theta, data, T, h, key, steps, warmup)


def _time_step(cost: Callable[..., Array], theta: Array, data: tuple) -> Array:
    largest = jnp.max(jnp.abs(jnp.linalg.eigvalsh(jax.hessian(cost)(theta, *data))))
    if not isinstance(largest, Tracer) and not 0 < largest < jnp.inf:
        raise ValueError(
            f"the cost has curvature {largest} at the start: pass a time_step, or begin elsewhere"
        )
    return theta.size ** (-1 / 3) / largest


@partial(jax.jit, static_argnums=(0, 6, 7))
def _walk(
    cost: Callable[..., Array],
    theta: Array,
    data: tuple,
    T: Array,
    h: Array,
    key: Array,
    steps: int,
    warmup: int,
) -> Samples:
    slope = jax.value_and_grad(lambda theta: cost(theta, *data))

    def step(state: tuple, key: Array) -> tuple[tuple, tuple]:
        theta, value, p = state
        to_noise, to_choice = jax.random.split(key)
        move = jnp.sqrt(2 * T * h) * jax.random.normal(to_noise, theta.shape, theta.dtype) - h * p
        value_there, p_there = slope(theta + move)
        out, back = jnp.sum(jnp.square(move + h * p)), jnp.sum(jnp.square(move - h * p_there))
        log_ratio = (value - value_there) / T + (out - back) / (4 * T * h)
        taken = jnp.log(jax.random.uniform(to_choice, dtype=theta.dtype)) < log_ratio
        there = (theta + move, value_there, p_there)
        state = jax.tree.map(partial(jnp.where, taken), there, state)
        return state, (state[0], state[1], taken)

    _, (path, values, taken) = lax.scan(step, (theta, *slope(theta)), jax.random.split(key, warmup + steps))
    return Samples(path[warmup:], values[warmup:], jnp.mean(taken[warmup:], dtype=theta.dtype))
