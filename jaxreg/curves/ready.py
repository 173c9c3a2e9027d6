"""Curves whose start is estimated from the data of each data set."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array
from jaxreg.curves.curve import Curve
from jaxreg.numerics import small

RATES = (0.3, 0.6, 1.2, 2.5, 5.0, 10.0, 20.0, 40.0)  # tried for a decay, per range of x
HALF_WIDTH = math.sqrt(2 * math.log(2))  # of a Gaussian at half its height, in units of its width
ABOVE_LARGEST = 1.05  # first capacity of growth, relative to the largest y
MIN_PIVOT = 1e-10  # share of a column that is independent of those before it


def _exponential_decay(params: Any, x: Any) -> Any:
    offset, amplitude, rate = params
    return offset + amplitude * jnp.exp(-rate * x)


def _start_of_decay(x: Array, y: Array, w: Array) -> list[Array]:
    """The best of several rates, of decay and of growth."""
    low, length = _range(x, w)
    t = (x - low) / length
    best = [jnp.full((), jnp.inf, y.dtype), *[jnp.zeros((), y.dtype)] * 3]
    for rate in (*RATES, *(-rate for rate in RATES[:5])):
        # e^(−k t) of order 1 for either sign of k
        shape = jnp.exp(-rate * t + min(rate, 0.0))
        (offset, amplitude), ssr = _least_squares([jnp.ones_like(t), shape], y, w)
        amplitude = amplitude * jnp.exp(rate * low / length + min(rate, 0.0))
        new = [ssr, offset, amplitude, jnp.asarray(rate / length, y.dtype)]
        best = [jnp.where(ssr < best[0], a, b) for a, b in zip(new, best, strict=True)]
    return best[1:]


def _gaussian_peak(params: Any, x: Any) -> Any:
    background, height, center, width = params
    return background + height * jnp.exp(-((x - center) ** 2) / (2 * width**2))


def _start_of_peak(x: Array, y: Array, w: Array) -> list[Array]:
    """Height and place of the largest deviation, and the share of points above half of it."""
    valid = w > 0
    length = _range(x, w)[1]
    smallest, largest = jnp.min(jnp.where(valid, y, jnp.inf)), jnp.max(jnp.where(valid, y, -jnp.inf))
    sign = jnp.where(_mean(y, w) <= (smallest + largest) / 2, 1.0, -1.0)  # −1 for a dip
    u = sign * y
    bottom, top = jnp.minimum(sign * smallest, sign * largest), jnp.maximum(sign * smallest, sign * largest)
    background = _mean(u, w * (u <= bottom + (top - bottom) / 4))
    height = top - background
    center = _mean(x, w * (u >= top - height / 4))
    share = jnp.sum(valid & (u > background + height / 2)) / jnp.maximum(jnp.sum(valid), 1)
    width = share * length / (2 * HALF_WIDTH)
    return [sign * background, sign * height, center, width]


def _logistic_growth(params: Any, x: Any) -> Any:
    capacity, rate, midpoint = params
    return capacity / (1 + jnp.exp(-rate * (x - midpoint)))


def _start_of_growth(x: Array, y: Array, w: Array) -> list[Array]:
    """The line through log(y / (capacity − y)), of which the variance is proportional to 1 / (y (1 − y))²."""
    capacity = ABOVE_LARGEST * jnp.max(jnp.where(w > 0, y, -jnp.inf))
    share = y / capacity
    inside = (share > 0) & (share < 1)
    share = jnp.where(inside, share, 0.5)
    weight = w * inside * jnp.square(share * (1 - share))
    (level, rate), _ = _least_squares([jnp.ones_like(x), x], jnp.log(share / (1 - share)), weight)
    return [capacity, rate, -level / rate]


def _power_law(params: Any, x: Any) -> Any:
    amplitude, exponent = params
    return amplitude * x**exponent


def _start_of_power_law(x: Array, y: Array, w: Array) -> list[Array]:
    """The line through log |y| against log x, of which the variance is proportional to 1 / y²."""
    sign = jnp.where(jnp.sum(w * y) >= 0, 1.0, -1.0)
    usable = (x > 0) & (sign * y > 0)
    log_x = jnp.log(jnp.where(usable, x, 1))
    log_y = jnp.log(jnp.where(usable, sign * y, 1))
    (level, exponent), _ = _least_squares([jnp.ones_like(x), log_x], log_y, w * usable * y * y)
    return [sign * jnp.exp(level), exponent]


def _sine(params: Any, x: Any) -> Any:
    offset, amplitude, frequency, phase = params
    return offset + amplitude * jnp.sin(2 * jnp.pi * frequency * x + phase)


def _start_of_sine(x: Array, y: Array, w: Array) -> list[Array]:
    """The best of n frequencies, half of 1 / range apart.

    Source: J. D. Scargle, Astrophys. J. 263 (1982) 835.
    """
    low, length = _range(x, w)
    t = (x - low) / length
    one = jnp.ones_like(t)
    rotation = (jnp.cos(jnp.pi * t), jnp.sin(jnp.pi * t))  # by half a cycle per range

    def step(k: Any, state: tuple) -> tuple:
        (cos, sin), best = state
        cos, sin = cos * rotation[0] - sin * rotation[1], sin * rotation[0] + cos * rotation[1]
        coefs, ssr = _least_squares([one, cos, sin], y, w)
        new = [ssr, *coefs, (k + 1) / 2.0 + jnp.zeros_like(ssr)]
        return (cos, sin), [jnp.where(ssr < best[0], a, b) for a, b in zip(new, best, strict=True)]

    zero = jnp.sum(0 * w)
    best = [zero + jnp.inf, zero, zero, zero, zero]
    _, best = lax.fori_loop(0, max(len(y), 2), step, ((one, 0 * one), best))
    _, offset, cos, sin, cycles = best
    frequency = cycles / length
    return [offset, jnp.hypot(cos, sin), frequency, jnp.arctan2(cos, sin) - 2 * jnp.pi * frequency * low]


def _range(x: Array, w: Array) -> tuple[Array, Array]:
    """The smallest x, and the distance to the largest."""
    low, high = jnp.min(jnp.where(w > 0, x, jnp.inf)), jnp.max(jnp.where(w > 0, x, -jnp.inf))
    length = high - low
    return low, jnp.where(length > 0, length, 1)


def _mean(a: Array, w: Array) -> Array:
    return jnp.sum(w * a) / jnp.sum(w)


def _least_squares(columns: list[Array], y: Array, w: Array) -> tuple[list[Array], Array]:
    """Coefs of a few columns, and the weighted sum of squared residuals."""
    gram = jnp.stack([jnp.stack([jnp.sum(w * a * b) for b in columns]) for a in columns])
    ridge = MIN_PIVOT * jnp.trace(gram)  # keeps it regular
    coefs = small.solve(gram + ridge * np.eye(len(columns)), jnp.stack([jnp.sum(w * a * y) for a in columns]))
    residual = y - sum(c * a for c, a in zip(coefs, columns, strict=True))
    return list(coefs), jnp.sum(w * residual * residual)


def _decay_in(params: Any, c: Any) -> Any:
    offset, amplitude, rate = params
    return offset, amplitude * jnp.exp(-rate * c), rate


def _peak_in(params: Any, c: Any) -> Any:
    background, height, center, width = params
    return background, height, center - c, width


def _growth_in(params: Any, c: Any) -> Any:
    capacity, rate, midpoint = params
    return capacity, rate, midpoint - c


def _sine_in(params: Any, c: Any) -> Any:
    offset, amplitude, frequency, phase = params
    phase = phase + 2 * jnp.pi * frequency * c
    return offset, amplitude, frequency, phase - 2 * jnp.pi * jnp.round(phase / (2 * jnp.pi))


exponential_decay: Curve = Curve(
    _exponential_decay, ("offset", "amplitude", "rate"), start=_start_of_decay, shift=_decay_in
)
"""y = offset + amplitude · e^(−rate · x); growth has a negative rate."""

gaussian_peak: Curve = Curve(
    _gaussian_peak, ("background", "height", "center", "width"), start=_start_of_peak, shift=_peak_in
)
"""y = background + height · e^(−(x − center)² / (2 width²)); a dip has a negative height."""

logistic_growth: Curve = Curve(
    _logistic_growth, ("capacity", "rate", "midpoint"), start=_start_of_growth, shift=_growth_in
)
"""y = capacity / (1 + e^(−rate (x − midpoint))), of positive y."""

power_law: Curve = Curve(_power_law, ("amplitude", "exponent"), start=_start_of_power_law)
"""y = amplitude · x^exponent, of positive x."""

sine: Curve = Curve(
    _sine, ("offset", "amplitude", "frequency", "phase"), start=_start_of_sine, shift=_sine_in
)
"""y = offset + amplitude · sin(2π frequency · x + phase)."""
