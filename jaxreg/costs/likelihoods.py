"""Negative log-likelihoods of generalized linear models: shares, counts and positive numbers.

f = f(θ, x) is the linear predictor, of which the mean μ of y is a function, the inverse of the link. S is the
mean of −log P(y | μ) up to terms of y alone, so its turning point is the maximum of the likelihood.

Source: P. McCullagh and J. A. Nelder, Generalized Linear Models, 2nd ed. (1989).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import gammaln, xlogy

from jaxreg._typing import Array
from jaxreg.costs.mean_loss import MeanLoss, Summary, check_positive, over_df
from jaxreg.numerics.pytrees import pytree


class Likelihood(MeanLoss):
    """The negative log-likelihood of a generalized linear model."""

    is_convex = True
    is_likelihood = True

    def mean(self, f: Array) -> Array:
        """μ(f)."""
        return jnp.exp(f)

    @abstractmethod
    def first_f(self, y: Array, y_mean: Array) -> Array:
        """The f of an observation near its y, at which a solver may start."""

    @abstractmethod
    def variance(self, mu: Array) -> Array:
        """V(μ), the variance of y divided by the dispersion."""

    @abstractmethod
    def saturated_loss(self, y: Array) -> Array:
        """ρ where μ = y."""

    @abstractmethod
    def log_constant(self, y: Array) -> Array:
        """log P(y | μ) + ρ, a function of y alone."""

    def statistics(self, y: Array, f: Array, w: Array, scale: Array | None) -> dict[str, Array]:
        """Terms of the deviance, Pearson's χ² and the log-likelihood."""
        mu = self.mean(f)
        terms = {
            "saturated": self.saturated_loss(y),
            "chi2": jnp.square(y - mu) / self.variance(mu),
            "constant": self.log_constant(y),
        }
        return {name: jnp.where(w > 0, w * a, 0) for name, a in terms.items()}

    def summary(self, sums: dict[str, Array], nobs: Array, p: int, scale: Array | None) -> Summary:
        """With dispersion 1."""
        deviance = 2 * (sums["value"] - sums["saturated"])
        return Summary(jnp.ones_like(deviance), deviance, sums["chi2"], sums["constant"] - sums["value"])


@pytree
class Logistic(Likelihood):
    """Logistic regression: y is 0 or 1, or a share, with mean μ = 1 / (1 + e^−f).

    ρ = log(1 + e^f) − y f. Params are logarithms of odds ratios. A data set whose classes are separated by a
    combination of columns has no finite params, and gets the status `no_minimum`.

    y outside of 0 to 1 makes its data set `invalid_data`.

    Source: D. R. Cox, J. Roy. Stat. Soc. B 20 (1958) 215.

    >>> import numpy as np
    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0, 0, 1, 0, 1, 1.0])
    >>> result = fit(x, y, cost=Logistic())
    >>> print(result.params.round(3), result.predict(np.array([2.5])).round(3))
    [-3.035  1.214] [0.5]
    """

    link = "logit"

    def loss(self, y: Array, f: Array) -> Array:
        """log(1 + e^f) − y f."""
        return jnp.maximum(f, 0) - y * f + jnp.log1p(jnp.exp(-jnp.abs(f)))

    def slope(self, y: Array, f: Array) -> Array:
        """μ − y; NaN for y outside of 0 to 1."""
        return self.mean(f) - jnp.where((y >= 0) & (y <= 1), y, jnp.nan)

    def curvature(self, y: Array, f: Array) -> Array:
        """μ (1 − μ), without cancellation."""
        e = jnp.exp(-jnp.abs(f))
        return e / jnp.square(1 + e)

    def working_curvature(self, y: Array, f: Array) -> Array:
        """The same from the μ that the slope needs, since exponentials take most of the time of a fit."""
        mu = self.mean(f)
        return mu * (1 - mu)

    def first_f(self, y: Array, y_mean: Array) -> Array:
        """The logit of (y + 1/2) / 2."""
        mu = (y + 0.5) / 2
        return jnp.log(mu / (1 - mu))

    def mean(self, f: Array) -> Array:
        """1 / (1 + e^−f)."""
        return (1 + jnp.tanh(f / 2)) / 2

    def variance(self, mu: Array) -> Array:
        """μ (1 − μ)."""
        return mu * (1 - mu)

    def saturated_loss(self, y: Array) -> Array:
        """−y log y − (1 − y) log(1 − y), which is 0 for y of 0 or 1."""

        def of_shares(y: Array) -> Array:
            return -xlogy(y, y) - xlogy(1 - y, 1 - y)

        return lax.cond(jnp.any((y > 0) & (y < 1)), of_shares, jnp.zeros_like, y)

    def log_constant(self, y: Array) -> Array:
        """0."""
        return jnp.zeros_like(y)

    def statistics(self, y: Array, f: Array, w: Array, scale: Array | None) -> dict[str, Array]:
        """The same; (y − μ)² / V(μ) without a quotient that may be 0 / 0."""
        odds = jnp.exp(f)  # for y = 0, (y − μ)² / V = odds, and for y = 1 their inverse
        chi2 = jnp.square((y - 1) * odds + y) / odds
        return super().statistics(y, f, w, scale) | {"chi2": jnp.where(w > 0, w * chi2, 0)}


