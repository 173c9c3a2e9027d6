"""The solution from moments, which `LinearRegression.partial_fit` adds up chunk by chunk."""

from __future__ import annotations

import jax
import numpy as np

from jaxreg.engine.moments import Moments
from jaxreg.faces.sklearn.solution import Solution
from jaxreg.inference.distributions import t as student
from jaxreg.numerics.precision import in_own_precision
from jaxreg.solvers.closed_form import MomentsPoint, turning_point
from jaxreg.status import Status

# Eigenvalues of ⟨x xᵀ⟩ relative to the largest that are rounding errors of moments in double-double.
ROUNDING = {"float32": 1e-12, "float64": 1e-14}


def solve_moments(moments: Moments) -> Solution:
    """Params, standard errors and p-values of m targets from their moments, with an intercept or without."""
    dtype, nobs = np.dtype(moments.G.hi.dtype), np.asarray(moments.nobs)
    point, p = _turning_point(moments), moments.G.hi.shape[0] - 1
    status = np.where(np.asarray(point.full_rank), Status.ok, Status.rank_deficient)
    status = np.where(nobs == p, np.where(status == Status.ok, Status.exact_fit, status), status)
    status = np.where(nobs < p, Status.too_few_observations, status)
    status = np.where(nobs == 0, Status.no_observations, status)
    solution = Solution.without_params(p, dtype, status)
    has_params = np.isin(status, (Status.ok, Status.exact_fit))
    solution.params[:, has_params] = np.asarray(point.params)[:, has_params]
    ok = status == Status.ok
    df = np.where(ok, nobs - p, 1)
    variance = np.asarray(point.cost, np.float64) / df  # of the params, in units of the scaling
    to_data_units = _to_data_units(moments)
    covariance = np.einsum("ijm,jkm,ikm->im", to_data_units, np.asarray(point.inverse, float), to_data_units)
    bse = np.sqrt(np.maximum(variance * covariance, 0)) * np.asarray(moments.scaling.y_scale, float)
    solution.bse[:, ok] = bse[:, ok]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(solution.params.astype(float) / bse)
    solution.pvalues[:, ok] = 2 * np.asarray(student.sf(t, df.astype(float)))[:, ok]
    for j in np.flatnonzero(~has_params & (nobs > 0)):
        solution.params[:, j] = _minimum_norm(moments, j)
    return solution


@in_own_precision
def _turning_point(moments: Moments) -> MomentsPoint:
    """The turning point in the dtype of the moments, whatever JAX's 64-bit switch."""
    return jax.jit(turning_point)(moments)


def _to_data_units(moments: Moments) -> np.ndarray:
    """The matrix that takes coefficients of (1, (x − center) / scale) to those of (1, x), (p, p, m)."""
    p, m = moments.G.hi.shape[0] - 1, moments.nobs.shape[0]
    first = int(moments.ansatz.has_intercept)
    scale, center = (np.asarray(a, float) for a in (moments.scaling.x_scale, moments.scaling.x_center))
    matrix = np.zeros((p, p, m))
    k = np.arange(first, p)
    matrix[k, k] = 1 / scale
    if first:
        matrix[0, 0] = 1
        matrix[0, 1:] = -center / scale
    return matrix


def _minimum_norm(moments: Moments, j: np.intp) -> np.ndarray:
    """Params of target j with the smallest Σ β² among those of least squares."""
    G = np.asarray(moments.G.hi, float)[..., j] + np.asarray(moments.G.lo, float)[..., j]
    scaling = moments.scaling
    first = int(moments.ansatz.has_intercept)
    mean = G[0, 1:] if first else np.zeros(len(G))  # of the scaled columns and y, in moments near 0
    covariance = G[first:, first:] - np.outer(mean, mean)
    x_scale, y_scale = np.asarray(scaling.x_scale, float)[:, j], float(scaling.y_scale[j])
    size = np.sqrt(np.diag(covariance)[:-1])  # the rank must not depend on units
    size = np.where(size > 0, size, 1)
    values, vectors = np.linalg.eigh(covariance[:-1, :-1] / np.outer(size, size))
    kept = values > len(G) * ROUNDING[np.dtype(moments.G.hi.dtype).name] * values.max()
    coefs = vectors[:, kept] @ (vectors[:, kept].T @ (covariance[:-1, -1] / size) / values[kept])
    slopes = coefs / (size * x_scale) * y_scale
    null_space = vectors[:, ~kept] / (size * x_scale)[:, None]
    if null_space.size:
        slopes -= null_space @ np.linalg.lstsq(null_space, slopes, rcond=None)[0]
    if not first:
        return slopes
    x_mean = np.asarray(scaling.x_center, float)[:, j] + x_scale * mean[:-1]
    y_mean = float(scaling.y_center[j]) + y_scale * mean[-1]
    return np.append(y_mean - x_mean @ slopes, slopes)
