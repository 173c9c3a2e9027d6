"""Functions of a fit whose derivatives are finite wherever their values are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.inference.fitted import Fitted
from jaxreg.numerics.precision import in_own_precision, promoting

F = TypeVar("F", bound=Callable[..., Any])


def differentiable(function: F) -> F:
    """Compile `function(fitted, *others)` in the precision of the fit, with derivatives that are finite.

    The last axes of its results are the data sets. Where a result is NaN or infinite, such as a test of an
    exact fit, its derivative is 0. To avoid NaN in between, the derivative is computed with 1 in place of
    missing values and then discarded.
    """

    @jax.custom_jvp
    def value(fitted: Fitted, *others: Any) -> Any:
        return function(fitted, *others)

    @value.defjvp
    @promoting
    def _(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        out = value(*primals)
        fitted, *others = primals
        fitted = _without_missing(fitted, _is_finite(fitted, out))
        _, change = jax.jvp(function, (fitted, *jax.tree.map(_finite_or_1, others)), tangents)
        return out, jax.tree.map(_where_finite, out, change)

    return cast(F, functools.wraps(function)(in_own_precision(jax.jit(value))))


def _is_finite(fitted: Fitted, out: Any) -> Array:
    """Whether all results of a data set are finite, (*batch)."""
    finite = jnp.ones_like(fitted.estimate.nobs, bool)
    for a in jax.tree.leaves(out):
        finite &= jnp.isfinite(a).all(axis=tuple(range(a.ndim - finite.ndim)))
    return finite


def _without_missing(fitted: Fitted, finite: Array) -> Fitted:
    """The fit with 1 in place of missing values and, for results that are not finite, of divisors 0."""
    e = jax.tree.map(_finite_or_1, fitted.estimate)
    bse, residual = (jnp.where(finite | (a > 0), a, 1) for a in (e.bse, e.residual))
    nobs = jnp.where(finite, e.nobs, jnp.maximum(e.nobs, len(e.params) + 1))
    groups = None if e.groups is None else jnp.where(finite, e.groups, jnp.maximum(e.groups, 2))
    return replace(fitted, estimate=replace(e, bse=bse, residual=residual, nobs=nobs, groups=groups))


def _finite_or_1(a: Any) -> Any:
    return jnp.where(jnp.isfinite(a), a, 1) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a


def _where_finite(value: Array, change: Array) -> Array:
    return change if change.dtype == jax.dtypes.float0 else jnp.where(jnp.isfinite(value), change, 0)
