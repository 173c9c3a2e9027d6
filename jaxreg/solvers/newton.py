"""Damped Newton's method for a few params, to minima and to stationary points of any kind.

Works in z = θ / d with d_k ≈ |H_kk|^{−½}, H = ∇²S, which makes it independent of the units of the params.
Along each eigenvector of H the step is −∇S times a factor that tends to 1/λ without damping and to 0 as the
damping grows; the damping is raised until the merit falls. Merit and factor are those of a minimum (S) or of
any stationary point (|∇S|²).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array

MAX_STEPS = 200
ROUNDING = 1e3  # difference, in units of the last digit, below which two results are the same point
EQUILIBRATIONS = 5  # each halves the number of decades by which the entries of H differ
FIRST_DAMPING, EASED, RAISED = 1e-3, 0.1, 4.0  # in units of the largest |λ|, and its factors after a step

Cost = Callable[[Array], Array]


def minimum(cost: Cost, theta: Array, steps: int = MAX_STEPS) -> Array:
    """A minimum of S, by Newton's method with |λ| in place of λ, which always descends.

    Comparing values of S determines θ to half the digits; a search for ∇S = 0 adds the other half.
    """
    end = _descend(cost, lambda _: cost, lambda rate, damping: 1 / (jnp.abs(rate) + damping), theta, steps)
    return turning_point(cost, end, steps)


def turning_point(cost: Cost, theta: Array, steps: int = MAX_STEPS) -> Array:
    """A point with ∇S = 0 of any kind near θ, by least squares on ∇S; `examine` says whether it is one."""

    def squared_gradient(d: Array) -> Cost:
        return lambda theta: jnp.sum(jnp.square(d * jax.grad(cost)(theta)))

    def factor(rate: Array, damping: Array) -> Array:
        return rate / (jnp.square(rate) + jnp.square(damping))

    return _descend(cost, squared_gradient, factor, theta, steps)


class Diagnosis(NamedTuple):
    """Properties of the end of a search.

    Attributes:
        converged: whether the next Newton step, |z − z'|, is below √ε times |z| or the distance to the start.
        singular: whether an eigenvalue of H is 0 to rounding, so that the point is not isolated.
        rates: the eigenvalues of H in units of z; their signs are those of H.
    """

    converged: Array
    singular: Array
    rates: Array


def examine(cost: Cost, start: Array, theta: Array) -> Diagnosis:
    """Whether the search from `start` has converged at θ, and whether H is singular there."""
    local = _Local.at(cost, theta)
    eps = float(jnp.finfo(theta.dtype).eps)
    size = jnp.hypot(_length(theta / local.d), _length((theta - start) / local.d))
    flat = jnp.abs(local.rates) <= 8 * theta.size * eps * jnp.max(jnp.abs(local.rates))
    step = local.gradient / jnp.where(flat, 1, local.rates)
    at_bottom = jnp.abs(local.gradient) <= eps**0.5 * jnp.max(jnp.abs(local.rates)) * size  # of a valley
    converged = (_length(jnp.where(flat, 0, step)) <= eps**0.5 * size) & jnp.all(at_bottom | ~flat)

    # If H vanishes at the point, as for θ⁴, the search ends next to it, where λ is small but changes by more
    # than itself over a distance of √ε.
    flattest = jnp.argmin(jnp.abs(local.rates))
    v = local.d * local.V[:, flattest]
    rate_nearby = v @ jax.hessian(cost)(theta + eps**0.5 * size * v) @ v
    vanishes = jnp.abs(local.rates[flattest]) <= jnp.abs(rate_nearby - local.rates[flattest])
    return Diagnosis(converged, jnp.any(flat) | vanishes, local.rates)


def same(H: Array, theta: Array, other: Array, size: Array) -> Array:
    """Whether two points with ∇S = 0 are the same: H(θ − θ') is within the rounding error of ∇S.

    Args:
        H: ∇²S at θ.
        theta: θ.
        other: θ'.
        size: the typical size of each param, (p,).
    """
    tolerance = ROUNDING * jnp.finfo(theta.dtype).eps * (jnp.abs(H) @ (jnp.abs(theta) + size))
    return jnp.all(jnp.abs(H @ (other - theta)) <= tolerance)


def implicit(cost: Cost, theta: Array, usable: Array) -> Array:
    """θ after two more Newton steps, which make its first two derivatives those of the stationary point."""
    for _ in range(2):
        H = jnp.where(usable, jax.hessian(cost)(theta), jnp.eye(theta.size, dtype=theta.dtype))
        theta = theta - jnp.where(usable, jnp.linalg.solve(H, jax.grad(cost)(theta)), 0)
    return theta


class _Local(NamedTuple):
    """S near θ to second order: the unit d of each param, eigenvalues and eigenvectors of dHd, and Vᵀd∇S."""

    d: Array
    rates: Array
    V: Array
    gradient: Array

    @classmethod
    def at(cls, cost: Cost, theta: Array) -> _Local:
        H = jax.hessian(cost)(theta)
        d = _units(H)
        rates, V = jnp.linalg.eigh(d[:, None] * H * d)
        return cls(d, rates, V, V.T @ (d * jax.grad(cost)(theta)))


def _units(H: Array) -> Array:
    """d that makes the largest entry of each row of dHd equal to 1, by equilibration from |H_kk|^{−½}.

    Source: D. Ruiz, report RAL-TR-2001-034 (2001).
    """
    diagonal = jnp.abs(jnp.diag(H))
    d = jnp.where(diagonal > 0, 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
    for _ in range(EQUILIBRATIONS):
        largest = jnp.max(jnp.abs(d[:, None] * H * d), axis=1)
        d = d / jnp.sqrt(jnp.where(largest > 0, largest, 1))
    return d


def _descend(
    cost: Cost,
    merit: Callable[[Array], Cost],
    factor: Callable[[Array, Array], Array],
    theta: Array,
    steps: int,
) -> Array:
    """Damped steps until they are below rounding; the merit of a step is in the units d at its beginning."""
    eps = float(jnp.finfo(theta.dtype).eps)

    def continues(state: tuple[Any, ...]) -> Array:
        count, theta, _, move = state
        return (count < steps) & jnp.any(jnp.abs(move) > eps * jnp.abs(theta))

    def damped_step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        count, theta, damping, _ = state
        local = _Local.at(cost, theta)
        largest = jnp.maximum(jnp.max(jnp.abs(local.rates)), jnp.finfo(theta.dtype).tiny)
        move = -local.d * (local.V @ (factor(local.rates, damping * largest) * local.gradient))
        value = merit(local.d)
        better = value(theta + move) < value(theta)
        damping = damping * jnp.where(better, EASED, RAISED)
        return count + 1, jnp.where(better, theta + move, theta), damping, move

    zero = jnp.zeros_like(theta[0])  # a constant has no mesh, which `vmap` on an Explicit one needs
    start = (zero.astype(jnp.int32), theta, zero + FIRST_DAMPING, jnp.full_like(theta, jnp.inf))
    return lax.while_loop(continues, damped_step, start)[1]


def _length(a: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(a)))
