"""Robust costs: residuals ε count less than their squares where they are large.

With a scale s of the residuals of each data set, u = √w ε / s, and ρ(u) that is u² near 0,
S(θ) = Σ s² ρ(u) / Σ w, which is the mean squared error where all residuals are small. s is the median of
√w |ε|, divided by 0.6745 (MAD), which is the standard deviation of normal errors. It is estimated together
with the params: these are the turning point at the scale of their own residuals.

Source: P. J. Huber and E. M. Ronchetti, Robust Statistics, 2nd ed. (2009), chapter 7.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.costs.mean_loss import MeanLoss, Summary, Terms, check_positive, over_df
from jaxreg.numerics.pytrees import pytree

MEDIAN_OF_NORMAL = 0.6744897501960817  # of |z| for normal z


def root_of_weight(w: Array) -> Array:
    """√w, with a derivative of 0 at 0."""
    return jnp.where(w > 0, jnp.sqrt(jnp.where(w > 0, w, 1)), 0)


class RobustCost(MeanLoss):
    """A cost S(θ) = Σ s² ρ(√w ε / s) / Σ w with the scale s of the residuals.

    A subclass gives ρ(u), ψ(u) = ρ'(u) / 2, and ψ'(u) in terms of |u|.
    """

    has_scale = True
    converges_quadratically = False

    def loss(self, y: Array, f: Array) -> Array:
        """ρ at the scale 1."""
        return self.rho(jnp.abs(y - f))

    @abstractmethod
    def rho(self, u: Array) -> Array:
        """ρ(u), near u² for small u."""

    @abstractmethod
    def psi_over_u(self, u: Array) -> Array:
        """ψ(u) / u, the weight of an observation, 1 for small u."""

    @abstractmethod
    def psi_slope(self, u: Array) -> Array:
        """ψ'(u)."""

    def step_weight(self, u: Array) -> Array:
        """What a step of a solver takes for ψ'(u): the weight ψ(u)/u, with which every step lowers S."""
        return self.psi_over_u(u)

    def scale_at(self, y: Array, f: Array, w: Array) -> Array:
        """The scale of the residuals, which is constant in derivatives: ∇S = 0 at a fit."""
        sizes = jnp.where(w > 0, root_of_weight(w) * jnp.abs(y - f), jnp.nan)
        scale = lax.stop_gradient(jnp.nanmedian(sizes) / MEDIAN_OF_NORMAL)
        return jnp.where(scale > 0, scale, 1)

    def terms(self, y: Array, f: Array, w: Array, scale: Any) -> Terms:
        """w ρ and its derivatives in f."""
        u = root_of_weight(w) * jnp.abs(y - f) / scale
        weight = 2 * w * self.psi_over_u(u)
        curvatures = (2 * w * self.psi_slope(u), 2 * w * self.step_weight(u), weight)
        return Terms(scale * scale * self.rho(u), weight * (f - y), *curvatures)

    def statistics(self, y: Array, f: Array, w: Array, scale: Any) -> dict[str, Array]:
        """Terms of Σ ψ², Σ ψ', Σ ψ'² and of the number of observations."""
        u = root_of_weight(w) * jnp.abs(y - f) / scale
        slope, valid = self.psi_slope(u), w > 0
        terms = {"psi2": jnp.square(u * self.psi_over_u(u)), "slope": slope, "slope2": slope * slope}
        return {name: jnp.where(valid, a, 0) for name, a in terms.items()}

    def summary(self, sums: dict[str, Array], nobs: Array, p: int, scale: Any) -> Summary:
        """Huber's covariance k² (Σ ψ² s² / (n − p)) / ⟨ψ'⟩² (Σ w φφᵀ)⁻¹, as in statsmodels ("H1").

        k = 1 + p/n var(ψ') / ⟨ψ'⟩² corrects it for few observations.
        """
        n = jnp.maximum(nobs, 1)
        mean = sums["slope"] / n
        k = 1 + p / n * (sums["slope2"] / n - jnp.square(mean)) / jnp.square(mean)
        return Summary(jnp.square(k * scale / mean) * sums["psi2"] * over_df(nobs, p))


class ConvexRobustCost(RobustCost):
    """A robust cost with ψ' ≥ 0, for which Newton's steps take fewer turns."""

    def step_weight(self, u: Array) -> Array:
        """ψ'(u), but at least half of ψ(u)/u.

        S is at most the parabola with the weights ψ(u)/u, which twice the step to its minimum does not raise.
        """
        return jnp.maximum(self.psi_slope(u), self.psi_over_u(u) / 2)


