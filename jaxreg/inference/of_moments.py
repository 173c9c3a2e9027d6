"""Params, standard errors and p-values from moments, without the observations."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jaxreg.engine.moments import Moments
from jaxreg.inference.distributions import t as student
from jaxreg.numerics.precision import in_own_precision
from jaxreg.solvers import minimum_norm
from jaxreg.solvers.closed_form import MomentsPoint, turning_point
from jaxreg.status import Status


class MomentsInference(NamedTuple):
    """NumPy arrays for m data sets; NaN where there is no value.

    Attributes:
        params: θ, (p, m), those of smallest norm where the moments do not determine them.
        bse: standard errors, (p, m).
        pvalues: of the hypotheses θ = 0, (p, m).
        status: `Status` codes, (m,).
    """

    params: np.ndarray
    bse: np.ndarray
    pvalues: np.ndarray
    status: np.ndarray


def inference_of(moments: Moments) -> MomentsInference:
    """From the moments (…, m) of an ansatz of vectors."""
    nobs = np.asarray(moments.nobs)
    point, p = _turning_point(moments), moments.G.hi.shape[0] - 1
    status = _status(nobs, p, np.asarray(point.full_rank))
    params = np.asarray(point.params).copy()
    for j in np.flatnonzero(np.isin(status, (Status.too_few_observations, Status.rank_deficient))):
        params[:, j] = minimum_norm.of_moments(moments, j)
    params[:, nobs == 0] = np.nan
    ok = status == Status.ok
    df = np.where(ok, nobs - p, np.nan)
    bse = np.where(ok, _standard_errors(moments, point, df), np.nan).astype(params.dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(params.astype(float) / bse)
    pvalues = 2 * np.asarray(student.sf(t, df))
    return MomentsInference(params, bse, pvalues.astype(params.dtype), status)


@in_own_precision
def _turning_point(moments: Moments) -> MomentsPoint:
    """The turning point in the dtype of the moments, whatever JAX's 64-bit switch."""
    return jax.jit(turning_point)(moments)


def _status(nobs: np.ndarray, p: int, full_rank: np.ndarray) -> np.ndarray:
    """Of several failures the most basic one, which is checked last."""
    status = np.where(nobs == p, Status.exact_fit, Status.ok)
    status = np.where(full_rank, status, Status.rank_deficient)
    status = np.where(nobs < p, Status.too_few_observations, status)
    return np.where(nobs == 0, Status.no_observations, status)


def _standard_errors(moments: Moments, point: MomentsPoint, df: np.ndarray) -> np.ndarray:
    """√(S / df) · √diag(M ⟨ψψᵀ⟩⁻¹ Mᵀ), (p, m)."""
    M = _to_data_units(moments)
    unit_variance = np.einsum("ijm,jkm,ikm->im", M, np.asarray(point.inverse, float), M)
    variance = np.asarray(point.cost, np.float64) / df * unit_variance
    return np.sqrt(np.maximum(variance, 0)) * np.asarray(moments.scaling.y_scale, float)


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
