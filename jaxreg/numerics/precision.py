"""Dtype in, dtype out: float64 data are computed in float64 and no global JAX setting changes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array

P = ParamSpec("P")
R = TypeVar("R")

MIN_NORMAL = float(np.finfo(np.float64).tiny)  # the smallest normal number


def in_own_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Let `function` compute in float64 where one of its arguments is float64, and promote ranks and dtypes.

    With JAX's 64-bit switch off, the float64 arrays it returns are NumPy arrays: as JAX arrays they
    would fall to float32 in the caller's next operation.
    """
    function = promoting(function)

    @functools.wraps(function)
    def in_precision_of_arguments(*args: P.args, **kwargs: P.kwargs) -> R:
        if jax.config.read("jax_enable_x64") or not _any_float64((args, kwargs)):
            return function(*args, **kwargs)
        with float64():
            result = function(*args, **kwargs)
        return jax.tree.map(_keep_digits, result)

    return in_precision_of_arguments


def promoting(function: Callable[P, R]) -> Callable[P, R]:
    """Let `function` promote ranks and dtypes, as this code does, where the caller's settings forbid it."""

    @functools.wraps(function)
    def promotes(*args: P.args, **kwargs: P.kwargs) -> R:
        if promotion() == ("allow", "standard"):
            return function(*args, **kwargs)
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return promotes


def promotion() -> tuple[str, str]:
    """How ranks and dtypes are promoted here."""
    return jax.config.jax_numpy_rank_promotion, jax.config.jax_numpy_dtype_promotion  # pyright: ignore


def float64() -> AbstractContextManager[Any]:
    """A context in which float64 exists, whatever the global switch says."""
    return jax.enable_x64(True)


def _any_float64(tree: Any) -> bool:
    return any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(tree))


def _keep_digits(leaf: Any) -> Any:
    wide = isinstance(leaf, jax.Array) and leaf.dtype in (np.float64, np.complex128)
    return np.asarray(leaf) if wide and not isinstance(leaf, Tracer) else leaf


def at_least_normal(a: Array, unit: Array) -> Array:
    """a · unit of a ≥ 0; the smallest normal number at least where a > 0, as no bound may underflow to 0."""
    return jnp.where(a > 0, jnp.maximum(a * unit, MIN_NORMAL), 0)


def power_of_two(a: Array) -> Array:
    """The smallest power of two that is not below a, 1 for 0; multiplying by it rounds nothing."""
    info = jnp.finfo(a.dtype)
    inside = jnp.clip(lax.stop_gradient(a), 2.0 ** (info.minexp + 1), 2.0 ** (info.maxexp - 3))
    nearest = lax.reduce_precision(inside, info.nexp, 0)
    return jnp.where(a > 0, jnp.where(nearest < inside, 2 * nearest, nearest), 1)
