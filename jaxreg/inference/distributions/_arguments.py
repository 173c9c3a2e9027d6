"""Argument handling of the distributions: computed in float64, returned in the dtype of the arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.numerics.precision import float64, in_own_precision, promoting


def in_float64(function: Callable[..., Array]) -> Callable[..., Array]:
    """Extend a function of float64 arrays to numbers and arrays of any dtype, broadcast together.

    The result has the dtype of the first argument if that is a float, else JAX's default float dtype. The
    last argument of the function is "float64" or "float32", the precision required of it.
    """
    compiled = jax.jit(function, static_argnums=-1)

    @in_own_precision
    @functools.wraps(function)
    def converted(*args: Any) -> Array:
        arrays = [a if isinstance(a, jax.Array | np.ndarray | np.generic) else jnp.asarray(a) for a in args]
        first = arrays[0].dtype
        if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in arrays):
            raise TypeError("distributions take real numbers; got complex numbers")
        dtype = first if jnp.issubdtype(first, jnp.floating) else jnp.result_type(float)
        with float64():
            arrays = [jnp.asarray(a).astype(jnp.float64) for a in arrays]
            return compiled(*arrays, "float64" if dtype == jnp.float64 else "float32").astype(dtype)

    return converted


def with_derivative(derivative: Callable[..., Array], value: Callable[..., Array]) -> Callable[..., Array]:
    """`value(x, *parameters, dtype)` with `derivative(result, x, *parameters)` as its derivative in x.

    There is no derivative in the parameters: it raises an error rather than being silently zero.
    """
    _, *names, _ = inspect.signature(value).parameters
    differentiable = functools.partial(jax.custom_jvp, nondiff_argnums=(len(names) + 1,))(value)

    @promoting
    def jvp(dtype: str, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        for name, dot in zip(names, tangents[1:], strict=True):
            if not isinstance(dot, jax.custom_derivatives.SymbolicZero):
                raise NotImplementedError(
                    f"derivatives in {name} are not available; stop_gradient({name}) omits them"
                )
        with float64():
            result = differentiable(*primals, dtype)
            dot = tangents[0]
            if isinstance(dot, jax.custom_derivatives.SymbolicZero):
                return result, jnp.zeros_like(result)
            return result, derivative(result, *primals) * dot

    differentiable.defjvp(jvp, symbolic_zeros=True)
    return differentiable
