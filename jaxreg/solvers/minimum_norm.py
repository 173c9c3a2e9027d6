"""Params with the smallest Σ β² among those of a minimum, where the columns of x do not determine them.

A cost depends on β through X β alone, and the β of smallest norm is a combination of the rows of X, centered
if there is an intercept: β = Vᵀ γ with orthonormal rows V, and γ are the coefficients of the columns X Vᵀ,
which are independent. All in NumPy: another number of columns would be another program to compile.

Source: G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed., section 5.5.
"""

from __future__ import annotations

import numpy as np

from jaxreg.engine.moments import Moments

# Eigenvalues of ⟨x xᵀ⟩ relative to the largest that are rounding errors of moments in double-double.
ROUNDING = {"float32": 1e-12, "float64": 1e-14}


def basis_of_rows(X: np.ndarray, size: float) -> np.ndarray:
    """Orthonormal rows V that span those of X, up to rounding of numbers of this size."""
    _, singular_values, V = np.linalg.svd(X, full_matrices=False)
    return V[singular_values > max(X.shape) * np.finfo(np.float64).eps * size]


def least_squares(Z: np.ndarray, y: np.ndarray, w: np.ndarray, intercept: bool) -> np.ndarray:
    """The intercept, if there is one, and γ for columns Z whose weighted mean is then 0, (p, m)."""
    mean = np.average(y, axis=0, weights=w) if intercept else np.zeros(y.shape[1])
    root = np.sqrt(w)[:, None]
    slopes = np.linalg.lstsq(root * Z, root * (y - mean), rcond=None)[0]
    return np.vstack([mean, slopes]) if intercept else slopes


def of_moments(moments: Moments, j: int | np.integer) -> np.ndarray:
    """The params of data set j, (p,), for an ansatz of vectors."""
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
