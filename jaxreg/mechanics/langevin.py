"""Langevin sampling of e^{−S/T}: the flow with noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array, Float
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.short_repr import short_repr
from jaxreg.solvers.arguments import as_params, one_positive, scalar
from jaxreg.solvers.descent import check_steps


@pytree
class Samples:
    """Samples of e^{−S/T} from one chain.

    Attributes:
        params: θ after each step, (steps, p).
        cost: S(θ), (steps).
        acceptance: the fraction of proposed steps that were accepted.
    """

    params: Float[Array, "steps p"]
    cost: Float[Array, " steps"]
    acceptance: Float[Array, ""]

    def __repr__(self) -> str:
        return short_repr(self)


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
    """Samples of the density e^{−S/T} by the Langevin equation dθ = −∇S dt + √(2T) dW, the flow with noise.

    Each step proposes θ − h∇S + √(2Th) ξ and accepts or rejects it by Metropolis' rule, so that the density
    is exact for any h. Written for one chain; `jax.vmap` over keys runs many.

    Args:
        cost: S(params, *data); compiled once per function object.
        params: θ at the start, (p,).
        *data: arrays passed on to the cost.
        temperature: T > 0 in units of S.
        key: a key of `jax.random`.
        steps: the number of samples to return.
        warmup: the number of steps to discard before them.
        time_step: h. If omitted, p^{−⅓} / λ with the largest |λ| of ∇²S at the start; most steps are then
            accepted if the curvature there is typical, as at a minimum.

    Returns:
        `Samples`; correlated over about λmax/λmin steps, and over the whole chain if `acceptance` is
        close to 0.

    Source: G. O. Roberts, R. L. Tweedie, Bernoulli 2 (1996) 341.

    >>> chain = sample(lambda q: q @ q / 2, jnp.zeros(1), temperature=0.5, key=jax.random.key(0))
    >>> bool(abs(chain.params.var() - 0.5) < 0.05)
    True
    """
    check_steps(steps)
    check_steps(warmup)
    theta = as_params(params)
    if theta.ndim != 1 or not theta.size:
        raise ValueError(f"params is the start of the chain, (p,); got shape {theta.shape}")
    T = one_positive("temperature", temperature, theta)
    if time_step is None:
        time_step = _time_step(cost, theta, data)
    h = one_positive("time_step", time_step, theta)
    return _chain(cost, theta, data, T, h, key, steps, warmup)


def _time_step(cost: Callable[..., Array], theta: Array, data: tuple) -> Array:
    largest = jnp.max(jnp.abs(jnp.linalg.eigvalsh(jax.hessian(scalar(cost))(theta, *data))))
    if not isinstance(largest, Tracer) and not 0 < largest < jnp.inf:
        raise ValueError(f"the cost has curvature {largest} at the start: pass a time_step, or another start")
    return theta.size ** (-1 / 3) / largest


@partial(jax.jit, static_argnums=(0, 6, 7))
def _chain(
    cost: Callable[..., Array],
    theta: Array,
    data: tuple,
    T: Array,
    h: Array,
    key: Array,
    steps: int,
    warmup: int,
) -> Samples:
    value_and_gradient = jax.value_and_grad(lambda theta: scalar(cost)(theta, *data))

    def step(state: tuple, key: Array) -> tuple[tuple, tuple]:
        theta, value, p = state
        noise_key, accept_key = jax.random.split(key)
        move = jnp.sqrt(2 * T * h) * jax.random.normal(noise_key, theta.shape, theta.dtype) - h * p
        new_value, new_p = value_and_gradient(theta + move)
        forward, backward = jnp.sum(jnp.square(move + h * p)), jnp.sum(jnp.square(move - h * new_p))
        log_ratio = (value - new_value) / T + (forward - backward) / (4 * T * h)
        accept = jnp.log(jax.random.uniform(accept_key, dtype=theta.dtype)) < log_ratio
        state = jax.tree.map(partial(jnp.where, accept), (theta + move, new_value, new_p), state)
        return state, (state[0], state[1], accept)

    start = (theta, *value_and_gradient(theta))
    _, (path, values, accepted) = lax.scan(step, start, jax.random.split(key, warmup + steps))
    return Samples(path[warmup:], values[warmup:], jnp.mean(accepted[warmup:], dtype=theta.dtype))