@pytree
class Poisson(Likelihood):
    """Poisson regression: y are counts with mean and variance μ = e^f.

    ρ = μ − y f. Params are logarithms of rate ratios. y may be any number of 0 or more; a negative one makes
    its data set `invalid_data`. A data set whose counts are all 0, in total or in a group with a column of
    its own, has no finite params, and gets the status `no_minimum`.

    >>> import numpy as np
    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([1, 1, 2, 4, 5, 11.0])
    >>> print(fit(x, y, cost=Poisson()).params.round(3))
    [-0.325  0.532]
    """

    link = "log"
    starts_from_y = True

    def loss(self, y: Array, f: Array) -> Array:
        """e^f − y f."""
        return jnp.exp(f) - y * f

    def slope(self, y: Array, f: Array) -> Array:
        """μ − y; NaN for negative y."""
        return jnp.exp(f) - jnp.where(y >= 0, y, jnp.nan)

    def curvature(self, y: Array, f: Array) -> Array:
        """μ."""
        return jnp.exp(f)

    def first_f(self, y: Array, y_mean: Array) -> Array:
        """The logarithm of (y + ⟨y⟩) / 2."""
        return jnp.log((y + y_mean) / 2)

    def variance(self, mu: Array) -> Array:
        """μ."""
        return mu

    def saturated_loss(self, y: Array) -> Array:
        """y − y log y."""
        return y - xlogy(y, y)

    def log_constant(self, y: Array) -> Array:
        """−log y!."""
        return -gammaln(y + 1)


