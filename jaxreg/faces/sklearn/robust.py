"""Regression with outliers in y."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxreg.costs.ridge import Ridge
from jaxreg.costs.robust import Huber
from jaxreg.faces.sklearn.data import are_numbers, check_data
from jaxreg.faces.sklearn.estimator import Regressor, WithErrors
from jaxreg.faces.sklearn.solution import solve


class HuberRegressor(WithErrors, Regressor):
    """Huber's regression: residuals count less than their squares beyond ε scales.

    β minimizes Σ s² ρ(√w |y − X β − intercept| / s) + α Σ β², ρ(u) = u² or 2 ε |u| − ε² beyond ε, as
    `jaxreg.Huber`. The scale s is the median of √w |residual| at β itself, divided by 0.6745; for normal
    errors it is their standard deviation.

    scikit-learn's `HuberRegressor` has the same ρ and ε, but minimizes n s + Σ ρ / s over s and β together
    ("concomitant scale"), which gives another s, and slightly different β. At equal s, its penalty α is here
    α s, which is in units of (y / X)². Its `sample_weight` repeats observations; here weights are inverse
    variances, by which also the limit ε s depends on w.

    Where X does not determine β, it is the one with the smallest Σ β², without standard errors. Gaps and
    dtypes are those of `LinearRegression`.

    Args:
        epsilon: ε, positive; with 1.345 β has 95 % of the efficiency of least squares for normal errors.
        alpha: strength of the penalty, 0 or more; with a penalty there are no standard errors.
        fit_intercept: whether there is an intercept, which is not penalized.

    Attributes:
        coef_: β, (k,), or (m, k) for m targets.
        intercept_: a number, or (m,); 0.0 without an intercept.
        bse_: standard errors of coef_, of its shape; those of statsmodels' RLM.
        pvalues_: p-values of the hypotheses β = 0, of the shape of coef_.
        intercept_bse_: standard error of intercept_, of its shape.
        intercept_pvalues_: p-value of intercept_ = 0, of its shape.
        scale_: s, a number, or (m,); NaN where fewer observations than params are fitted without residuals.
        status_: `jaxreg.Status` code, or (m,) of them.
        n_features_in_: k.
        feature_names_in_: names of the columns, if X is a data frame.

    >>> X, y = np.arange(9.0)[:, None], np.array([0.1, 0.9, 2.1, 2.9, 4.0, 5.1, 50.0, 7.1, 7.9])
    >>> model = HuberRegressor().fit(X, y)
    >>> print(model.coef_.round(2), model.bse_.round(3))
    [1.] [0.018]
    """

    epsilon: Any
    alpha: Any
    scale_: Any

    def __init__(self, *, epsilon: Any = 1.345, alpha: Any = 0.0, fit_intercept: Any = True) -> None:
        self.epsilon = epsilon
        self.alpha = alpha
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> HuberRegressor:
        """Fit all targets.

        Args:
            X: (n, k).
            y: (n,), or (n, m) for m targets; NaN is a gap.
            sample_weight: inverse variances, (n,), or (n, m), one for each y.

        Returns:
            The estimator.
        """
        if not are_numbers(self.epsilon) or not np.all(np.asarray(self.epsilon) > 0):
            raise ValueError(f"epsilon is a positive number, got {self.epsilon!r}")
        cost, penalty = Huber(self.epsilon), Ridge(self.alpha)
        data = check_data(self, X, y, sample_weight)
        solution = solve(data, self.fit_intercept, cost + penalty if np.any(self.alpha) else cost)
        self._store(solution, data)
        self.scale_ = solution.scale[0] if data.is_single else solution.scale
        return self
