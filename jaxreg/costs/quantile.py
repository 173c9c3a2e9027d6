"""Quantile regression: f is the quantile q of y given x."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.costs.mean_loss import MeanLoss, Summary, Terms
from jaxreg.numerics.pytrees import pytree


@pytree
class Quantile(MeanLoss):
    """Quantile regression, S(θ) = Σ w ρ(y − f) / Σ w with ρ(ε) = q ε above f and (q − 1) ε below.

    A share q of y is below f; with q = 0.5 f is the median, and S half of the mean absolute error. The fit
    passes through p observations. Where a range of params has the same S, as for the median of an even
    number of y, they are from its interior.

    The standard errors are those of statsmodels' QuantReg: the density of residuals at 0 is estimated with
    Epanechnikov's kernel and the bandwidth of Hall and Sheather, and errors may depend on x. They are NaN
    where the bandwidth does not exist: for few observations and a q near 0 or 1, and where half of the
    residuals are 0, as of counts with many zeros.

    Args:
        q: the quantile, between 0 and 1, one number or one per data set.

    Source: R. Koenker and G. Bassett, Econometrica 46 (1978) 33.

    >>> from jaxreg import fit
    >>> x, y = np.arange(7.0), np.array([1.0, 1.5, 3.0, 4.5, 5.0, 5.5, 50.0])
    >>> print(fit(x, y, cost=Quantile(0.5)).params.round(3))
    [1. 1.]
    """

    q: Any = 0.5

    is_convex = True
    is_piecewise_linear = True
    cov_type = "robust"
    uses_t = True

    def __post_init__(self) -> None:
        if isinstance(self.q, list | tuple):
            object.__setattr__(self, "q", np.asarray(self.q))
        if not isinstance(self.q, Tracer) and not np.all((np.asarray(self.q) > 0) & (np.asarray(self.q) < 1)):
            raise ValueError(f"q is between 0 and 1, one number or one per data set; got {self.q}")

    def loss(self, y: Array, f: Array) -> Array:
        """ρ(y − f)."""
        return (y - f) * jnp.where(y > f, self.q, self.q - 1)

    def terms(self, y: Array, f: Array, w: Array, scale: Array | None) -> Terms:
        """w ρ, with derivatives at a fit that passes through observations nearer than `scale`.

        These hold it: near the fit params are those of least squares with their large weights.
        """
        value = w * self.loss(y, f)
        if scale is None:
            slope = w * jnp.where(y > f, -self.q, 1 - self.q)
            return Terms(value, slope, jnp.zeros_like(f), jnp.zeros_like(f))
        distance = lax.stop_gradient(jnp.square((y - f) / scale))
        weight = w / jnp.square(1 + distance)
        return Terms(value, weight * (f - y), weight, weight)

    def statistics(self, y: Array, f: Array, w: Array, scale: Array | None) -> dict[str, Array]:
        """None."""
        return {}

    def summary(self, sums: dict[str, Array], nobs: Array, p: int, scale: Array | None) -> Summary:
        """The dispersion is 1: the covariance is not that of least squares times a number."""
        return Summary(jnp.ones_like(nobs))