@pytree
class NegativeBinomial(Likelihood):
    """Negative binomial regression: counts with mean μ = e^f and variance μ + α μ².

    For counts that scatter more than Poisson's. ρ = (y + 1/α) log(1 + α μ) − y f.

    Args:
        alpha: α, a positive number, one for all data sets or one for each.

    Source: J. M. Hilbe, Negative Binomial Regression, 2nd ed. (2011).

    >>> x, y = jnp.arange(6.0), jnp.array([1, 1, 2, 4, 5, 11.0])
    >>> round(float(NegativeBinomial(alpha=0.5)(jnp.array([0.0, 0.5]), x, y)), 4)
    0.633
    """

    link = "log"
    starts_from_y = True
    converges_quadratically = False

    alpha: Any = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "alpha")

    def loss(self, y: Array, f: Array) -> Array:
        """(y + 1/α) log(1 + α μ) − y f."""
        return (y + 1 / self.alpha) * jnp.log1p(self.alpha * jnp.exp(f)) - y * f

    def slope(self, y: Array, f: Array) -> Array:
        """(μ − y) / (1 + α μ); NaN for negative y."""
        mu = jnp.exp(f)
        return (mu - jnp.where(y >= 0, y, jnp.nan)) / (1 + self.alpha * mu)

    def curvature(self, y: Array, f: Array) -> Array:
        """μ (1 + α y) / (1 + α μ)²."""
        mu = jnp.exp(f)
        return mu * (1 + self.alpha * y) / jnp.square(1 + self.alpha * mu)

    def working_curvature(self, y: Array, f: Array) -> Array:
        """Its expectation, μ / (1 + α μ)."""
        mu = jnp.exp(f)
        return mu / (1 + self.alpha * mu)

    def first_f(self, y: Array, y_mean: Array) -> Array:
        """The logarithm of (y + ⟨y⟩) / 2."""
        return jnp.log((y + y_mean) / 2)

    def variance(self, mu: Array) -> Array:
        """μ + α μ²."""
        return mu * (1 + self.alpha * mu)

    def saturated_loss(self, y: Array) -> Array:
        """(y + 1/α) log(1 + α y) − y log y."""
        return (y + 1 / self.alpha) * jnp.log1p(self.alpha * y) - xlogy(y, y)

    def log_constant(self, y: Array) -> Array:
        """y log α + log Γ(y + 1/α) − log Γ(1/α) − log y!."""
        inverse = 1 / self.alpha
        return y * jnp.log(self.alpha) + gammaln(y + inverse) - gammaln(inverse) - gammaln(y + 1)


@pytree
class Gamma(Likelihood):
    """Gamma regression with a logarithmic link: y are positive with mean μ = e^f and variance φ μ².

    ρ = y / μ + f. The dispersion φ is estimated by Pearson's χ² / df_resid. y of 0 or less makes its data set
    `invalid_data`.

    >>> x, y = jnp.arange(6.0), jnp.array([1.1, 1.4, 2.9, 4.1, 8.0, 11.0])
    >>> round(float(Gamma()(jnp.array([0.0, 0.5]), x, y)), 4)
    2.2361
    """

    link = "log"
    starts_from_y = True
    converges_quadratically = False
    safe_y: ClassVar[float] = 1.0

    def loss(self, y: Array, f: Array) -> Array:
        """y / μ + f."""
        return y * jnp.exp(-f) + f

    def slope(self, y: Array, f: Array) -> Array:
        """1 − y / μ; NaN unless y is positive."""
        return 1 - jnp.where(y > 0, y, jnp.nan) * jnp.exp(-f)

    def curvature(self, y: Array, f: Array) -> Array:
        """y / μ."""
        return y * jnp.exp(-f)

    def working_curvature(self, y: Array, f: Array) -> Array:
        """Its expectation, 1."""
        return jnp.ones_like(f)

    def first_f(self, y: Array, y_mean: Array) -> Array:
        """The logarithm of (y + ⟨y⟩) / 2."""
        return jnp.log((y + y_mean) / 2)

    def variance(self, mu: Array) -> Array:
        """μ²."""
        return mu * mu

    def saturated_loss(self, y: Array) -> Array:
        """1 + log y."""
        return 1 + jnp.log(y)

    def log_constant(self, y: Array) -> Array:
        """−log y; the rest depends on the dispersion."""
        return -jnp.log(y)

    def summary(self, sums: dict[str, Array], nobs: Array, p: int, scale: Array | None) -> Summary:
        """With the dispersion φ = χ² / df_resid.

        The log-likelihood of an observation is ν (log(ν y/μ) − y/μ) − log y − log Γ(ν), ν = 1/φ; with weights
        it depends on each of them and is NaN.
        """
        dispersion = sums["chi2"] * over_df(nobs, p)
        nu = 1 / dispersion
        llf = (
            nu * (nobs * jnp.log(nu) - sums["constant"] - sums["value"])
            + sums["constant"]
            - nobs * gammaln(nu)
        )
        llf = jnp.where(sums["weight"] == nobs, llf, jnp.nan)
        deviance = 2 * (sums["value"] - sums["saturated"])
        return Summary(dispersion, deviance, sums["chi2"], llf)
