"""`jaxreg.fit` for the data of an estimator, and the solution of minimum norm where X has no unique one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from jaxreg.ansatz import Linear, Polynomial
from jaxreg.cost import mean_squared_error
from jaxreg.costs.ridge import Penalized, Ridge
from jaxreg.faces.sklearn.data import Data, padded
from jaxreg.fitting import fit
from jaxreg.inference.stream import Stream
from jaxreg.solvers import minimum_norm
from jaxreg.status import Status, describe

UNDETERMINED = (Status.too_few_observations, Status.rank_deficient)
FAILED_SEARCHES = (
    Status.not_converged,
    Status.diverged,
    Status.out_of_range,
    Status.cost_increased,
    Status.no_minimum,
    Status.undetermined,
)


@dataclass(frozen=True)
class Solution:
    """The params of m targets; NaN where there are none.

    Attributes:
        params: the intercept, if any, and the coefficients, (p, m).
        bse: their standard errors, (p, m).
        pvalues: their p-values, (p, m).
        status: `jaxreg.Status` codes, (m,).
        scale: of the residuals, (m,).
        alpha: of the penalty, (m,).
    """

    params: np.ndarray
    bse: np.ndarray
    pvalues: np.ndarray
    status: np.ndarray
    scale: np.ndarray
    alpha: np.ndarray

    @classmethod
    def without_params(cls, p: int, dtype: np.dtype, status: np.ndarray) -> Solution:
        """NaN for all targets."""
        nan = np.full((p, len(status)), np.nan, dtype)
        return cls(nan, nan.copy(), nan.copy(), status, nan[0].copy(), nan[0].copy())


def of_stream(stream: Stream) -> Solution:
    """The solution of a stream, of smallest norm where it does not determine the params."""
    result = stream.fit()
    params, status = np.array(result.params), np.asarray(result.status)
    for j in np.flatnonzero(np.isin(status, UNDETERMINED)):
        params[:, j] = minimum_norm.of_moments(stream.moments(), j)
    nan = np.full_like(params[0], np.nan)
    return Solution(params, np.asarray(result.bse), np.asarray(result.pvalues), status, nan, nan)


def solve(
    data: Data,
    fit_intercept: Any,
    cost: Any = mean_squared_error,
    solver: Any = None,
    cov_type: Any = "nonrobust",
) -> Solution:
    """Fit all targets in one call; the status of a target without a unique solution says so."""
    if not isinstance(fit_intercept, bool | np.bool_):
        raise TypeError(f"fit_intercept is True or False, got {fit_intercept!r}")
    fit_intercept = bool(fit_intercept)
    n, p = data.X.shape[0], data.X.shape[1] + fit_intercept
    if n < p and not isinstance(cost, Ridge | Penalized):
        nobs = np.count_nonzero(data.observed_weights, axis=0)
        status = np.where(nobs, Status.too_few_observations, Status.no_observations)
        solution = Solution.without_params(p, data.y.dtype, status)
    else:
        has_labels = bool(jax.tree.leaves(cov_type)) and not isinstance(cov_type, str)  # one for each row
        rows = data if has_labels else padded(data)
        result = fit(
            rows.X,
            rows.y,
            ansatz=Linear(intercept=fit_intercept),
            cost=cost,
            solver=solver,
            weights=rows.weights,
            cov_type=cov_type,
        )
        fields = (result.params, result.bse, result.pvalues, result.status, result.scale, result.alpha)
        solution = Solution(*(np.array(a) for a in fields))
    undetermined = np.flatnonzero(np.isin(solution.status, UNDETERMINED))
    for weights, targets in _with_equal_weights(data, undetermined):
        part = data.of(targets)
        cost_of_part = jax.tree.map(lambda a, t=targets: a[t] if np.ndim(a) else a, cost)
        found = _minimum_norm(part, weights, fit_intercept, cost_of_part, solver)
        solution.params[:, targets], solution.scale[targets], status = found
        solution.status[targets] = np.where(np.isnan(found[0]).any(axis=0), status, solution.status[targets])
    _warn(solution.status)
    return solution


def _warn(status: np.ndarray) -> None:
    """Warn of targets whose params were not found, as scikit-learn does."""
    failed = status[np.isin(status, FAILED_SEARCHES)]
    if failed.size:
        message = f"{failed.size} of {status.size} targets were not fitted\n{describe(failed)}"
        warnings.warn(message, ConvergenceWarning, stacklevel=4)


def _with_equal_weights(data: Data, targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weights (n,), 0 in gaps, and the targets that have them."""
    if not targets.size:
        return
    weights, index = np.unique(data.observed_weights[:, targets], axis=1, return_inverse=True)
    for i, w in enumerate(weights.T):
        yield w, targets[index.ravel() == i]


def _minimum_norm(
    data: Data, weights: np.ndarray, fit_intercept: bool, cost: Any, solver: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Params with the smallest Σ β² of those that minimize the cost, scale and status."""
    observed = weights > 0
    X, y, w = (a[observed].astype(np.float64) for a in (data.X, data.y, weights))
    center = np.average(X, axis=0, weights=w) if fit_intercept else np.zeros(X.shape[1])
    V = minimum_norm.basis_of_rows(X - center, float(np.linalg.norm(X)))
    params, scale, status = _in_basis((X - center) @ V.T, y, w, fit_intercept, cost, solver)
    slopes = V.T @ params[int(fit_intercept) :]
    if fit_intercept:
        slopes = np.vstack([params[0] - center @ slopes, slopes])
    return slopes, scale, status


def _in_basis(
    Z: np.ndarray, y: np.ndarray, w: np.ndarray, fit_intercept: bool, cost: Any, solver: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Params, scale and status for independent columns Z, of which there may be none."""
    m = y.shape[1]
    if cost is mean_squared_error:
        params = minimum_norm.least_squares(Z, y, w, fit_intercept)
        return params, np.full(m, np.nan), np.zeros(m, int)
    if not Z.shape[1] and not fit_intercept:
        return np.zeros((0, m)), np.full(m, np.nan), np.zeros(m, int)
    x, ansatz = (Z, Linear(intercept=fit_intercept)) if Z.shape[1] else (np.arange(len(y)), Polynomial(0))
    result = fit(x, y, ansatz=ansatz, cost=cost, solver=solver, weights=w)
    return np.asarray(result.params), np.asarray(result.scale), np.asarray(result.status)
