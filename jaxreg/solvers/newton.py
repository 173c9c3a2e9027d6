"""Newton's method from anywhere, for a few params: minima and any other points with ∇S = 0.

All of it is done in z = θ / d with d_k = |H_kk|^{−½} of H = ∇²S, where no unit of a param matters. One
damped step serves both: along each eigenvector of H, −∇S is multiplied by a factor that is 1/λ near the end
and goes to 0 with growing damping, until the merit falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array

MAX_STEPS = 200
ROUNDING = 1e3  # in units of the last digit: what two ends of one search may differ by
SCALINGS = 5  # of the units of params: each halves the decades that they are off
FIRST_DAMPING, EASED, RAISED = 1e-3, 0.1, 4.0  # in units of the largest |λ|

Cost = Callable[[Array], Array]


def minimum(cost: Cost, theta: Array) -> Array:
    """The minimum that the descent from θ leads to; uphill directions are turned around.

    S tells half the digits of θ apart, and ∇S then the rest.
    """
    end = _descend(cost, lambda _: cost, lambda rate, damping: 1 / (jnp.abs(rate) + damping), theta)
    return turning_point(cost, end)


def turning_point(cost: Cost, theta: Array) -> Array:
    """A point with ∇S = 0 of any kind near θ, by least squares on ∇S; where there is none, somewhere."""

    def size_of_slope(d: Array) -> Cost:
        return lambda theta: jnp.sum(jnp.square(d * jax.grad(cost)(theta)))

    return _descend(
        cost, size_of_slope, lambda rate, damping: rate / (jnp.square(rate) + jnp.square(damping)), theta
    )


class Examined(NamedTuple):
    """What the end of a search is.

    Attributes:
        converged: whether Newton's next step, |z − z'|, is below √ε of |z| and of the way from the start.
        singular: whether an eigenvalue of H is 0 to rounding, so that this is no point by itself.
        rates: the eigenvalues of H in units of z; their signs are those of H.
    """

    converged: Array
    singular: Array
    rates: Array


def examine(cost: Cost, start: Array, theta: Array) -> Examined:
    """Look at the end of a search."""
    here = _Local.at(cost, theta)
    eps = float(jnp.finfo(theta.dtype).eps)
    size = jnp.hypot(_length(theta / here.d), _length((theta - start) / here.d))
    flat = jnp.abs(here.rates) <= 8 * theta.size * eps * jnp.max(jnp.abs(here.rates))
    step = here.slope / jnp.where(flat, 1, here.rates)
    on_floor = jnp.abs(here.slope) <= eps**0.5 * jnp.max(jnp.abs(here.rates)) * size  # of a valley
    converged = (_length(jnp.where(flat, 0, step)) <= eps**0.5 * size) & jnp.all(on_floor | ~flat)

    # Where H vanishes at a point, as for θ⁴, the search ends beside it; half the digits of θ on H differs.
    flattest = jnp.argmin(jnp.abs(here.rates))
    v = here.d * here.V[:, flattest]
    beside = v @ jax.hessian(cost)(theta + eps**0.5 * size * v) @ v
    vanishes = jnp.abs(here.rates[flattest]) <= jnp.abs(beside - here.rates[flattest])
    return Examined(converged, jnp.any(flat) | vanishes, here.rates)


def same(H: Array, theta: Array, other: Array, size: Array) -> Array:
    """Whether two points with ∇S = 0 are one: H(θ − θ') is no more than rounding makes of ∇S.

    Args:
        H: ∇²S at θ.
        theta: θ.
        other: θ'.
        size: how large params are, (p,).
    """
    room = ROUNDING * jnp.finfo(theta.dtype).eps * (jnp.abs(H) @ (jnp.abs(theta) + size))
    return jnp.all(jnp.abs(H @ (other - theta)) <= room)


def implicit(cost: Cost, theta: Array, usable: Array) -> Array:
    """θ after two last steps −H⁻¹∇S, which make two derivatives those of the point with ∇S = 0."""
    for _ in range(2):
        H = jnp.where(usable, jax.hessian(cost)(theta), jnp.eye(theta.size, dtype=theta.dtype))
        theta = theta - jnp.where(usable, jnp.linalg.solve(H, jax.grad(cost)(theta)), 0)
    return theta


class _Local(NamedTuple):
    """S near θ to second order: the unit d of every param, eigenvalues and eigenvectors of dHd, and Vᵀd∇S."""

    d: Array
    rates: Array
    V: Array
    slope: Array

    @classmethod
    def at(cls, cost: Cost, theta: Array) -> _Local:
        H = jax.hessian(cost)(theta)
        d = _units(H)
        rates, V = jnp.linalg.eigh(d[:, None] * H * d)
        return cls(d, rates, V, V.T @ (d * jax.grad(cost)(theta)))


def _units(H: Array) -> Array:
    """d that makes 1 the largest entry of each row of dHd; where no diagonal entry is 0, |H_kk|^{−½} is near.

    Source: D. Ruiz, report RAL-TR-2001-034 (2001).
    """
    diagonal = jnp.abs(jnp.diag(H))
    d = jnp.where(diagonal > 0, 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
    for _ in range(SCALINGS):
        largest = jnp.max(jnp.abs(d[:, None] * H * d), axis=1)
        d = d / jnp.sqrt(jnp.where(largest > 0, largest, 1))
    return d


def _descend(
    cost: Cost, merit: Callable[[Array], Cost], factor: Callable[[Array, Array], Array], theta: Array
) -> Array:
    """Damped steps until none moves θ; the merit of a step is that in the units of its begin."""
    eps = float(jnp.finfo(theta.dtype).eps)

    def goes_on(state: tuple[Any, ...]) -> Array:
        taken, theta, _, move = state
        return (taken < MAX_STEPS) & jnp.any(jnp.abs(move) > eps * jnp.abs(theta))

    def damped(state: tuple[Any, ...]) -> tuple[Any, ...]:
        taken, theta, damping, _ = state
        here = _Local.at(cost, theta)
        largest = jnp.maximum(jnp.max(jnp.abs(here.rates)), jnp.finfo(theta.dtype).tiny)
        move = -here.d * (here.V @ (factor(here.rates, damping * largest) * here.slope))
        value = merit(here.d)
        better = value(theta + move) < value(theta)
        damping = damping * jnp.where(better, EASED, RAISED)
        return taken + 1, jnp.where(better, theta + move, theta), damping, move

    start = (0, theta, jnp.asarray(FIRST_DAMPING, theta.dtype), jnp.full_like(theta, jnp.inf))
    return lax.while_loop(goes_on, damped, start)[1]


def _length(a: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(a)))