@pytree
class Huber(ConvexRobustCost):
    """Huber's cost: squared residuals up to δ s, growing linearly beyond, ρ(u) = u² or 2 δ |u| − δ².

    It is convex: every fit has one minimum. Outliers in y have a bounded effect; outliers in x do not.

    Args:
        delta: δ, in units of the scale s, one number or one per data set; with 1.345 the params have 95 % of
            the efficiency of least squares for normal errors.

    Source: P. J. Huber, Ann. Math. Stat. 35 (1964) 73.

    >>> import numpy as np
    >>> from jaxreg import fit
    >>> x, y = np.arange(9.0), np.array([0.1, 0.9, 2.1, 2.9, 4.0, 5.1, 50.0, 7.1, 7.9])
    >>> print(fit(x, y, cost=Huber()).params.round(2), fit(x, y).params.round(2))
    [0.02 1.  ] [-0.95  2.46]
    """

    delta: Any = 1.345

    def __post_init__(self) -> None:
        check_positive(self, "delta")

    def rho(self, u: Array) -> Array:
        """ρ(u)."""
        return jnp.where(u <= self.delta, u * u, self.delta * (2 * u - self.delta))

    def psi_over_u(self, u: Array) -> Array:
        """min(1, δ/u)."""
        return self.delta / jnp.maximum(u, self.delta)

    def psi_slope(self, u: Array) -> Array:
        """1 up to δ, 0 beyond."""
        return jnp.where(u <= self.delta, 1.0, 0.0).astype(u.dtype)


@pytree
class PseudoHuber(ConvexRobustCost):
    """A smooth form of Huber's cost, ρ(u) = 2 δ² (√(1 + u²/δ²) − 1).

    Args:
        delta: δ, in units of the scale s, one number or one per data set.

    Source: P. Charbonnier et al., IEEE Trans. Image Process. 6 (1997) 298.

    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.2, 2.0, 2.9, 9.0])
    >>> round(float(PseudoHuber()(jnp.array([0.0, 1.0]), x, y)), 4)  # the mean squared error is 5.01
    0.3917
    """

    delta: Any = 1.345

    def __post_init__(self) -> None:
        check_positive(self, "delta")

    def rho(self, u: Array) -> Array:
        """ρ(u), as a quotient that does not cancel for small u."""
        return 2 * u * u / (1 + self._root(u))

    def psi_over_u(self, u: Array) -> Array:
        """1 / √(1 + u²/δ²)."""
        return 1 / self._root(u)

    def psi_slope(self, u: Array) -> Array:
        """(1 + u²/δ²)^(−3/2)."""
        return self._root(u) ** -3

    def _root(self, u: Array) -> Array:
        return jnp.sqrt(1 + jnp.square(u / self.delta))


@pytree
class Bisquare(RobustCost):
    """Tukey's biweight: residuals beyond c s have no effect, ρ(u) = c²/3 (1 − (1 − u²/c²)³).

    Not convex: the minimum is the one that is reached from least squares.

    Args:
        c: in units of the scale s, one number or one per data set; with 4.685 the params have 95 % of the
            efficiency of least squares for normal errors.

    Source: A. E. Beaton and J. W. Tukey, Technometrics 16 (1974) 147.

    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.2, 2.0, 2.9, 9.0])
    >>> round(float(Bisquare()(jnp.array([0.0, 1.0]), x, y)), 4)  # the mean squared error is 5.01
    0.0415
    """

    c: Any = 4.685

    def __post_init__(self) -> None:
        check_positive(self, "c")

    def rho(self, u: Array) -> Array:
        """ρ(u) = u² (1 − u²/c² + u⁴/(3c⁴)) up to c, and c²/3 beyond."""
        square = jnp.square(jnp.minimum(u, self.c))
        ratio = square / jnp.square(self.c)
        return square * (1 - ratio + jnp.square(ratio) / 3)

    def psi_over_u(self, u: Array) -> Array:
        """(1 − u²/c²)², 0 beyond c."""
        return jnp.square(self._rest(u))

    def psi_slope(self, u: Array) -> Array:
        """(1 − u²/c²)(1 − 5 u²/c²), 0 beyond c."""
        rest = self._rest(u)
        return rest * (5 * rest - 4)

    def _rest(self, u: Array) -> Array:
        """1 − u²/c², 0 beyond c."""
        return 1 - jnp.square(jnp.minimum(u / self.c, 1))
