"""What is computed from a fit, with derivatives where it has values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.precision import in_own_precision, promoting

F = TypeVar("F", bound=Callable[..., Any])


def differentiable(function: F) -> F:
    """`function(fit, *others)`, compiled, in the precision of the fit.

    Where it is NaN or infinite, as standard errors of an exact fit are, its derivative is 0: it is taken
    with 1 in the place of what is missing, and left out.
    """

    @jax.custom_jvp
    def value(fit: Any, *others: Any) -> Any:
        return function(fit, *others)

    @value.defjvp
    @promoting
    def _(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        out = value(*primals)
        fit, *others = primals
        _, change = jax.jvp(function, (_with_1_for_the_missing(fit), *others), tangents)
        return out, jax.tree.map(_where_finite, out, change)

    return cast(F, functools.wraps(function)(in_own_precision(jax.jit(value))))


def computed(function: Callable[[Any], Array]) -> property:
    """A property that is `differentiable`."""
    return property(differentiable(function))


def _with_1_for_the_missing(fit: Any) -> Any:
    """A fit with 1 for numbers that are not known, and for those that are 0 and divided by."""
    e = jax.tree.map(_finite, fit.estimate)
    bse, residual = (jnp.where(a > 0, a, 1) for a in (e.bse, e.residual))
    return replace(fit, estimate=replace(e, bse=bse, residual=residual))


def _finite(a: Array) -> Array:
    return jnp.where(jnp.isfinite(a), a, 1) if jnp.issubdtype(a.dtype, jnp.floating) else a


def _where_finite(value: Array, change: Array) -> Array:
    return change if change.dtype == jax.dtypes.float0 else jnp.where(jnp.isfinite(value), change, 0)
