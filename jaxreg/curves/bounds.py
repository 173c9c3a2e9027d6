"""Params within bounds as smooth functions of variables without bounds."""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp

from jaxreg._typing import Array

Pair: TypeAlias = "tuple[float | None, float | None]"
Bounds: TypeAlias = "tuple[Pair, ...]"

NO_BOUNDS: Pair = (None, None)
MARGIN = 0.05  # by which a start outside is moved inside, relative to the interval or to the bound
MAX_STEP = 2.0  # of a variable without bounds, of which a param with bounds is an exponential
NEAR = 1e-3  # distance of a param at a bound, relative to the interval or to the largest param


def from_free(bounds: Bounds, u: list[Array]) -> list[Array]:
    """θ = low + e^u, high − e^u, or low + (high − low) / (1 + e^−u)."""
    return [_from_free(pair, a) for pair, a in zip(bounds, u, strict=True)]


def to_free(bounds: Bounds, params: list[Array]) -> list[Array]:
    """u(θ); a θ that is not inside is moved there first."""
    return [_to_free(pair, a) for pair, a in zip(bounds, params, strict=True)]


def limits(bounds: Bounds) -> tuple[float | None, ...]:
    """The largest step of each variable."""
    return tuple(None if pair == NO_BOUNDS else MAX_STEP for pair in bounds)


def is_pressed(pair: Pair, theta: Array, reach: Array, slope: Array) -> Array:
    """Whether a param is at a bound towards which S falls."""
    low, high = pair
    size = reach if low is None or high is None else high - low
    at_low = jnp.zeros(theta.shape, bool) if low is None else (theta - low <= NEAR * size) & (slope > 0)
    at_high = jnp.zeros(theta.shape, bool) if high is None else (high - theta <= NEAR * size) & (slope < 0)
    return at_low | at_high


def _from_free(pair: Pair, u: Array) -> Array:
    low, high = pair
    if low is not None and high is not None:
        return low + (high - low) * jax.nn.sigmoid(u)
    if low is not None:
        return low + jnp.exp(u)
    return u if high is None else high - jnp.exp(u)


def _to_free(pair: Pair, theta: Array) -> Array:
    low, high = pair
    if low is not None and high is not None:
        share = (theta - low) / (high - low)
        share = jnp.where((share > 0) & (share < 1), share, jnp.clip(share, MARGIN, 1 - MARGIN))
        return jnp.log(share / (1 - share))
    if low is not None:
        return _log_distance(theta - low, low)
    return theta if high is None else _log_distance(high - theta, high)


def _log_distance(distance: Array, bound: float) -> Array:
    return jnp.log(jnp.where(distance > 0, distance, MARGIN * (abs(bound) or 1.0)))
