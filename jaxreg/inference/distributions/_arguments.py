"""How the distributions take their arguments: float64 inside, the dtype that came in outside."""

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
    """A function of float64 arrays, for numbers and arrays of any dtype, broadcast together.

    Its result has the dtype of the first argument where that is a float, JAX's default where not. Its last
    argument is "float64" or "float32", the digits asked for.
    """
    compiled = jax.jit(function, static_argnums=-1)

    @in_own_precision
    @functools.wraps(function)
    def of_any(*args: Any) -> Array:
        given = [a if isinstance(a, jax.Array | np.ndarray | np.generic) else jnp.asarray(a) for a in args]
        first = given[0].dtype
        if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in given):
            raise TypeError("distributions are those of real numbers; got complex ones")
        dtype = first if jnp.issubdtype(first, jnp.floating) else jnp.result_type(float)
        with float64():
            wide = [jnp.asarray(a).astype(jnp.float64) for a in given]
            return compiled(*wide, "float64" if dtype == jnp.float64 else "float32").astype(dtype)

    return of_any


def by_its_density(slope: Callable[..., Array], value: Callable[..., Array]) -> Callable[..., Array]:
    """`value(x, *parameters, dtype)` with `slope(result, x, *parameters)` as its derivative in x.

    The parameters are not differentiated: a tangent of theirs is an error, not a silent zero.
    """
    _, *names, _ = inspect.signature(value).parameters
    wrapped = functools.partial(jax.custom_jvp, nondiff_argnums=(len(names) + 1,))(value)

    @promoting
    def jvp(dtype: str, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        for name, dot in zip(names, tangents[1:], strict=True):
            if not isinstance(dot, jax.custom_derivatives.SymbolicZero):
                raise NotImplementedError(
                    f"derivatives in {name} are not known; stop_gradient({name}) leaves them out"
                )
        with float64():
            result = wrapped(*primals, dtype)
            dot = tangents[0]
            if isinstance(dot, jax.custom_derivatives.SymbolicZero):
                return result, jnp.zeros_like(result)
            return result, slope(result, *primals) * dot

    wrapped.defjvp(jvp, symbolic_zeros=True)
    return wrapped
