"""The flow θ̇ = −∇S of which gradient descent is the discretization (seed paper, equations 8, 12, 13)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, Float
from jaxreg.closed_form import is_usable
from jaxreg.moments import Moments
from jaxreg.precision import in_own_precision


class LearningRates(NamedTuple):
    """Two learning rates α of θ ← θ − α∇S, one pair per data set.

    Attributes:
        largest: 2 / λmax of ∇²S; the descent converges for every α below.
        best: 2 / (λmin + λmax), at which the error shrinks fastest, by (κ − 1)/(κ + 1) a step.
    """

    largest: Float[Array, "*batch"]
    best: Float[Array, "*batch"]


@in_own_precision
def momentum(cost: Callable[..., Array], params: Any, *data: Any) -> Any:
    """p = ∇S(θ), equation 8; for a line −2⟨y − β₀ − β₁x⟩ and −2⟨x(y − β₀ − β₁x)⟩, equations 10 to 13.

    Args:
        cost: S(params, *data).
        params: θ.
        *data: what the cost reads.

    Returns:
        The gradient, of the shape of params.

    >>> from jaxreg import mean_squared_error
    >>> x, y = jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0])
    >>> momentum(mean_squared_error, jnp.zeros(2), x, y).tolist()
    [-4.0, -3.0]
    """
    return jax.grad(cost)(params, *data)


@in_own_precision
@jax.jit
def learning_rates(moments: Moments) -> LearningRates:
    """The learning rates that converge on the mean squared error in the units of the data.

    Each step multiplies the error along an eigenvector of H = ∇²S = 2⟨φ φᵀ⟩ by 1 − αλ.

    Args:
        moments: of one data set or of many.

    Returns:
        `LearningRates`, NaN where there are no moments. Where the two agree to rounding, as for an
        intercept beside a raw calendar year, λmin is next to 0 and the descent is hopeless in these
        coordinates: center and scale x, as `GradientDescent` does.

    Source: B. T. Polyak, Introduction to Optimization (1987), section 1.4.

    >>> from jaxreg import moments
    >>> rates = learning_rates(moments(jnp.array([-1.0, 0.0, 1.0]), jnp.zeros(3)))
    >>> [round(float(rate), 3) for rate in rates]
    [1.0, 0.6]
    """
    H = 2 * jnp.moveaxis(moments.gram, (0, 1), (-2, -1))
    rates = jnp.linalg.eigvalsh(jnp.where(is_usable(moments)[..., None, None], H, jnp.nan))
    least, most = rates[..., 0], rates[..., -1]
    return LearningRates(2 / most, 2 / (jnp.maximum(least, 0) + most))


def iterated(
    H: Array, gradient: Array, learning_rate: Any, steps: int, tol: Any = None
) -> tuple[Array, Array]:
    """Where θ ← θ − α∇S leads on a quadratic cost, without taking the steps.

    With P = 1 − αH, k steps make ∇S into Pᵏ∇S and move θ by −α (1 + P + … + Pᵏ⁻¹) ∇S; both matrices
    double their k with two products.

    Args:
        H: ∇²S, (p, p, *batch).
        gradient: ∇S at the start, (p, *batch).
        learning_rate: α.
        steps: k.
        tol: a data set stops where |∇S| ≤ tol. Without, every step is taken.

    Returns:
        By what θ has moved, (p, *batch), and ∇S at its end, (p, *batch).
    """
    p = gradient.shape[0]
    unit = jnp.eye(p, dtype=H.dtype).reshape(p, p, *(1,) * (H.ndim - 2))
    start = (jnp.zeros_like(gradient), gradient)
    powers = _doubled(unit - learning_rate * H, unit, max(steps, 1).bit_length())

    def advance(state: tuple[Array, Array], j: Array) -> tuple[Array, Array]:
        moved, slope = state
        P, total = powers[0][j], powers[1][j]
        return moved - learning_rate * _times(total, slope), _times(P, slope)

    def all_steps(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return jax.tree.map(lambda a, b: jnp.where(steps >> j & 1, a, b), advance(state, j), state)

    bits = powers[0].shape[0]
    end = lax.fori_loop(0, bits, all_steps, start)
    if tol is None:
        return end

    def goes_on(state: tuple[Array, Array]) -> Array:
        """|∇S| is above tol and falls: being log-convex in k, it never does again once it does not."""
        size, next_size = (jnp.linalg.norm(a, axis=0) for a in (state[1], advance(state, 0)[1]))
        return (size > tol) & (next_size < size)

    def longest(i: Array, state: tuple[Array, tuple]) -> tuple[Array, tuple]:
        taken, here = state
        j = bits - 1 - i
        there = advance(here, j)
        go = goes_on(there) & (taken + (1 << j) < steps)
        return jnp.where(go, taken + (1 << j), taken), jax.tree.map(partial(jnp.where, go), there, here)

    taken, last = lax.fori_loop(0, bits, longest, (jnp.zeros(H.shape[2:], jnp.int32), start))
    stop = jax.tree.map(partial(jnp.where, goes_on(start) & (taken < steps)), advance(last, 0), start)
    met = jnp.linalg.norm(stop[1], axis=0) <= tol
    return jax.tree.map(partial(jnp.where, met), stop, end)


def _doubled(P: Array, unit: Array, bits: int) -> tuple[Array, Array]:
    """P^k and 1 + P + … + P^{k−1} for k = 1, 2, 4, …, each (bits, p, p, *batch)."""

    def double(state: tuple[Array, Array], _: None) -> tuple[tuple, tuple]:
        P, total = state
        return (_times(P, P), total + _times(P, total)), state

    return lax.scan(double, (P, jnp.broadcast_to(unit, P.shape)), length=bits)[1]


def _times(a: Array, b: Array) -> Array:
    """The product over the first axes, written out: XLA does not vectorize a sum over so few."""
    columns = [a[:, k, None] if b.ndim == a.ndim else a[:, k] for k in range(a.shape[1])]
    terms = [column * b[k] for k, column in enumerate(columns)]
    return sum(terms[1:], terms[0])
