"""Params within bounds as smooth functions of variables without bounds."""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp

from jaxreg._typing import Array

Pair: TypeAlias = "tuple[float | None, float | None]"
Bounds: TypeAlias = "tuple[Pair, ...]"

NO_BOUNDS: Pair = (None, None)
MARGIN = 0.05  # by which a start is moved inside, relative to the interval or to the bound


def from_free(bounds: Bounds, u: list[Array]) -> list[Array]:
    """θ = low + e^u, high − e^u, or low + (high − low) / (1 + e^−u)."""
    return [_from_free(pair, a) for pair, a in zip(bounds, u, strict=True)]


def to_free(bounds: Bounds, params: list[Array]) -> list[Array]:
    """u(θ); a θ that is not inside is moved there first."""
    return [_to_free(pair, a) for pair, a in zip(bounds, params, strict=True)]


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
        share = jnp.clip((theta - low) / (high - low), MARGIN, 1 - MARGIN)
        return jnp.log(share / (1 - share))
    if low is not None:
        return _log_distance(theta - low, low)
    return theta if high is None else _log_distance(high - theta, high)


def _log_distance(distance: Array, bound: float) -> Array:
    return jnp.log(jnp.where(distance > 0, distance, MARGIN * (abs(bound) or 1.0)))
