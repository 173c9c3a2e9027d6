"""Checks of the params, costs and numbers that descents, flows and path integrals take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._typing import Array


def as_params(params: Any) -> Array:
    """Params as an array of floats; integers are converted."""
    try:
        theta = jnp.asarray(params)
    except (TypeError, ValueError):
        raise TypeError(f"params are numbers; got a {type(params).__name__}") from None
    if jnp.issubdtype(theta.dtype, jnp.complexfloating):
        raise TypeError(f"params are real numbers; got {theta.dtype}")
    return theta if jnp.issubdtype(theta.dtype, jnp.floating) else theta.astype(jnp.result_type(float))


def as_params_tree(params: Any) -> Any:
    """`as_params` for every array of a pytree."""
    return jax.tree.map(as_params, params)


def scalar(cost: Callable[..., Any]) -> Callable[..., Any]:
    """`cost`, with an error at tracing time unless it returns one number."""

    def checked(*args: Any) -> Any:
        value = cost(*args)
        is_array = isinstance(value, jax.Array | np.ndarray | np.generic | int | float)
        if not is_array or jnp.shape(value):
            result = f"shape {jnp.shape(value)}" if is_array else f"a {type(value).__name__}"
            raise ValueError(
                "a cost returns one number, such as the mean or the sum over the observations (and jax.vmap "
                f"is for many data sets); got {result}"
            )
        return value

    return checked


def positive(name: str, value: Any, like: Array) -> Array:
    """One or more positive numbers, in the dtype of `like`."""
    value = jnp.asarray(value, like.dtype)
    if not isinstance(value, Tracer) and not (value > 0).all():
        raise ValueError(f"{name} must be positive, got {value}")
    return value


def one_positive(name: str, value: Any, like: Array) -> Array:
    """One positive number, in the dtype of `like`."""
    if jnp.ndim(value):
        raise ValueError(f"{name} is one number, got shape {jnp.shape(value)}; jax.vmap is for many")
    return positive(name, value, like)
