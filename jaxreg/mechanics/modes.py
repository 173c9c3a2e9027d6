"""The error along an eigenvector of ∇²S as a function of time, from an initial error of 1.

Each is a function of the eigenvalue λ, for `spectrum.apply`. λ times the error is ∇S.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxreg._typing import Array


def decay(rate: Array, t: Array) -> Array:
    """e^{−λt}."""
    return jnp.exp(-rate * t)


def decay_times_rate(rate: Array, t: Array) -> Array:
    """λe^{−λt}."""
    return rate * decay(rate, t)


def power(rate: Array, alpha: Array, k: Array) -> Array:
    """(1 − αλ)ᵏ, by log1p so that a small αλ keeps its digits."""
    change = alpha * rate
    factor, is_small = 1 - change, jnp.abs(change) < 0.5
    safe = jnp.where(is_small | (factor == 0), 1, jnp.abs(factor))
    log = jnp.where(is_small, jnp.log1p(-jnp.where(is_small, change, 0)), jnp.log(safe))
    size = jnp.where(k == 0, 1, jnp.where(factor == 0, 0, jnp.exp(k * log)))
    return jnp.where((factor < 0) & (k % 2 == 1), -size, size)


def power_times_rate(rate: Array, alpha: Array, k: Array) -> Array:
    """λ(1 − αλ)ᵏ."""
    return rate * power(rate, alpha, k)


def step_error(rate: Array, alpha: Array, k: Array) -> Array:
    """(1 − αλ)ᵏ − e^{−αλk}."""
    change = alpha * rate
    is_small = change < 1
    without_cancellation = jnp.exp(-change * k) * jnp.expm1(k * _log1p_less(jnp.where(is_small, change, 0)))
    return jnp.where(is_small, without_cancellation, power(rate, alpha, k) - jnp.exp(-change * k))


def _log1p_less(change: Array) -> Array:
    """log(1 − r) + r = −r²/2 − r³/3 − … for r < 1, by the series where the sum would cancel."""
    tail = jnp.zeros_like(change)
    for k in reversed(range(2, 18)):
        tail = tail * change + 1 / k
    return jnp.where(change < 0.1, -jnp.square(change) * tail, jnp.log1p(-change) + change)


def swing(rate: Array, gamma: Array, t: Array) -> Array:
    """The error of the damped oscillator with friction γ, from 1 at velocity 0."""
    cos, sin, _ = _damped(rate, gamma, t)
    return cos + gamma / 2 * sin


def swing_times_rate(rate: Array, gamma: Array, t: Array) -> Array:
    """λ times `swing`."""
    return rate * swing(rate, gamma, t)


def swing_velocity(rate: Array, gamma: Array, t: Array) -> Array:
    """The time derivative of `swing`."""
    return -rate * _damped(rate, gamma, t)[1]


def kick(rate: Array, gamma: Array, t: Array) -> Array:
    """The error of the damped oscillator with friction γ, from 0 at velocity 1."""
    return _damped(rate, gamma, t)[1]


def kick_times_rate(rate: Array, gamma: Array, t: Array) -> Array:
    """λ times `kick`."""
    return rate * kick(rate, gamma, t)


def kick_velocity(rate: Array, gamma: Array, t: Array) -> Array:
    """The time derivative of `kick`."""
    return _damped(rate, gamma, t)[2]


def _damped(rates: Array, gamma: Array, t: Array) -> tuple[Array, Array, Array]:
    """C = e^{−γt/2} cos ωt, D = e^{−γt/2} sin(ωt)/ω and Ḋ = C − γD/2; ω² = λ − γ²/4 may have either sign."""
    omega_squared = rates - jnp.square(gamma) / 4
    oscillates = omega_squared > 0
    omega = jnp.sqrt(jnp.where(oscillates, omega_squared, 1))
    decay = jnp.exp(-gamma / 2 * t)
    cos, sin = decay * jnp.cos(omega * t), decay * t * jnp.sinc(omega * t / jnp.pi)
    underdamped = cos, sin, cos - gamma / 2 * sin

    kappa_is_zero = oscillates | (omega_squared == 0)  # the square root has no derivative at 0
    kappa = jnp.where(kappa_is_zero, 0, jnp.sqrt(jnp.where(kappa_is_zero, 1, -omega_squared)))
    fast_rate = gamma / 2 + kappa
    slow_rate = rates / jnp.where(fast_rate > 0, fast_rate, 1)  # γ/2 − κ, without cancellation
    slow, gap = jnp.exp(-slow_rate * t), 2 * kappa * t
    fast = slow * jnp.exp(-gap)
    is_small = gap < 1e-3
    mean = jnp.where(is_small, 1 - gap / 2 + gap**2 / 6, -jnp.expm1(-gap) / jnp.where(is_small, 1, gap))
    cos, sin = (slow + fast) / 2, slow * t * mean
    difference = jnp.where(gap > 1, 2 * kappa, 1)
    velocity = (fast_rate * fast - slow_rate * slow) / difference
    overdamped = cos, sin, jnp.where(gap > 1, velocity, cos - gamma / 2 * sin)
    return jax.tree.map(lambda a, b: jnp.where(oscillates, a, b), underdamped, overdamped)
