"""Tests that compare two nested fits of the same data."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc

from jaxreg._typing import Array, not_none
from jaxreg.inference.contrasts import ROUNDING, FTest, tail_of_f
from jaxreg.inference.differentiable import differentiable
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.statistics import uncentered_tss
from jaxreg.numerics.precision import power_of_two
from jaxreg.numerics.short_repr import short_repr


class LikelihoodRatioTest(NamedTuple):
    """A test of a fit against a restricted fit, by the ratio of their likelihoods.

    Attributes:
        statistic: 2 Δllf, (*batch).
        pvalue: P(χ² > statistic), (*batch).
        df: the number of params that the restricted fit lacks.
    """

    statistic: Array
    pvalue: Array
    df: int

    def __repr__(self) -> str:
        return short_repr(self)


def compare(fitted: Fitted, restricted: Fitted) -> FTest | LikelihoodRatioTest:
    """F = Δssr / Δp / scale of a fit against a restricted fit, or their likelihood ratio."""
    params, restricted_params = fitted.estimate.params, restricted.estimate.params
    df_num = len(params) - len(restricted_params)
    if df_num <= 0 or restricted_params.shape[1:] != params.shape[1:]:
        raise ValueError(
            f"compare takes a restricted fit with fewer params and the same data sets; params have shape "
            f"{params.shape} here and {restricted_params.shape} in the restricted fit"
        )
    if fitted.cov_type != "nonrobust" or restricted.cov_type != "nonrobust":
        raise ValueError("compare takes fits with a nonrobust covariance; with a robust one use f_test")
    if (fitted.estimate.llf is None) != (restricted.estimate.llf is None) or fitted.link != restricted.link:
        raise ValueError("compare takes two fits with the same cost")
    if fitted.estimate.llf is not None:
        return LikelihoodRatioTest(*_likelihood_ratio(fitted, restricted), df_num)
    if not (fitted.is_least_squares and restricted.is_least_squares):
        raise ValueError("compare takes fits of least squares or likelihoods; for other costs use f_test")
    if params.dtype != restricted_params.dtype or not _is_same_data(fitted, restricted):
        raise ValueError("compare takes two fits of the same y with the same weights; these differ in them")
    fvalue = _f_of_reduction(fitted, restricted)
    return FTest(fvalue, tail_of_f(fitted, fvalue, df_num), df_num, fitted.df_denominator)


@differentiable
def _likelihood_ratio(fitted: Fitted, restricted: Any) -> tuple[Array, Array]:
    """2 Δllf, and its p-value."""
    e, r = fitted.estimate, restricted.estimate
    llf, restricted_llf = not_none(e.llf), not_none(r.llf)
    statistic = 2 * (llf - restricted_llf)
    rounding = ROUNDING * jnp.finfo(statistic.dtype).eps * (jnp.abs(llf) + jnp.abs(restricted_llf))
    nested = (statistic >= -rounding) & (e.nobs == r.nobs)
    statistic = jnp.where(nested, jnp.maximum(statistic, 0), jnp.nan)
    df = e.params.shape[0] - r.params.shape[0]
    return statistic, gammaincc(df / 2, statistic / 2)


@differentiable
def _f_of_reduction(fitted: Fitted, restricted: Any) -> Array:
    """F of the reduction of ssr relative to the restricted fit."""
    e, r = fitted.estimate, restricted.estimate
    df_num = e.params.shape[0] - r.params.shape[0]
    unit = power_of_two(jnp.maximum(e.residual, jnp.abs(e.explained)))
    squares = [jnp.sign(a) * jnp.square(a / unit) for a in (e.residual, e.explained, r.residual, r.explained)]
    residual, explained, restricted_residual, restricted_explained = squares
    reduction = restricted_residual - residual
    if fitted.ansatz.has_intercept == restricted.ansatz.has_intercept:  # subtract the smaller numbers
        reduction = jnp.where(explained < residual, explained - restricted_explained, reduction)
    nested = reduction >= -ROUNDING * jnp.finfo(reduction.dtype).eps * (residual + jnp.abs(explained))
    usable = nested & (e.nobs == r.nobs) & (fitted.df_resid > 0)
    return jnp.where(usable, jnp.maximum(reduction, 0) / df_num / fitted.over_df(residual), jnp.nan)


def _is_same_data(a: Fitted, b: Fitted) -> bool:
    """Whether Σ w y² agrees for all data sets of equal nobs; True for traced fits."""
    if a.is_traced or b.is_traced:
        return True
    tss_a, tss_b = np.asarray(uncentered_tss(a)), np.asarray(uncentered_tss(b))
    same_nobs = np.asarray(a.estimate.nobs) == np.asarray(b.estimate.nobs)
    comparable = same_nobs & np.isfinite(tss_a) & np.isfinite(tss_b)
    rtol = ROUNDING * np.finfo(tss_a.dtype).eps
    return np.allclose(tss_a[comparable], tss_b[comparable], rtol=rtol, atol=0)
