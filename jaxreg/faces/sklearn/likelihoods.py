"""Classes and counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, log_expit, xlogy
from sklearn.utils import _safe_indexing
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from jaxreg.costs.likelihoods import Logistic, Poisson
from jaxreg.costs.ridge import Ridge
from jaxreg.faces.sklearn.bases import ClassifierMixin
from jaxreg.faces.sklearn.data import Data, are_numbers, check_data, check_weights, check_X_and_y
from jaxreg.faces.sklearn.estimator import Regressor, WithErrors
from jaxreg.faces.sklearn.solution import solve

NEGATIVE = "Some value(s) of y are negative; PoissonRegressor takes counts or rates"


class LogisticRegression(ClassifierMixin, WithErrors):
    """Logistic regression of two classes, log(P / (1 − P)) = X β + intercept.

    β minimizes C Σ w log(1 + e^(∓f)) + Σ β² / 2 with f = X β + intercept, as in scikit-learn. Without a
    penalty, with C=np.inf, there are standard errors, while classes that a combination of columns separates
    have no finite β: `fit` then warns, and coefficients are NaN with the status `no_minimum`.

    X must be finite. NaN in a y of numbers is a gap, as are None, NaN and pandas.NA in one of objects.
    float32 X gives float32 results. `jaxreg.fit` with `ansatz=Linear(), cost=Logistic()` takes many targets
    of 0 and 1 in one call.

    Args:
        C: inverse strength of the penalty, positive; np.inf for none.
        fit_intercept: whether there is an intercept, which is not penalized.

    Attributes:
        classes_: the two labels, sorted; P is the probability of the second.
        coef_: β, (1, k).
        intercept_: (1,); 0 without an intercept.
        bse_: standard errors of coef_, (1, k); NaN with a penalty.
        pvalues_: p-values of the hypotheses β = 0, (1, k).
        intercept_bse_: standard error of intercept_, (1,).
        intercept_pvalues_: p-value of intercept_ = 0, (1,).
        status_: `jaxreg.Status` code.
        n_features_in_: k.
        feature_names_in_: names of the columns, if X is a data frame.

    >>> X, y = np.arange(6.0)[:, None], np.array(["no", "no", "yes", "no", "yes", "yes"])
    >>> model = LogisticRegression(C=np.inf).fit(X, y)
    >>> print(model.coef_.round(3), model.predict_proba([[2.0]]).round(3), model.predict([[2.0]]))
    [[1.214]] [[0.647 0.353]] ['no']
    """

    C: Any
    classes_: np.ndarray
    intercept_: Any
    status_: Any

    def __init__(self, *, C: Any = 1.0, fit_intercept: Any = True) -> None:
        self.C = C
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Fit the probability of the second class.

        Args:
            X: (n, k).
            y: labels, (n,), of two classes.
            sample_weight: factors of the loss, (n,).

        Returns:
            The estimator.

        Raises:
            ValueError: if y has not two classes, or all observations of a class have weight zero.
        """
        if np.ndim(self.C) or not are_numbers(self.C) or not self.C > 0:
            raise ValueError(f"C is a positive number, or np.inf for no penalty; got {self.C!r}")
        X, y = check_X_and_y(self, X, y, None)
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(
                f"LogisticRegression takes labels (n,), got {y.shape}; for many targets of 0 and 1 in one "
                "call use jaxreg.fit(X, y, ansatz=jaxreg.Linear(), cost=jaxreg.Logistic())"
            )
        y = column_or_1d(y, warn=True)
        weights = check_weights(sample_weight, X, y.shape)
        self.classes_, codes = _classes(y, X.dtype)
        data = Data(X, codes[:, None], weights, False)
        observed = codes[data.observed_weights[:, 0] > 0]
        if np.unique(observed).size < 2:
            raise ValueError(
                f"y has one class with a weight that is not zero; {type(self).__name__} needs two"
            )
        cost = Logistic() if np.isinf(self.C) else Logistic() + Ridge(1 / (2 * self.C))
        solution = solve(data, self.fit_intercept, cost)
        self._store(solution, data)
        self.status_ = solution.status[0]
        if not self.fit_intercept:
            self.intercept_ = np.zeros(1, X.dtype)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """X β + intercept, the logarithm of the odds of the second class.

        Args:
            X: (n, k).

        Returns:
            (n,).
        """
        return self._linear_predictor(X)[:, 0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities of both classes.

        Args:
            X: (n, k).

        Returns:
            (n, 2), in the order of classes_.
        """
        f = self.decision_function(X)
        return np.stack([expit(-f), expit(f)], axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of the probabilities, which do not underflow.

        Args:
            X: (n, k).

        Returns:
            (n, 2), in the order of classes_.
        """
        f = self.decision_function(X)
        return np.stack([log_expit(-f), log_expit(f)], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The more probable class of each observation.

        Args:
            X: (n, k).

        Returns:
            Labels, (n,).

        Raises:
            ValueError: if the fit has no coefficients.
        """
        f = self.decision_function(X)
        if np.isnan(self.coef_).any():
            raise ValueError("the fit found no coefficients to predict with; see status_")
        return self.classes_[(f > 0).astype(int)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of labels that are predicted; gaps are left out.

        Args:
            X: (n, k).
            y: labels, (n,).
            sample_weight: None or (n,).
        """
        labels = np.asarray(y)
        gaps = _gaps(labels)
        if not gaps.any():
            return super().score(X, y, sample_weight)
        seen = np.flatnonzero(~gaps)
        weights = None if sample_weight is None else _safe_indexing(sample_weight, seen)
        return super().score(_safe_indexing(X, seen), labels[seen], weights)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _gaps(y: np.ndarray) -> np.ndarray:
    """Which labels are missing: NaN, None or pandas.NA."""
    if y.dtype.kind == "f":
        return np.isnan(y)
    if y.dtype.kind != "O" or y.ndim != 1:
        return np.zeros(y.shape, bool)
    return np.array(
        [label is None or np.asarray(label == label).dtype != bool or label != label for label in y]
    )


def _classes(y: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The two labels, and y as 0 and 1, NaN in gaps."""
    gaps = _gaps(y)
    if gaps.all():
        raise ValueError("y has no observation: all values are missing")
    kind = type_of_target(y[~gaps], input_name="y", raise_unknown=True)
    if kind != "binary":
        raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
    classes, index = np.unique(y[~gaps], return_inverse=True)
    if classes.size < 2:
        raise ValueError(f"y has one class only, {classes.tolist()[0]!r}; LogisticRegression needs two")
    codes = np.full(y.shape, np.nan, dtype)
    codes[~gaps] = index
    return classes, codes


class PoissonRegressor(WithErrors, Regressor):
    """Poisson regression, log E(y) = X β + intercept, of counts or rates.

    β minimizes Σ w (μ − y log μ) / Σ w + α Σ β² / 2 with the mean μ, as in scikit-learn. Without a penalty,
    with α = 0, there are standard errors, while counts that are all 0 in a group with a column of its own
    have no finite β: `fit` then warns, and coefficients are NaN with the status `no_minimum`. A negative y
    raises a ValueError for a single target, while one of many targets gets NaN and the status `invalid_data`.
    Gaps and dtypes are those of `LinearRegression`.

    Args:
        alpha: α, 0 or more.
        fit_intercept: whether there is an intercept, which is not penalized.

    Attributes:
        coef_: β, (k,), or (m, k) for m targets.
        intercept_: a number, or (m,); 0.0 without an intercept.
        bse_: standard errors of coef_, of its shape; NaN with a penalty.
        pvalues_: p-values of the hypotheses β = 0, of the shape of coef_.
        intercept_bse_: standard error of intercept_, of its shape.
        intercept_pvalues_: p-value of intercept_ = 0, of its shape.
        status_: `jaxreg.Status` code, or (m,) of them.
        n_features_in_: k.
        feature_names_in_: names of the columns, if X is a data frame.

    >>> X, y = np.arange(6.0)[:, None], np.array([1, 1, 2, 4, 5, 11])
    >>> model = PoissonRegressor(alpha=0).fit(X, y)
    >>> print(model.coef_.round(3), model.bse_.round(3), model.predict([[2.0]]).round(3))
    [0.532] [0.15] [2.093]
    """

    alpha: Any

    def __init__(self, *, alpha: Any = 1.0, fit_intercept: Any = True) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PoissonRegressor:
        """Fit all targets.

        Args:
            X: (n, k).
            y: (n,), or (n, m) for m targets, 0 or more; NaN is a gap.
            sample_weight: factors of the loss, (n,), or (n, m), one for each y.

        Returns:
            The estimator.
        """
        if np.ndim(self.alpha) or not are_numbers(self.alpha) or not self.alpha >= 0:
            raise ValueError(f"alpha is a number of 0 or more, got {self.alpha!r}")
        data = check_data(self, X, y, sample_weight)
        if data.is_single and (data.y < 0).any():
            raise ValueError(NEGATIVE)
        cost = Poisson()
        if self.alpha > 0:  # a mean of the loss, and jaxreg's penalty is relative to its sum
            cost = cost + Ridge(self.alpha / 2 * data.observed_weights.sum(axis=0))
        self._store(solve(data, self.fit_intercept, cost), data)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The mean of y, e^(X β + intercept).

        Args:
            X: (n, k).

        Returns:
            (n,), or (n, m) for m targets.
        """
        return np.exp(self._linear_predictor(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """D² = 1 − D(y, μ) / D(y, ȳ) with the deviance D, the mean of all targets, as in scikit-learn.

        Gaps in y are left out, as are targets that have nothing else.

        Args:
            X: (n, k).
            y: (n,) or (n, m), 0 or more.
            sample_weight: None, (n,), or (n, m).
        """
        return super().score(X, y, sample_weight)

    def _deviance(self, y: np.ndarray, mean: np.ndarray) -> np.ndarray:
        if y.shape[1] == 1 and (y < 0).any():
            raise ValueError(NEGATIVE)
        return 2 * (xlogy(y, y) - xlogy(y, mean) - y + mean)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags
