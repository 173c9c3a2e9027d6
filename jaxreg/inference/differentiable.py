"""What is computed from a fit, with derivatives where it has values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.numerics.precision import in_own_precision, promoting

F = TypeVar("F", bound=Callable[..., Any])


def differentiable(function: F) -> F:
    """`function(fit, *others)`, compiled, in the precision of the fit.

    Its results have the data sets on their last axes. Where one is NaN or infinite, as tests of an exact fit
    are, its derivative is 0: it is taken with 1 in the place of what is missing, and left out.
    """

    @jax.custom_jvp
    def value(fit: Any, *others: Any) -> Any:
        return function(fit, *others)

    @value.defjvp
    @promoting
    def _(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        out = value(*primals)
        fit, *others = primals
        fit = _with_1_for_the_missing(fit, _is_known(fit, out))
        _, change = jax.jvp(function, (fit, *jax.tree.map(_finite, others)), tangents)
        return out, jax.tree.map(_where_finite, out, change)

    return cast(F, functools.wraps(function)(in_own_precision(jax.jit(value))))


def computed(function: Callable[[Any], Array]) -> property:
    """A property that is `differentiable`."""
    return property(differentiable(function))


def _is_known(fit: Any, out: Any) -> Array:
    """Which data sets have finite results."""
    known = jnp.ones_like(fit.estimate.nobs, bool)
    for a in jax.tree.leaves(out):
        known &= jnp.isfinite(a).all(axis=tuple(range(a.ndim - known.ndim)))
    return known


def _with_1_for_the_missing(fit: Any, known: Array) -> Any:
    """A fit with 1 for numbers that are not known, and where a result is not, for what it may divide by."""
    e = jax.tree.map(_finite, fit.estimate)
    bse, residual = (jnp.where(known | (a > 0), a, 1) for a in (e.bse, e.residual))
    nobs = jnp.where(known, e.nobs, jnp.maximum(e.nobs, len(e.params) + 1))
    groups = None if e.groups is None else jnp.where(known, e.groups, jnp.maximum(e.groups, 2))
    return replace(fit, estimate=replace(e, bse=bse, residual=residual, nobs=nobs, groups=groups))


def _finite(a: Any) -> Any:
    return jnp.where(jnp.isfinite(a), a, 1) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a


def _where_finite(value: Array, change: Array) -> Array:
    return change if change.dtype == jax.dtypes.float0 else jnp.where(jnp.isfinite(value), change, 0)
