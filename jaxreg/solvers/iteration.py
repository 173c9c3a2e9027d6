"""θ ← θ − α∇S on a quadratic cost, many steps at once: powers of 1 − αH by doubling."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.numerics import small


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
    P = unit - learning_rate * H
    first = (P, unit + jnp.zeros_like(P))
    start = (jnp.zeros_like(P[0] * gradient), gradient + jnp.zeros_like(P[0]))
    bits = max(steps, 1).bit_length()

    def advance(state: tuple[Array, Array], power: tuple[Array, Array]) -> tuple[Array, Array]:
        (moved, slope), (P, total) = state, power
        return moved - learning_rate * small.matvec(total, slope), small.matvec(P, slope)

    def doubled(power: tuple[Array, Array]) -> tuple[Array, Array]:
        """Pᵏ and 1 + P + … + Pᵏ⁻¹ for twice the k."""
        P, total = power
        return small.matmul(P, P), total + small.matmul(P, total)

    def bit(j: Any, state: tuple) -> tuple:
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

    def longest(i: Any, state: tuple[Array, tuple]) -> tuple[Array, tuple]:
        taken, here = state
        j = bits - 1 - i
        there = advance(here, jax.tree.map(lambda a: a[j], powers))
        go = goes_on(there) & (taken + (1 << j) < steps)
        return jnp.where(go, taken + (1 << j), taken), _choose(go, there, here)

    taken, last = lax.fori_loop(0, bits, longest, (jnp.zeros_like(P[0, 0], jnp.int32), start))
    stop = _choose(goes_on(start) & (taken < steps), advance(last, first), start)
    return _choose(small.norm(stop[1]) <= tol, stop, end)


def _choose(condition: Any, a: tuple, b: tuple) -> tuple:
    return jax.tree.map(partial(jnp.where, condition), a, b)
