"""What is left, along an eigenvector of ∇²S, of an error that was 1; λ times that is ∇S.

Each is a function of the eigenvalue λ, for `spectrum.apply`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxreg._typing import Array


def decay(rate: Array, t: Array) -> Array:
    """e^{−λt}."""
    return jnp.exp(-rate * t)


def decay_and_rate(rate: Array, t: Array) -> Array:
    """λe^{−λt}."""
    return rate * decay(rate, t)


def power(rate: Array, alpha: Array, k: Array) -> Array:
    """(1 − αλ)ᵏ: the logarithm keeps the digits of a small αλ."""
    change = alpha * rate
    factor, near = 1 - change, jnp.abs(change) < 0.5
    safe = jnp.where(near | (factor == 0), 1, jnp.abs(factor))
    log = jnp.where(near, jnp.log1p(-jnp.where(near, change, 0)), jnp.log(safe))
    size = jnp.where(k == 0, 1, jnp.where(factor == 0, 0, jnp.exp(k * log)))
    return jnp.where((factor < 0) & (k % 2 == 1), -size, size)


def power_and_rate(rate: Array, alpha: Array, k: Array) -> Array:
    """λ(1 − αλ)ᵏ."""
    return rate * power(rate, alpha, k)


def error_of_steps(rate: Array, alpha: Array, k: Array) -> Array:
    """(1 − αλ)ᵏ − e^{−αλk}."""
    change = alpha * rate
    contracts = change < 1
    small_steps = jnp.exp(-change * k) * jnp.expm1(k * _lag(jnp.where(contracts, change, 0)))
    return jnp.where(contracts, small_steps, power(rate, alpha, k) - jnp.exp(-change * k))


def _lag(change: Array) -> Array:
    """log(1 − r) + r = −r²/2 − r³/3 − …, by the series where the sum would cancel; r < 1."""
    tail = jnp.zeros_like(change)
    for k in reversed(range(2, 18)):
        tail = tail * change + 1 / k
    return jnp.where(change < 0.1, -jnp.square(change) * tail, jnp.log1p(-change) + change)


def swing(rate: Array, gamma: Array, t: Array) -> Array:
    """With inertia and friction γ, of an error at rest."""
    cos, sin, _ = _damped(rate, gamma, t)
    return cos + gamma / 2 * sin


def swing_and_rate(rate: Array, gamma: Array, t: Array) -> Array:
    """λ times that."""
    return rate * swing(rate, gamma, t)


def swing_velocity(rate: Array, gamma: Array, t: Array) -> Array:
    """How fast it changes."""
    return -rate * _damped(rate, gamma, t)[1]


def push(rate: Array, gamma: Array, t: Array) -> Array:
    """The same of no error that has velocity 1."""
    return _damped(rate, gamma, t)[1]


def push_and_rate(rate: Array, gamma: Array, t: Array) -> Array:
    """λ times that."""
    return rate * push(rate, gamma, t)


def push_velocity(rate: Array, gamma: Array, t: Array) -> Array:
    """How fast it changes."""
    return _damped(rate, gamma, t)[2]


def _damped(rates: Array, gamma: Array, t: Array) -> tuple[Array, Array, Array]:
    """C = e^{−γt/2} cos ωt, D = e^{−γt/2} sin(ωt)/ω and Ḋ = C − γD/2; ω² = λ − γ²/4 may have either sign."""
    square = rates - jnp.square(gamma) / 4
    swings = square > 0
    omega = jnp.sqrt(jnp.where(swings, square, 1))
    decay = jnp.exp(-gamma / 2 * t)
    cos, sin = decay * jnp.cos(omega * t), decay * t * jnp.sinc(omega * t / jnp.pi)
    swinging = cos, sin, cos - gamma / 2 * sin

    still = swings | (square == 0)  # whose square root has no derivative
    kappa = jnp.where(still, 0, jnp.sqrt(jnp.where(still, 1, -square)))
    both = gamma / 2 + kappa
    slow_rate = rates / jnp.where(both > 0, both, 1)  # γ/2 − κ, without the difference
    slow, width = jnp.exp(-slow_rate * t), 2 * kappa * t
    fast = slow * jnp.exp(-width)
    narrow = width < 1e-3
    mean = jnp.where(narrow, 1 - width / 2 + width**2 / 6, -jnp.expm1(-width) / jnp.where(narrow, 1, width))
    cos, sin = (slow + fast) / 2, slow * t * mean
    apart = jnp.where(width > 1, 2 * kappa, 1)
    creeping = cos, sin, jnp.where(width > 1, (both * fast - slow_rate * slow) / apart, cos - gamma / 2 * sin)
    return jax.tree.map(lambda a, b: jnp.where(swings, a, b), swinging, creeping)
