"""Trajectories in phase space: position, velocity, momentum and energy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, Float
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.short_repr import short_repr
from jaxreg.solvers.arguments import as_params, scalar
from jaxreg.solvers.descent import check_steps


@pytree
class Trajectory:
    """A trajectory in phase space; for a single time the axis of times is absent.

    Attributes:
        times: t, (times).
        params: θ(t), (times, p, *batch).
        velocity: θ̇(t), (times, p, *batch).
        momentum: p = ∇S(θ(t)), (times, p, *batch). Along the flow it is −θ̇.
        cost: S(θ(t)), (times, *batch).
    """

    times: Float[Array, "*times"]
    params: Float[Array, "*times p *batch"]
    velocity: Float[Array, "*times p *batch"]
    momentum: Float[Array, "*times p *batch"]
    cost: Float[Array, "*times *batch"]

    def __repr__(self) -> str:
        return short_repr(self)

    @property
    @in_own_precision
    def kinetic(self) -> Float[Array, "*times *batch"]:
        """½|θ̇|²."""
        return jnp.sum(jnp.square(self.velocity), axis=self._params_axis) / 2

    @property
    @in_own_precision
    def energy(self) -> Float[Array, "*times *batch"]:
        """½|θ̇|² + S; conserved without friction, falls at the rate γ|θ̇|² with friction γ."""
        return self.kinetic + self.cost

    @property
    @in_own_precision
    def power(self) -> Float[Array, "*times *batch"]:
        """dS/dt = ∇S·θ̇; along the flow θ̇ = −∇S this is −|∇S|², never above 0."""
        return jnp.sum(self.momentum * self.velocity, axis=self._params_axis)

    @property
    def _params_axis(self) -> int:
        return jnp.ndim(self.times)


@in_own_precision
def leapfrog(
    cost: Callable[..., Array],
    params: Any,
    *data: Any,
    time_step: float,
    steps: int,
    velocity: Any = None,
) -> Trajectory:
    """Newton's θ̈ = −∇S without friction, by the leapfrog method (kick, drift, kick).

    Symplectic: if time_step < 2/√λ for the largest eigenvalue λ of ∇²S, the energy ½|θ̇|² + S oscillates by
    O(time_step²) and does not drift. Written for one data set; `jax.vmap` applies it to many.

    Args:
        cost: S(params, *data); compiled once per function object.
        params: θ at time 0, (p,).
        *data: arrays passed on to the cost.
        time_step: h.
        steps: the number of steps.
        velocity: θ̇ at time 0, (p,); 0 if omitted.

    Returns:
        `Trajectory` of steps + 1 times.

    Source: E. Hairer, C. Lubich, G. Wanner, Acta Numerica 12 (2003) 399.

    >>> path = leapfrog(lambda q: q @ q / 2, jnp.array([1.0]), time_step=0.1, steps=63)
    >>> print(path.params[::21, 0].round(1), path.energy[::21].round(2))
    [ 1.  -0.5 -0.5  1. ] [0.5 0.5 0.5 0.5]
    """
    check_steps(steps)
    theta = as_params(params)
    start = jnp.zeros_like(theta) if velocity is None else jnp.asarray(velocity, theta.dtype)
    if theta.ndim != 1 or start.shape != theta.shape:
        raise ValueError(
            f"params and velocity are (p,), those of one data set; got shapes {theta.shape}, {start.shape}"
        )
    return _leapfrog(cost, theta, start, data, jnp.asarray(time_step, theta.dtype), steps)


def _leapfrog_loop(
    cost: Callable[..., Array], theta: Array, velocity: Array, data: tuple, h: float | Array, steps: int
) -> Trajectory:
    value_and_gradient = jax.value_and_grad(scalar(cost))

    def step(state: tuple, _: None) -> tuple[tuple, tuple]:
        theta, v, _, p = state
        v_half = v - h / 2 * p
        new_theta = theta + h * v_half
        new_value, new_p = value_and_gradient(new_theta, *data)
        return (new_theta, v_half - h / 2 * new_p, new_value, new_p), state

    last, path = lax.scan(step, (theta, velocity, *value_and_gradient(theta, *data)), length=steps)
    theta, velocity, value, p = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), path, last)
    times = h * jnp.arange(steps + 1, dtype=theta.dtype)
    return Trajectory(times, theta, velocity, p, value)


_leapfrog = jax.jit(_leapfrog_loop, static_argnums=(0, 5))
