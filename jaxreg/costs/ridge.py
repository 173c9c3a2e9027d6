"""Ridge regression: the mean squared error and a penalty on the size of the params."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.ansatz import compiled_ansatz
from jaxreg.cost import CostOfObservations
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.numerics.pytrees import pytree, static

RULES = ("gcv", "loo")


@pytree
class Ridge(CostOfObservations):
    """Ridge regression, S(θ) = (Σ w ε² + α Σ β²) / Σ w, with β all params but the intercept.

    Added to another cost, as in `Logistic() + Ridge(0.5)`, it penalizes that: S(θ) = (Σ w ρ + α Σ β²) / Σ w;
    for a likelihood α = 1/(2C) of scikit-learn's `LogisticRegression`.

    α has the units and the meaning of scikit-learn's. Params carry the units of the data, so that columns
    with large values are penalized less: standardize x if they should not be. α > 0 determines the params
    also where columns depend on each other, or are more than the observations.

    Params are biased towards 0 and have no standard errors. `Fit.effective_dof` is the trace of the hat
    matrix, `Fit.scale` is ssr / (nobs − effective_dof), and `Fit.alpha` the α of each data set.

    Args:
        alpha: α, 0 or more, one for all data sets or one for each.

    Raises:
        ValueError: if alpha is negative.

    Source: A. E. Hoerl and R. W. Kennard, Technometrics 12 (1970) 55.

    >>> from jaxreg import Linear, fit
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
    >>> y = np.array([1.0, 2.0, 4.0, 5.0])
    >>> print(fit(x, y, ansatz=Linear(), cost=Ridge(alpha=1.0)).params.round(4))
    [1.0294 1.1176 0.2941]
    """

    alpha: Any = 1.0
    alphas: tuple[float, ...] | None = static(default=None)
    by: str | None = static(default=None)

    def __post_init__(self) -> None:
        if isinstance(self.alpha, list | tuple):
            object.__setattr__(self, "alpha", np.asarray(self.alpha))
        if isinstance(self.alpha, Tracer):
            return
        alpha = np.asarray(self.alpha)
        if alpha.dtype.kind not in "fiu" or not np.all(alpha >= 0):
            raise ValueError(f"alpha is 0 or more, one number or one per data set; got {self.alpha}")

    def __repr__(self) -> str:
        return (
            f"Ridge({self.alpha})" if self.alphas is None else f"Ridge.choose({self.alphas}, by={self.by!r})"
        )

    def __add__(self, cost: Any) -> Penalized:
        """The penalty added to a mean of a loss."""
        return self.__radd__(cost)

    def __radd__(self, cost: Any) -> Penalized:
        """The same."""
        if not isinstance(cost, MeanLoss) or cost.is_piecewise_linear:
            raise TypeError(
                f"Ridge adds to costs such as Huber() and Logistic(), got {cost!r}; alone it is the mean "
                "squared error with its penalty"
            )
        if self.alphas is not None:
            raise TypeError("Ridge.choose is for the mean squared error; pass Ridge(alpha) to add to a cost")
        return Penalized(cost, self.alpha)

    @classmethod
    def choose(cls, alphas: Any, by: str = "loo") -> Ridge:
        """Ridge regression with the best of several α for each data set.

        Args:
            alphas: candidates, positive numbers.
            by: "loo" for the smallest Σ w ε² of observations that are left out, each in turn, which is
                computed exactly from one fit by ε / (1 − h) with the leverage h, as by scikit-learn's
                `RidgeCV`; or "gcv" for generalized cross-validation, nobs · ssr / (nobs − effective_dof)²,
                which needs no pass over the data.

        Raises:
            ValueError: if there are no candidates, one is not positive, or `by` is another word.

        Source: G. H. Golub, M. Heath and G. Wahba, Technometrics 21 (1979) 215.

        >>> from jaxreg import Linear, fit
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
        >>> y = np.array([1.0, 2.0, 4.0, 5.0])
        >>> print(fit(x, y, ansatz=Linear(), cost=Ridge.choose([0.1, 1.0, 10.0])).alpha)
        0.1
        """
        is_list = isinstance(alphas, Iterable) and not isinstance(alphas, str)
        try:
            candidates = tuple(float(a) for a in alphas) if is_list else ()
        except (TypeError, ValueError):
            candidates = ()
        if not candidates or not all(a > 0 and np.isfinite(a) for a in candidates):
            raise ValueError(
                f"alphas are several positive numbers, such as np.logspace(-3, 3, 20); got {alphas}"
            )
        if by not in RULES:
            raise ValueError(f'by is "loo" or "gcv", got {by!r}')
        return cls(0.0, candidates, by)

    def of_observations(self, params: Array, y: Array, f: Array, w: Array, ansatz: Any) -> Array:
        """(Σ w ε² + α Σ β²) / Σ w."""
        return (jnp.sum(w * (y - f) ** 2) + self.alpha * _sum_of_squares(params, ansatz)) / jnp.sum(w)


@pytree
class Penalized(CostOfObservations):
    """A mean of a loss with the penalty α Σ β² / Σ w of `Ridge`, to which `+` adds it.

    >>> from jaxreg import Logistic, fit
    >>> x, y = np.arange(6.0), np.array([0, 0, 1, 0, 1, 1.0])
    >>> print(fit(x, y, cost=Logistic() + Ridge(0.5)).params.round(3))
    [-1.918  0.767]
    """

    cost: MeanLoss
    alpha: Any

    uses_t = False

    @property
    def link(self) -> str:
        """That of the cost."""
        return self.cost.link

    @property
    def safe_y(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the cost."""
        return self.cost.safe_y

    def of_observations(self, params: Array, y: Array, f: Array, w: Array, ansatz: Any) -> Array:
        """Σ w ρ / Σ w + α Σ β² / Σ w."""
        penalty = self.alpha * _sum_of_squares(params, ansatz) / jnp.sum(w)
        return self.cost.of_observations(params, y, f, w, ansatz) + penalty


def _sum_of_squares(params: Array, ansatz: Any) -> Array:
    """Σ β² over all params but the intercept."""
    return jnp.sum(params[int(compiled_ansatz(ansatz).has_intercept) :] ** 2)
