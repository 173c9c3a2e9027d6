"""Results have the dtype of the data: float64 is enabled locally, without changing global JAX settings."""

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

MIN_NORMAL = float(np.finfo(np.float64).tiny)  # the smallest positive normal float64


def in_own_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Enable float64 in `function` if one of its arguments is float64; also see `promoting`.

    If the caller has JAX's 64-bit mode off, float64 results are returned as NumPy arrays: the next operation
    would round float64 JAX arrays to float32.
    """
    function = promoting(function)

    @functools.wraps(function)
    def with_float64_if_needed(*args: P.args, **kwargs: P.kwargs) -> R:
        if jax.config.read("jax_enable_x64") or not _any_float64((args, kwargs)):
            return function(*args, **kwargs)
        with float64():
            result = function(*args, **kwargs)
        return jax.tree.map(_to_numpy_if_float64, result)

    return with_float64_if_needed


def promoting(function: Callable[P, R]) -> Callable[P, R]:
    """Allow rank and dtype promotion in `function`, whatever the caller's settings."""

    @functools.wraps(function)
    def with_promotion(*args: P.args, **kwargs: P.kwargs) -> R:
        if promotion() == ("allow", "standard"):
            return function(*args, **kwargs)
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return with_promotion


def promotion() -> tuple[str, str]:
    """The current settings of rank promotion and dtype promotion."""
    return jax.config.jax_numpy_rank_promotion, jax.config.jax_numpy_dtype_promotion  # pyright: ignore


def float64() -> AbstractContextManager[Any]:
    """A context with JAX's 64-bit mode on."""
    return jax.enable_x64(True)


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with JAX's 64-bit mode on."""

    @functools.wraps(function)
    def with_float64(*args: P.args, **kwargs: P.kwargs) -> R:
        with float64():
            return function(*args, **kwargs)

    return with_float64


def _any_float64(tree: Any) -> bool:
    return any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(tree))


def _to_numpy_if_float64(leaf: Any) -> Any:
    is_float64 = isinstance(leaf, jax.Array) and leaf.dtype in (np.float64, np.complex128)
    return np.asarray(leaf) if is_float64 and not isinstance(leaf, Tracer) else leaf


def rounding_unit() -> Array:
    """The relative error of an operation in float64: on a TPU, where it is a pair of float32, of 2⁻⁴⁵."""
    return _by_platform(tpu=2.0**-45, default=2.0**-53)


def double_double_unit() -> Array:
    """The same in double-double, and of sums of products; a TPU's float64 has no exact errors to add."""
    return _by_platform(tpu=2.0**-45, default=2.0**-98)


def addition_unit() -> Array:
    """The error of a sum of two double-doubles, relative to the larger of them."""
    return _by_platform(tpu=2.0**-45, default=2.0**-104)


def _by_platform(tpu: float, default: float) -> Array:
    return lax.platform_dependent(tpu=lambda: jnp.asarray(tpu), default=lambda: jnp.asarray(default))


def at_least_normal(a: Array, unit: Array) -> Array:
    """a · unit for a ≥ 0, but not below MIN_NORMAL where a > 0: a bound must not underflow to 0."""
    return jnp.where(a > 0, jnp.maximum(a * unit, MIN_NORMAL), 0)


def power_of_two(a: Array) -> Array:
    """The smallest power of two ≥ a, 1 for 0; multiplication by it is exact."""
    info = jnp.finfo(a.dtype)
    clipped = jnp.clip(lax.stop_gradient(a), 2.0 ** (info.minexp + 1), 2.0 ** (info.maxexp - 3))
    nearest = lax.platform_dependent(clipped, tpu=_nearest_power_of_two_on_tpu, default=_nearest_power_of_two)
    return jnp.where(a > 0, jnp.where(nearest < clipped, 2 * nearest, nearest), 1)


def _nearest_power_of_two(a: Array) -> Array:
    """The power of two nearest to a positive number."""
    return lax.reduce_precision(a, jnp.finfo(a.dtype).nexp, 0)


def _nearest_power_of_two_on_tpu(a: Array) -> Array:
    """The same; float64 is a pair of float32 there, whose bits cannot be rounded together."""
    return _nearest_power_of_two(a.astype(jnp.float32)).astype(a.dtype)
