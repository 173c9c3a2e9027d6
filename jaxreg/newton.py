"""Newton's method from anywhere, for a few params: minima and any other points with ∇S = 0.

One damped step serves both: along each eigenvector of H = ∇²S, −∇S is multiplied by a factor that is 1/λ
near the end and goes to 0 with growing damping, until the merit falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array

MOST_STEPS = 200
FIRST_DAMPING, EASED, RAISED = 1e-3, 0.1, 4.0  # in units of the largest |λ|


def minimum(cost: Callable[[Array], Array], theta: Array) -> Array:
    """The minimum that the descent from θ leads to; uphill directions are turned around."""
    return _descend(cost, cost, lambda rate, damping: 1 / (jnp.abs(rate) + damping), theta)


def turning_point(cost: Callable[[Array], Array], theta: Array) -> Array:
    """A point with ∇S = 0 of any kind near θ, by least squares on ∇S; where there is none, somewhere."""

    def merit(theta: Array) -> Array:
        return jnp.sum(jnp.square(jax.grad(cost)(theta)))

    return _descend(cost, merit, lambda rate, damping: rate / (jnp.square(rate) + jnp.square(damping)), theta)


class Examined(NamedTuple):
    """What an end of a search is.

    Attributes:
        left: how far Newton's step still leads, |H⁻¹∇S| relative to 1 + |θ|; infinite on a slope.
        rates: the eigenvalues of H.
        singular: whether one of them is 0 to rounding, so that this is no single point.
    """

    left: Array
    rates: Array
    singular: Array


def examine(cost: Callable[[Array], Array], theta: Array) -> Examined:
    """Look at the end of a search."""
    curvature = jax.hessian(cost)
    rates, V = jnp.linalg.eigh(curvature(theta))
    eps, size = jnp.finfo(theta.dtype).eps, 1 + jnp.max(jnp.abs(theta))
    flat = jnp.abs(rates) <= 8 * rates.size * eps * jnp.max(jnp.abs(rates))
    floor = eps**0.5 * jnp.max(jnp.abs(rates)) * size
    slope = V.T @ jax.grad(cost)(theta)
    on_floor = jnp.where(jnp.abs(slope) <= floor, 0, jnp.inf)
    step = jnp.where(flat, on_floor, jnp.abs(slope / jnp.where(flat, 1, rates)))

    # Where H vanishes at a point, as for θ⁴, the search ends next to it: half the digits of θ on it differs.
    flattest = jnp.argmin(jnp.abs(rates))
    beside = curvature(theta + eps**0.5 * size * V[:, flattest])
    change = jnp.abs(V[:, flattest] @ beside @ V[:, flattest] - rates[flattest])
    return Examined(jnp.max(step) / size, rates, jnp.any(flat) | (jnp.abs(rates[flattest]) <= change))


def implicit(cost: Callable[[Array], Array], theta: Array, usable: Array) -> Array:
    """θ with a last step −H⁻¹∇S, whose derivative is that of the point with ∇S = 0, where H is usable."""
    H = jnp.where(usable, jax.hessian(cost)(theta), jnp.eye(theta.size, dtype=theta.dtype))
    return theta - jnp.where(usable, jnp.linalg.solve(H, jax.grad(cost)(theta)), 0)


def _descend(
    cost: Callable[[Array], Array],
    merit: Callable[[Array], Array],
    factor: Callable[[Array, Array], Array],
    theta: Array,
) -> Array:
    eps = float(jnp.finfo(theta.dtype).eps)

    def goes_on(state: tuple[Any, ...]) -> Array:
        taken, theta, _, _, moved = state
        return (taken < MOST_STEPS) & (moved > eps * (1 + jnp.max(jnp.abs(theta))))

    def damped(state: tuple[Any, ...]) -> tuple[Any, ...]:
        taken, theta, value, damping, _ = state
        rates, V = jnp.linalg.eigh(jax.hessian(cost)(theta))
        size = jnp.maximum(jnp.max(jnp.abs(rates)), jnp.finfo(theta.dtype).tiny)
        move = -V @ (factor(rates, damping * size) * (V.T @ jax.grad(cost)(theta)))
        there = merit(theta + move)
        better = there < value
        return (
            taken + 1,
            jnp.where(better, theta + move, theta),
            jnp.where(better, there, value),
            damping * jnp.where(better, EASED, RAISED),
            jnp.max(jnp.abs(move)),
        )

    start = (
        0,
        theta,
        merit(theta),
        jnp.asarray(FIRST_DAMPING, theta.dtype),
        jnp.asarray(jnp.inf, theta.dtype),
    )
    return lax.while_loop(goes_on, damped, start)[1]
