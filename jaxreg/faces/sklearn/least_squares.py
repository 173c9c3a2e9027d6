"""Least squares: in closed form, chunk by chunk, with a penalty, and by gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax

import jaxreg.costs.ridge as costs
from jaxreg.ansatz import Linear
from jaxreg.cost import mean_squared_error
from jaxreg.faces.sklearn.data import Data, are_numbers, check_data, padded
from jaxreg.faces.sklearn.estimator import Regressor, WithErrors
from jaxreg.faces.sklearn.solution import of_stream, solve
from jaxreg.fitting import moments
from jaxreg.inference.stream import Stream
from jaxreg.solvers.gradient_descent import GradientDescent


class LinearRegression(WithErrors, Regressor):
    """Least squares, y = X β + intercept, with standard errors and gaps in y.

    β minimizes Σ w (y − X β − intercept)², for every target (column of y) separately, all in one call. Where
    X does not determine β, with fewer observations than params or with columns that depend on each other,
    it is the one with the smallest Σ β², as in scikit-learn; it has no standard errors, and its `status_` is
    `too_few_observations` or `rank_deficient`.

    X must be finite. NaN in y is a gap of its target; with all values NaN, `fit` raises a ValueError for a
    single target, while one of many targets gets NaN and the status `no_observations`. float32 X and y give
    float32 results, otherwise these are float64, whatever JAX's 64-bit switch.

    Args:
        fit_intercept: whether there is an intercept.
        cov_type: of the standard errors, as for `jaxreg.fit`: "nonrobust", "HC0" to "HC3", or an object such
            as `jaxreg.HAC(maxlags=3)`.

    Attributes:
        coef_: β, (k,), or (m, k) for m targets; in units of y / units of x.
        intercept_: a number, or (m,); 0.0 without an intercept.
        bse_: standard errors of coef_, of its shape.
        pvalues_: p-values of the hypotheses β = 0, of the shape of coef_.
        intercept_bse_: standard error of intercept_, of its shape.
        intercept_pvalues_: p-value of intercept_ = 0, of its shape.
        status_: `jaxreg.Status` code, or (m,) of them.
        n_features_in_: k.
        feature_names_in_: names of the columns, if X is a data frame.

    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
    >>> y = np.array([[1.0, 0.0], [2.0, 1.0], [4.0, np.nan], [6.0, 3.0]])
    >>> model = LinearRegression().fit(X, y)
    >>> print(model.coef_.round(3))
    [[1.667 0.167]
     [1.    0.   ]]
    >>> print(model.bse_[0].round(3), model.status_)  # the second target has three observations
    [0.236 0.373] [0 1]
    """

    cov_type: Any
    _stream: Stream

    def __init__(self, *, fit_intercept: Any = True, cov_type: Any = "nonrobust") -> None:
        self.fit_intercept = fit_intercept
        self.cov_type = cov_type

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearRegression:
        """Fit all targets.

        Args:
            X: (n, k).
            y: (n,), or (n, m) for m targets; NaN is a gap.
            sample_weight: inverse variances, (n,), or (n, m), one for each y.

        Returns:
            The estimator.
        """
        data = check_data(self, X, y, sample_weight)
        self.__dict__.pop("_stream", None)
        self._store(solve(data, self.fit_intercept, cov_type=self.cov_type), data)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearRegression:
        """Fit these observations and those of all previous calls, which are kept as their averages.

        The result is that of `fit` with all observations at once, up to rounding. The first chunk determines
        the dtype. A call of `fit` forgets all chunks.

        Args:
            X: (n, k).
            y: (n,), or (n, m), with the targets of the first chunk.
            sample_weight: as for `fit`.

        Raises:
            ValueError: if columns or targets are not those of the first chunk, or for a robust `cov_type`,
                for which averages are not enough.

        >>> X, y = np.arange(6.0)[:, None], np.array([1.0, 2.0, 2.0, 5.0, 4.0, 6.0])
        >>> model = LinearRegression().partial_fit(X[:3], y[:3]).partial_fit(X[3:], y[3:])
        >>> print(model.coef_.round(4), model.bse_.round(4))
        [0.9714] [0.2007]
        """
        if self.cov_type != "nonrobust":
            raise ValueError(f'partial_fit needs cov_type="nonrobust", got {self.cov_type!r}; call fit')
        before = getattr(self, "_stream", None)
        is_first = before is None
        data = check_data(self, X, y, sample_weight, reset=is_first, may_be_empty=not is_first)
        if before is not None:
            data = _like_first_chunk(data, before, np.ndim(self.status_) == 0)
        rows = padded(data)
        ansatz = Linear(intercept=bool(self.fit_intercept))
        chunk = Stream.of(moments(rows.X, rows.y, rows.weights, ansatz=ansatz))
        self._stream = chunk if before is None else before + chunk
        self._store(of_stream(self._stream), data)
        return self


def _like_first_chunk(data: Data, before: Stream, was_single: bool) -> Data:
    """A chunk in the dtype of the first one."""
    (targets,) = before.shape
    if data.is_single != was_single or data.y.shape[1] != targets:
        raise ValueError(
            f"y of the first chunk was {'(n,)' if was_single else f'(n, {targets})'}, and y is now "
            f"{'(n,)' if data.is_single else f'(n, {data.y.shape[1]})'}"
        )
    return data.astype(before.dtype)


class Ridge(Regressor):
    """Ridge regression, with α given or chosen for every target.

    β minimizes Σ w (y − X β − intercept)² + α Σ β², as in scikit-learn's `Ridge`, and with `alphas` in its
    `RidgeCV(alpha_per_target=True)`. β is biased towards 0 and has no standard errors. Gaps, dtypes and
    targets without observations are those of `LinearRegression`.

    Args:
        alpha: α, 0 or more, a number, or (m,), one for each target.
        alphas: several candidates for α, positive numbers, of which the best is chosen for each target
            separately; `alpha` is then not used.
        by: what is best, as in `jaxreg.Ridge.choose`: "loo" for the smallest squared errors of observations
            that are left out, each in turn, or "gcv" for generalized cross-validation. Either takes an
            observation of weight 2 for one of half the variance, not for two.
        fit_intercept: whether there is an intercept, which is not penalized.

    Attributes:
        coef_: β, (k,), or (m, k) for m targets.
        intercept_: a number, or (m,); 0.0 without an intercept.
        alpha_: α of each target, a number, or (m,).
        status_: `jaxreg.Status` code, or (m,) of them.
        n_features_in_: k.
        feature_names_in_: names of the columns, if X is a data frame.

    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
    >>> model = Ridge(alphas=[0.1, 1.0, 10.0]).fit(X, np.array([1.0, 2.0, 4.0, 5.0]))
    >>> print(model.coef_.round(4), model.alpha_)
    [1.3079 0.3296] 0.1
    """

    alpha: Any
    alphas: Any
    by: str
    alpha_: Any

    def __init__(
        self, alpha: Any = 1.0, *, alphas: Any = None, by: Any = "loo", fit_intercept: Any = True
    ) -> None:
        self.alpha = alpha
        self.alphas = alphas
        self.by = by
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Ridge:
        """Fit all targets.

        Args:
            X: (n, k).
            y: (n,), or (n, m) for m targets; NaN is a gap.
            sample_weight: inverse variances, (n,), or (n, m), one for each y.

        Returns:
            The estimator.
        """
        data = check_data(self, X, y, sample_weight)
        m = data.y.shape[1]
        if self.alphas is not None:
            solution = solve(data, self.fit_intercept, costs.Ridge.choose(self.alphas, self.by))
            alpha = solution.alpha
        else:
            cost = costs.Ridge(self.alpha)
            if np.shape(self.alpha) not in ((), (m,)):
                raise ValueError(f"alpha is a number or has shape ({m},), got shape {np.shape(self.alpha)}")
            alpha = np.broadcast_to(np.asarray(self.alpha, data.y.dtype), m).copy()
            solution = solve(data, self.fit_intercept, cost if alpha.any() else mean_squared_error)
        self._store(solution, data)
        self.alpha_ = alpha[0] if data.is_single else alpha
        return self


class GradientDescentRegressor(WithErrors, Regressor):
    """Least squares by gradient descent, θ ← θ − α∇S, with any optimizer of optax.

    The descent is that of `jaxreg.GradientDescent`: in coordinates in which every column and y have mean 0
    and variance 1, on averages of the data, so that a step does not read them. A target that does not
    converge keeps its last coefficients, with the status `not_converged` and a ConvergenceWarning; one that
    diverges gets NaN. Where X does not determine β there is no descent, but the solution of
    `LinearRegression`, whose gaps and dtypes these are, too.

    Args:
        optimizer: a function of the learning rate that returns an optax optimizer, such as `optax.sgd` or
            `optax.adam`; or an optimizer, such as `optax.adam(0.05)`, which cannot be pickled.
        learning_rate: α, passed to the function, 0.1 if omitted. `optax.sgd` converges for α below 1/k.
        steps: the largest number of steps; all of `optax.sgd` take no longer than some log(steps). Pass some
            1,000 for `optax.adam`, which circles the minimum in steps that do not vanish.
        tol: a target stops as soon as |∇S| ≤ tol; if omitted, all steps are taken.
        fit_intercept: whether there is an intercept.

    Attributes:
        coef_: β, (k,), or (m, k) for m targets.
        intercept_: a number, or (m,); 0.0 without an intercept.
        bse_: standard errors of coef_, of its shape, of a descent that has converged.
        pvalues_: p-values of the hypotheses β = 0, of the shape of coef_.
        intercept_bse_: standard error of intercept_, of its shape.
        intercept_pvalues_: p-value of intercept_ = 0, of its shape.
        status_: `jaxreg.Status` code, or (m,) of them.
        n_features_in_: k.
        feature_names_in_: names of the columns, if X is a data frame.

    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
    >>> model = GradientDescentRegressor(optax.adam, steps=1000).fit(X, np.array([1.0, 2.0, 4.0, 5.0]))
    >>> print(model.coef_.round(3))
    [1.333 0.333]
    """

    optimizer: Any
    learning_rate: Any
    steps: int
    tol: Any

    def __init__(
        self,
        optimizer: Any = optax.sgd,
        *,
        learning_rate: Any = None,
        steps: Any = 100_000,
        tol: Any = None,
        fit_intercept: Any = True,
    ) -> None:
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.steps = steps
        self.tol = tol
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GradientDescentRegressor:
        """Fit all targets.

        Args:
            X: (n, k).
            y: (n,), or (n, m) for m targets; NaN is a gap.
            sample_weight: inverse variances, (n,), or (n, m), one for each y.

        Returns:
            The estimator.
        """
        optimizer: Any = self.optimizer
        if not isinstance(optimizer, optax.GradientTransformation) and not callable(optimizer):
            raise TypeError(
                "optimizer is a function of the learning rate such as optax.sgd, or an optimizer such as "
                f"optax.adam(0.05), got {self.optimizer!r}"
            )
        for name in ("learning_rate", "tol"):
            value = getattr(self, name)
            if value is not None and not (are_numbers(value) and np.all(np.asarray(value) >= 0)):
                raise ValueError(f"{name} is a number of 0 or more, or None; got {value!r}")
        solver = GradientDescent(self.optimizer, self.learning_rate, self.steps, self.tol)
        data = check_data(self, X, y, sample_weight)
        self._store(solve(data, self.fit_intercept, solver=solver), data)
        return self
