"""The flow θ̇ = −∇S of which gradient descent is the discretization (seed paper, equations 8, 12, 13)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg import small
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
    first = (unit - learning_rate * H, jnp.broadcast_to(unit, H.shape))
    start = (jnp.zeros_like(gradient), gradient)
    bits = max(steps, 1).bit_length()

    def advance(state: tuple[Array, Array], power: tuple[Array, Array]) -> tuple[Array, Array]:
        (moved, slope), (P, total) = state, power
        return moved - learning_rate * small.matvec(total, slope), small.matvec(P, slope)

    def doubled(power: tuple[Array, Array]) -> tuple[Array, Array]:
        """Pᵏ and 1 + P + … + Pᵏ⁻¹ for twice the k."""
        P, total = power
        return small.matmul(P, P), total + small.matmul(P, total)

    def bit(j: Array, state: tuple) -> tuple:
        here, power = state
        return _choose(steps >> j & 1, advance(here, power), here), doubled(power)

    end, _ = lax.fori_loop(0, bits, bit, (start, first))
    if tol is None:
        return end

    _, powers = lax.scan(lambda power, _: (doubled(power), power), first, length=bits)

    def goes_on(state: tuple[Array, Array]) -> Array:
        """|∇S| is above tol and falls: being log-convex in k, it never falls again once it does not."""
        size, next_size = small.norm(state[1]), small.norm(advance(state, first)[1])
        return (size > tol) & (next_size < size)

    def longest(i: Array, state: tuple[Array, tuple]) -> tuple[Array, tuple]:
        taken, here = state
        j = bits - 1 - i
        there = advance(here, jax.tree.map(lambda a: a[j], powers))
        go = goes_on(there) & (taken + (1 << j) < steps)
        return jnp.where(go, taken + (1 << j), taken), _choose(go, there, here)

    taken, last = lax.fori_loop(0, bits, longest, (jnp.zeros(H.shape[2:], jnp.int32), start))
    stop = _choose(goes_on(start) & (taken < steps), advance(last, first), start)
    return _choose(small.norm(stop[1]) <= tol, stop, end)


def _choose(condition: Any, a: tuple, b: tuple) -> tuple:
    return jax.tree.map(partial(jnp.where, condition), a, b)
