"""Predictions f(θ, x) of every data set, and intervals around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.curves.curve import CompiledCurve
from jaxreg.data import checks
from jaxreg.engine import derivative
from jaxreg.engine.features import deviation
from jaxreg.engine.sums import columns_of
from jaxreg.inference.differentiable import differentiable
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.statistics import quantile
from jaxreg.numerics.precision import float64
from jaxreg.numerics.short_repr import short_repr

INVERSE_LINKS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda f: f,
    "log": jnp.exp,
    "logit": jax.nn.sigmoid,
}


class Prediction(NamedTuple):
    """f(θ, x) and an interval around it, each of shape (n, *batch) in units of y.

    Attributes:
        mean: f(θ, x).
        lower: the lower limit.
        upper: the upper limit.
    """

    mean: Array
    lower: Array
    upper: Array

    def __repr__(self) -> str:
        return short_repr(self)


def predict(
    fitted: Fitted, x: Any, interval: str | None, alpha: Any, weights: Any, offset: Any = 0.0
) -> Array | Prediction:
    """The mean of y at x, with limits if `interval` is not None."""
    if interval not in (None, "confidence", "prediction"):
        raise ValueError(f'interval is "confidence", "prediction" or None, got {interval!r}')
    if interval == "prediction" and fitted.link != "identity":
        raise ValueError(
            'interval="prediction" needs normal errors; pass "confidence" for a cost with a '
            f"{fitted.link} link"
        )
    if interval is None:
        return fittedvalues(fitted, x, offset)
    x = _new_x(fitted, x)
    if interval == "confidence":
        weights = None
    else:
        weights = checks.new_weights(weights, jax.eval_shape(_f, fitted, x).shape)
    return Prediction(*_limits(fitted, x, weights, quantile(fitted, alpha), offset))


def fittedvalues(fitted: Fitted, x: Any, offset: Any = 0.0) -> Array:
    """The mean of y at x."""
    return _mean(fitted, _new_x(fitted, x), offset)


def residuals(fitted: Fitted, x: Any, y: Any) -> Array:
    """y − f(θ, x), subtracted in float64."""
    e = fitted.estimate
    y, x = checks.new_y(y, fitted.dtype, e.status.shape, e.y_origin), _new_x(fitted, x)
    if x.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x has shape {x.shape} and y {y.shape}: resid takes as many x as y")
    if fitted.link != "identity" or isinstance(fitted.ansatz, CompiledCurve):
        return _minus_mean(fitted, x, y)
    return _residuals(fitted, x, y)


def _new_x(fitted: Fitted, x: Any) -> Array:
    e, ansatz = fitted.estimate, fitted.ansatz
    columns = len(e.x_center) if ansatz.x_is_vector else 1
    return checks.new_x(x, fitted.dtype, ansatz, e.status.shape, columns, e.x_origin)


@differentiable
def _residuals(fitted: Fitted, x: Array, y: Array) -> Array:
    e, ansatz = fitted.estimate, fitted.ansatz
    center, scale = (columns_of(ansatz, a, 0) for a in (e.x_center, e.x_scale))
    coefs = list(e.coefs)
    zeros = [jnp.zeros_like(c) for c in coefs]
    return derivative.residuals(ansatz, _columns(fitted, x), y, center, scale, coefs, zeros)


@differentiable
def _f(fitted: Fitted, x: Array) -> Array:
    """y_origin + Σ c_k ψ_k(t), from x − x_origin."""
    e = fitted.estimate
    if isinstance(fitted.ansatz, CompiledCurve):
        return fitted.ansatz.linearized(e.coefs, _columns(fitted, x))[0]
    terms = [c * psi for c, psi in zip(e.coefs, _basis(fitted, x), strict=True)]
    value = reduce(jnp.add, terms)
    return value if e.y_origin is None else value + e.y_origin.astype(value.dtype)


@differentiable
def _mean(fitted: Fitted, x: Array, offset: Any) -> Array:
    return INVERSE_LINKS[fitted.link](_f(fitted, x) + jnp.asarray(offset, fitted.dtype))


@differentiable
def _minus_mean(fitted: Fitted, x: Array, y: Array) -> Array:
    dtype = fitted.dtype
    with float64():
        fitted, x, y = jax.tree.map(_to_float64, (fitted, x, y))
        return (y - INVERSE_LINKS[fitted.link](_f(fitted, x))).astype(dtype)


def _to_float64(a: Array) -> Array:
    return a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a


@differentiable
def _limits(
    fitted: Fitted, x: Array, weights: Any, quantile: Array, offset: Any
) -> tuple[Array, Array, Array]:
    """f and its limits, each mapped by the link, which keeps them in the range of the mean of y."""
    f = _f(fitted, x) + jnp.asarray(offset, fitted.dtype)
    half_width = quantile * _standard_error(fitted, _basis(fitted, x), weights)
    inverse_link = INVERSE_LINKS[fitted.link]
    return inverse_link(f), inverse_link(f - half_width), inverse_link(f + half_width)


def _standard_error(fitted: Fitted, psi: list[Array], weights: Any) -> Array:
    """√var f(θ, x) with the basis ψ(t) at x; plus the error of a new observation if its weight is given."""
    with float64():
        standard_error = deviation(dict(enumerate(psi)), fitted.cov_of_coefs())
        if weights is not None:
            scale = fitted.estimate.error_scale  # of a robust cost
            sigma = fitted.root_weight * fitted.sigma_over_root_weight() if scale is None else scale
            standard_error = jnp.hypot(standard_error, sigma / jnp.sqrt(weights))
        return standard_error.astype(fitted.dtype)


def _basis(fitted: Fitted, x: Array) -> list[Array]:
    """ψ(t), or ∂f/∂θ of a curve, at new x."""
    e, ansatz = fitted.estimate, fitted.ansatz
    if isinstance(ansatz, CompiledCurve):
        return ansatz.linearized(e.coefs, _columns(fitted, x))[1]
    center, scale = (columns_of(ansatz, a, 0) for a in (e.x_center, e.x_scale))
    columns = _columns(fitted, x)
    return ansatz.basis([(a - c) * (1 / s) for a, c, s in zip(columns, center, scale, strict=True)])


def _columns(fitted: Fitted, x: Array) -> list[Array]:
    """The columns of new x; those of a shared x get batch axes of length 1."""
    ansatz = fitted.ansatz
    if x.ndim <= 1 + ansatz.x_is_vector:
        x = x.reshape(*x.shape, *(1,) * fitted.estimate.status.ndim)
    return columns_of(ansatz, x, 1)
