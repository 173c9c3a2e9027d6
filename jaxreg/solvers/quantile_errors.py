"""Standard errors of quantile regressions: those of statsmodels' QuantReg with its defaults.

The covariance is G⁻¹ Σ w² d ψψᵀ G⁻¹, G = Σ w ψψᵀ, with the density φ of residuals at 0, d = (q/φ)² above f
and ((1 − q)/φ)² below. Observations on f, which are above or below there by rounding, have q (1 − q)/φ².
Where half of the residuals are 0 to rounding, as of many equal y, the density and the errors are NaN.

Source: W. H. Greene, Econometric Analysis, 6th ed. (2008), p. 407; P. Hall and S. Sheather, J. Roy. Stat.
Soc. B 50 (1988) 381.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.engine.loss_sums import LossSums, Terms, differentiable_quantile
from jaxreg.engine.scores import Observation
from jaxreg.numerics.vectors import Symmetric, Vector

NORMAL_IQR = 1.34  # the interquartile range of the normal distribution, rounded as by Silverman
CONFIDENCE = 0.95  # of Hall and Sheather's bandwidth
ROUNDING, INEXACT = 16.0, 2.0**-33  # of residuals: in units of the last digit of y, and of √⟨ε²⟩


def quantile_covariance(sums: LossSums, coefs: Vector, unit_cov: Symmetric, nobs: Array) -> Symmetric:
    """The covariance of the coefs.

    Args:
        sums: of the cost.
        coefs: c.
        unit_cov: ⟨ψψᵀ⟩⁻¹.
        nobs: number of valid observations.
    """
    q = sums.cost.q  # pyright: ignore
    row, f = sums.all_rows(coefs)
    valid, n = row.weight > 0, jnp.maximum(nobs, 1)
    error = jnp.where(valid, row.y - f, jnp.nan)
    upper, lower = (differentiable_quantile(error, share * (n - 1)) for share in (0.75, 0.25))
    on_f = distance_on_f(row, f)
    upper = jnp.where(upper - lower > on_f, upper, jnp.nan)
    spread = jnp.minimum(_standard_deviation(row.y, valid, n), (upper - lower) / NORMAL_IQR)
    share = hall_sheather(n, q)
    bandwidth = spread * (_normal_quantile(q + share) - _normal_quantile(q - share))
    u = error / bandwidth
    kernel = jnp.where(jnp.abs(u) <= 1, 0.75 * (1 - u * u), 0)
    mean_weight = jnp.sum(row.weight, axis=0) / n
    density = jnp.sum(row.weight / mean_weight * kernel, axis=0) / (bandwidth * n)

    def terms(row: Observation, f: Array) -> Terms:
        error = row.y - f
        square = jnp.where(jnp.abs(error) <= on_f, q * (1 - q), jnp.square(jnp.where(error > 0, q, 1 - q)))
        return Terms(None, None, jnp.square(row.weight / mean_weight / density) * square)

    M = not_none(sums.total(terms, coefs)[2])
    V = _dense(unit_cov) / n
    cov = jnp.einsum("ij...,jk...,kl...->il...", V, _dense(M), V)
    if not M.is_list:
        return Symmetric(cov, M.k)
    return Symmetric([cov[i, j] for i in range(M.k) for j in range(i + 1)], M.k)


def distance_on_f(row: Observation, f: Array) -> Array:
    """The distance from f up to which the fit passes through an observation, given the rounding."""
    valid = row.weight > 0
    largest_y = jnp.max(jnp.where(valid, jnp.abs(row.y), 0), axis=0)
    square = jnp.sum(jnp.where(valid, jnp.square(row.y - f), 0), axis=0)
    mean_square = square / jnp.maximum(jnp.sum(valid, axis=0), 1)
    return ROUNDING * jnp.finfo(f.dtype).eps * largest_y + INEXACT * jnp.sqrt(mean_square)


def hall_sheather(n: Array, q: Array) -> Array:
    """The bandwidth as a difference of quantiles, (z² 1.5 φ(Φ⁻¹(q))² / (2 Φ⁻¹(q)² + 1) / n)^(1/3)."""
    z = _normal_quantile(q)
    density2 = jnp.exp(-z * z) / (2 * jnp.pi)
    two_sided = _normal_quantile((1 + CONFIDENCE) / 2)
    return jnp.cbrt(jnp.square(two_sided) * 1.5 * density2 / (2 * z * z + 1) / n)


def _normal_quantile(p: Any) -> Array:
    """Φ⁻¹(p); `jax.scipy.special.ndtri` fails on Explicit meshes."""
    return math.sqrt(2) * lax.erf_inv(2 * jnp.asarray(p) - 1.0)


def _standard_deviation(y: Array, valid: Array, n: Array) -> Array:
    """√⟨(y − ⟨y⟩)²⟩ over the valid observations."""
    mean = jnp.sum(jnp.where(valid, y, 0), axis=0) / n
    return jnp.sqrt(jnp.sum(jnp.where(valid, jnp.square(y - mean), 0), axis=0) / n)


def _dense(S: Symmetric) -> Array:
    if not S.is_list:
        return S.entries
    return jnp.stack([jnp.stack([S[i, j] for j in range(S.k)]) for i in range(S.k)])
