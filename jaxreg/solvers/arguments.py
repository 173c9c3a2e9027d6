"""What the physics asks of its arguments."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.core import Tracer

from jaxreg._typing import Array


def as_params(params: Any) -> Array:
    """Params as an array of floats."""
    theta = jnp.asarray(params)
    return theta if jnp.issubdtype(theta.dtype, jnp.floating) else theta.astype(jnp.result_type(float))


def positive(name: str, value: Any, like: Array) -> Array:
    """A number above 0, or numbers, in the dtype of the params."""
    value = jnp.asarray(value, like.dtype)
    if not isinstance(value, Tracer) and not (value > 0).all():
        raise ValueError(f"{name} is above 0, got {value}")
    return value


def one_positive(name: str, value: Any, like: Array) -> Array:
    """One number above 0."""
    if jnp.ndim(value):
        raise ValueError(f"{name} is one number, got shape {jnp.shape(value)}; jax.vmap is for many")
    return positive(name, value, like)
