"""`MeanLoss`, a cost S(θ) = Σ w ρ(y, f) / Σ w with a loss ρ of one observation and its f = f(θ, x).

The solvers read a cost of this kind through the first two derivatives of ρ in f alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial

from jaxreg._typing import Array
from jaxreg.cost import CostOfObservations
from jaxreg.numerics.pytrees import pytree


class Summary(NamedTuple):
    """What inference needs beyond the params of each data set.

    Attributes:
        dispersion: the factor of the covariance of the params.
        deviance: twice the difference of the log-likelihoods of the saturated model and of the fit, or None.
        pearson_chi2: Σ w (y − μ)² / V(μ), or None.
        llf: the log-likelihood, or None.
    """

    dispersion: Array
    deviance: Array | None = None
    pearson_chi2: Array | None = None
    llf: Array | None = None


class MeanLoss(CostOfObservations):
    """A cost S(θ) = Σ w ρ(y, f) / Σ w, with the signature of `mean_squared_error`.

    A subclass is a frozen pytree whose numbers are one for all data sets or one for each. It gives `loss`
    and, where there is a closed form or a better choice, the other functions of y and f = f(θ, x).

    Attributes:
        link: "identity", "log" or "logit", by which f is a function of the mean μ of y.
        has_scale: whether ρ is a function of residuals in units of a scale that is estimated with the params.
        is_convex: whether ρ is convex in f; then slopes alone show whether a step of a solver was too long.
        converges_quadratically: whether `working_curvature` is that of Newton's method.
        is_likelihood: whether the covariance of the params is the inverse of Σ w ∂²ρ/∂f² ψψᵀ, with the
            working curvature, times the dispersion; otherwise that of Σ w ψψᵀ times the dispersion.
        is_piecewise_linear: whether ρ is, so that it is minimized by a linear program.
        cov_type: the name of the covariance if `fit` is not given one.
        uses_t: whether params are then tested with Student's t instead of the normal distribution.
        starts_from_y: whether the first step uses the derivatives at f = `first_f` of each observation, as it
            does with an offset; other likelihoods start from params 0, and other costs from least squares.
    """

    link = "identity"
    has_scale = False
    is_convex = False
    converges_quadratically = True
    is_likelihood = False
    is_piecewise_linear = False
    cov_type = "nonrobust"
    uses_t = False
    starts_from_y = False

    @abstractmethod
    def loss(self, y: Array, f: Array) -> Array:
        """ρ(y, f)."""

    def slope(self, y: Array, f: Array) -> Array:
        """∂ρ/∂f."""
        return _derivative(self.loss, y, f)

    def curvature(self, y: Array, f: Array) -> Array:
        """∂²ρ/∂f²."""
        return _derivative(self.slope, y, f)

    def working_curvature(self, y: Array, f: Array) -> Array:
        """What a solver takes for ∂²ρ/∂f²: its expectation, for example, which is positive."""
        return self.curvature(y, f)

    def of_observations(self, params: Array, y: Array, f: Array, w: Array, ansatz: Any) -> Array:
        """Σ w ρ / Σ w."""
        return jnp.sum(self.terms(y, f, w, self.scale_at(y, f, w)).value) / jnp.sum(w)

    def scale_at(self, y: Array, f: Array, w: Array) -> Array | None:
        """The scale of the residuals of one data set, or None."""
        return None

    # What the engine reads: terms of sums over the observations, with their weights.

    def terms(self, y: Array, f: Array, w: Array, scale: Array | None) -> Terms:
        """w ρ and its derivatives in f; unused ones are not computed within `jit`."""
        return Terms(
            w * self.loss(y, f),
            w * self.slope(y, f),
            w * self.curvature(y, f),
            w * self.working_curvature(y, f),
        )

    def statistics(self, y: Array, f: Array, w: Array, scale: Array | None) -> dict[str, Array]:
        """Terms of the sums from which `summary` is made."""
        slope = self.slope(y, f)
        return {"slope2": w * slope * slope, "curvature": w * self.curvature(y, f)}

    def summary(self, sums: dict[str, Array], nobs: Array, p: int, scale: Array | None) -> Summary:
        """The summary from these sums, with the covariance of errors that have one distribution.

        Args:
            sums: of `statistics`, and Σ w and Σ w ρ as "weight" and "value".
            nobs: number of valid observations.
            p: number of params.
            scale: of the residuals, or None.
        """
        mean_curvature = sums["curvature"] / sums["weight"]
        return Summary(sums["slope2"] * over_df(nobs, p) / jnp.square(mean_curvature))


class Terms(NamedTuple):
    """The terms of an observation.

    Attributes:
        value: w ρ.
        slope: w ∂ρ/∂f.
        curvature: w ∂²ρ/∂f².
        working_curvature: what a solver takes for the curvature.
        careful_curvature: the same after many turns, if it differs; or None.
    """

    value: Array
    slope: Array
    curvature: Array
    working_curvature: Array
    careful_curvature: Array | None = None


@pytree
class _Loss(MeanLoss):
    """`mean_loss` of a function."""

    function: Any

    def loss(self, y: Array, f: Array) -> Array:
        """ρ(y, f)."""
        return self.function(y, f)


def mean_loss(rho: Any) -> MeanLoss:
    """The cost S(θ) = Σ w ρ(y, f) / Σ w of a loss of your own.

    Gaps, weights, standard errors and the derivative of the fit come with it.

    Args:
        rho: a smooth function ρ(y, f) of arrays, element by element, written in JAX; a callable pytree, such
            as `jax.tree_util.Partial`, if it has numbers that change or are differentiated.

    Raises:
        TypeError: if it is not callable.

    >>> import numpy as np
    >>> from jaxreg import fit
    >>> log_cosh = mean_loss(lambda y, f: jnp.logaddexp(y - f, f - y))
    >>> x, y = np.arange(5.0), np.array([0.0, 1.0, 2.0, 3.0, 9.0])
    >>> print(fit(x, y, cost=log_cosh).params.round(3))
    [-0.648  1.693]
    """
    if not callable(rho):
        raise TypeError(f"mean_loss takes a function rho(y, f), got {rho!r}")
    is_leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(rho))
    return _Loss(Partial(rho) if is_leaf else rho)


def _derivative(function: Callable[[Array, Array], Array], y: Array, f: Array) -> Array:
    """The derivative in f, element by element."""
    return jax.jvp(lambda f: function(y, f), (f,), (jnp.ones_like(f),))[1]


def check_positive(cost: Any, name: str) -> None:
    """Raise unless the numbers of a cost are positive, as far as they are known; a list becomes an array."""
    value = getattr(cost, name)
    if isinstance(value, list | tuple):
        value = np.asarray(value)
        object.__setattr__(cost, name, value)
    if isinstance(value, Tracer):
        return
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "fiu" or not np.all(numbers > 0):
        raise ValueError(f"{name} is positive, one number or one per data set; got {value}")


def over_df(nobs: Array, p: int) -> Array:
    """1 / (nobs − p); NaN without residual degrees of freedom."""
    return jnp.where(nobs > p, 1 / jnp.maximum(nobs - p, 1), jnp.nan)
