"""Costs at many points, and the check that a cost can be drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.numerics.precision import in_own_precision


def check_cost(cost: Any, count: int, data: tuple, function: str) -> None:
    """Raise unless the cost of so many params is a number."""
    if not callable(cost):
        raise TypeError(f"{function} draws a function S(params, *data); got {type(cost).__name__}")
    params = f"{count} params" if count > 1 else "one param"
    expected = f"{function} draws a cost S(params, *data) of {params}, shape ({count},)"
    try:
        shape = _shape(cost, np.zeros(count), data)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{expected}; this one raised {type(error).__name__}: {error}. If it has more params, pass a "
            "function that holds the others fixed"
        ) from error
    if shape:
        raise ValueError(f"{expected}, which returns a number; got an array of shape {shape}")


@in_own_precision
def _shape(cost: Callable[..., Any], params: np.ndarray, data: tuple) -> tuple[int, ...]:
    """The shape of the cost, by tracing it."""
    return jax.eval_shape(lambda theta: jnp.asarray(cost(theta, *data)), params).shape


@in_own_precision
def costs_of(cost: Callable[..., Any], params: np.ndarray, data: tuple) -> Any:
    """S at each of the params, (n, p)."""
    return jax.vmap(lambda theta: cost(theta, *data))(params)


@in_own_precision
def costs_and_gradients(cost: Callable[..., Any], params: np.ndarray, data: tuple) -> Any:
    """S and ∇S at each of the params, (n, p)."""
    return jax.vmap(jax.value_and_grad(lambda theta: cost(theta, *data)))(params)
