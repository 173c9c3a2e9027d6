"""What the estimators share: their attributes, predictions and scores."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from jaxreg.faces.sklearn.bases import BaseEstimator, MultiOutputMixin, RegressorMixin
from jaxreg.faces.sklearn.data import Data, check_new, check_weights
from jaxreg.faces.sklearn.solution import Solution


class LinearModel(BaseEstimator):
    """An estimator with coefficients.

    Attributes:
        coef_: (k,), or (m, k) for m targets.
        intercept_: a number, or (m,).
        status_: `jaxreg.Status` code, or (m,) of them.
        n_features_in_: k.
        feature_names_in_: (k,), if X had names.
    """

    fit_intercept: Any  # constructors take anything, and `fit` checks it
    coef_: np.ndarray
    intercept_: Any
    status_: Any
    n_features_in_: int
    feature_names_in_: np.ndarray

    def _store(self, solution: Solution, data: Data) -> None:
        """Set coef_, intercept_ and status_."""
        self.intercept_, self.coef_ = _split(solution.params, data, self.fit_intercept, 0.0)
        self.status_ = solution.status[0] if data.is_single else solution.status

    def _linear_predictor(self, X: Any) -> np.ndarray:
        """X β + intercept, (n,) or (n, m)."""
        check_is_fitted(self)
        return check_new(self, X) @ self.coef_.T + self.intercept_


class WithErrors(LinearModel):
    """An estimator whose coefficients have standard errors.

    Attributes:
        bse_: standard errors of coef_, of its shape.
        pvalues_: p-values of the hypotheses that a coefficient is 0, of the shape of coef_.
        intercept_bse_: standard error of intercept_, of its shape.
        intercept_pvalues_: p-value of intercept_ = 0, of its shape.
    """

    bse_: np.ndarray
    pvalues_: np.ndarray
    intercept_bse_: Any
    intercept_pvalues_: Any

    def _store(self, solution: Solution, data: Data) -> None:
        super()._store(solution, data)
        self.intercept_bse_, self.bse_ = _split(solution.bse, data, self.fit_intercept, np.nan)
        self.intercept_pvalues_, self.pvalues_ = _split(solution.pvalues, data, self.fit_intercept, np.nan)


class Regressor(MultiOutputMixin, RegressorMixin, LinearModel):
    """A regressor of one or many targets."""

    def predict(self, X: Any) -> np.ndarray:
        """X β + intercept.

        Args:
            X: (n, k).

        Returns:
            (n,), or (n, m) for m targets; NaN for targets without coefficients.
        """
        return self._linear_predictor(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² = 1 − Σ w (y − f)² / Σ w (y − ȳ)², the mean of all targets, as in scikit-learn.

        Gaps in y are left out, as are targets that have nothing else. NaN if a target has one observation
        only, or no coefficients.

        Args:
            X: (n, k).
            y: (n,) or (n, m).
            sample_weight: None, (n,), or (n, m).
        """
        return self._explained(X, y, sample_weight)

    def _deviance(self, y: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """What the score sums."""
        return np.square(y - mean)

    def _explained(self, X: Any, y: Any, sample_weight: Any) -> float:
        """The mean over the targets of 1 − Σ w d(y, f) / Σ w d(y, ȳ) with the deviance d."""
        f = self.predict(X)
        options: Any = {"ensure_2d": False, "ensure_all_finite": "allow-nan", "dtype": np.float64}
        y = check_array(y, input_name="y", **options)
        check_consistent_length(f, y)
        if y[0].size != f[0].size:
            raise ValueError(f"y has shape {y.shape}, and predictions have {f.shape}")
        weights = check_weights(sample_weight, y, y.shape)
        y, f = (a.reshape(len(a), -1).astype(np.float64) for a in (y, f))
        w = Data(y, y, weights, False).observed_weights
        y, f, w = (a[:, w.any(axis=0)] for a in (y, f, w))
        gaps = w == 0
        total = w.sum(axis=0)
        mean = np.sum(w * np.where(gaps, 0, y), axis=0) / total
        y, f = np.where(gaps, mean, y), np.where(gaps, mean, f)
        unexplained, variation = (np.sum(w * self._deviance(y, a), axis=0) for a in (f, mean + 0 * y))
        if not y.size or np.any(np.count_nonzero(w, axis=0) < 2):
            warnings.warn("the score of fewer than two observations is NaN", UndefinedMetricWarning, 3)
            return float("nan")
        constant = np.where(unexplained == 0, 1.0, 0.0 * unexplained)  # as in scikit-learn; NaN stays
        varies = variation != 0
        scores = np.where(varies, 1 - unexplained / np.where(varies, variation, 1), constant)
        return float(scores.mean())


def _split(values: np.ndarray, data: Data, fit_intercept: bool, without: float) -> tuple[Any, np.ndarray]:
    """Of (p, m) the part of the intercept and that of the coefficients, in the shapes of scikit-learn."""
    slopes = np.ascontiguousarray(values[int(fit_intercept) :].T)
    intercepts = values[0].copy() if fit_intercept else without
    if data.is_single:
        return (intercepts[0] if isinstance(intercepts, np.ndarray) else intercepts), slopes[0]
    return intercepts, slopes
