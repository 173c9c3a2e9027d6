"""k steps of θ ← θ − α∇S on a quadratic cost at once, by doubling powers of 1 − αH."""

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
    """The result of k steps θ ← θ − α∇S on a quadratic cost, in O(log k) matrix products.

    With P = 1 − αH, k steps turn ∇S into Pᵏ∇S and move θ by −α (1 + P + … + Pᵏ⁻¹) ∇S; doubling k takes two
    matrix products.

    Args:
        H: ∇²S, (p, p, *batch).
        gradient: ∇S at the start, (p, *batch).
        learning_rate: α.
        steps: k.
        tol: a data set stops as soon as |∇S| ≤ tol. If omitted, every step is taken.

    Returns:
        The displacement of θ, (p, *batch), and ∇S at its end, (p, *batch).
    """
    p = gradient.shape[0]
    unit = jnp.eye(p, dtype=H.dtype).reshape(p, p, *(1,) * (H.ndim - 2))
    P = unit - learning_rate * H
    first = (P, unit + jnp.zeros_like(P))
    start = (jnp.zeros_like(P[0] * gradient), gradient + jnp.zeros_like(P[0]))
    bits = max(steps, 1).bit_length()

    def advance(state: tuple[Array, Array], power: tuple[Array, Array]) -> tuple[Array, Array]:
        (displacement, gradient), (P, total) = state, power
        return displacement - learning_rate * small.matvec(total, gradient), small.matvec(P, gradient)

    def doubled(power: tuple[Array, Array]) -> tuple[Array, Array]:
        """Pᵏ and 1 + P + … + Pᵏ⁻¹, with k doubled."""
        P, total = power
        return small.matmul(P, P), total + small.matmul(P, total)

    def bit(j: Any, state: tuple) -> tuple:
        current, power = state
        return _choose(steps >> j & 1, advance(current, power), current), doubled(power)

    end, _ = lax.fori_loop(0, bits, bit, (start, first), unroll=p == 1)  # one kernel
    if tol is None:
        return end

    _, powers = lax.scan(lambda power, _: (doubled(power), power), first, length=bits)

    def continues(state: tuple[Array, Array]) -> Array:
        """Whether |∇S| is above tol and falling: log-convex in k, it never falls again after a rise."""
        size, next_size = small.norm(state[1]), small.norm(advance(state, first)[1])
        return (size > tol) & (next_size < size)

    def bisect(i: Any, state: tuple[Array, tuple]) -> tuple[Array, tuple]:
        """Take 2ʲ more steps if the descent still continues after them: ends one step before the stop."""
        steps_taken, current = state
        j = bits - 1 - i
        ahead = advance(current, jax.tree.map(lambda a: a[j], powers))
        accept = continues(ahead) & (steps_taken + (1 << j) < steps)
        return jnp.where(accept, steps_taken + (1 << j), steps_taken), _choose(accept, ahead, current)

    steps_taken, last = lax.fori_loop(0, bits, bisect, (jnp.zeros_like(P[0, 0], jnp.int32), start))
    stop = _choose(continues(start) & (steps_taken < steps), advance(last, first), start)
    return _choose(small.norm(stop[1]) <= tol, stop, end)


def _choose(condition: Any, a: tuple, b: tuple) -> tuple:
    return jax.tree.map(partial(jnp.where, condition), a, b)
