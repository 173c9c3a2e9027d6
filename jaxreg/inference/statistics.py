"""Statistics of every data set: sums of squares, goodness of fit, tests and intervals of the params.

Names and numbers are those of statsmodels. Each is computed on demand from the sums of the fit, without
another pass over the data. Variances and tests are NaN for data sets without residual degrees of freedom.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._typing import Array, Float, not_none
from jaxreg.curves.curve import CompiledCurve
from jaxreg.engine.features import bilinear
from jaxreg.inference.contrasts import around, f_of, quantiles, tail_of_f
from jaxreg.inference.differentiable import differentiable
from jaxreg.inference.distributions import t
from jaxreg.inference.fitted import Fitted
from jaxreg.numerics.precision import float64, in_own_precision
from jaxreg.numerics.vectors import triangle

MAX_TABLE_DF = 2**16  # up to so many degrees of freedom, quantiles are looked up in a table


@differentiable
def cost(fitted: Fitted) -> Float[Array, "*batch"]:
    """S(θ)."""
    e = fitted.estimate
    return jnp.square(e.residual) if e.cost is None else e.cost


@differentiable
def df_resid(fitted: Fitted) -> Array:
    """nobs − p, or nobs minus the trace of the hat matrix."""
    return fitted.df_resid


@differentiable
def effective_dof(fitted: Fitted) -> Array:
    """p, or the trace of the hat matrix."""
    return jnp.zeros_like(fitted.estimate.residual) + fitted.dof


@differentiable
def alpha(fitted: Fitted) -> Float[Array, "*batch"]:
    """The strength of the penalty, 0 without one."""
    given = fitted.estimate.alpha
    return jnp.zeros_like(fitted.estimate.residual) if given is None else given


@differentiable
def ssr(fitted: Fitted) -> Float[Array, "*batch"]:
    """Σ w ε(θ)²."""
    return fitted.sum_of_squares(fitted.estimate.residual)


@differentiable
def ess(fitted: Fitted) -> Float[Array, "*batch"]:
    """The reduction of ssr relative to the intercept-only model, or to 0 without a constant."""
    e = fitted.estimate
    if fitted.has_constant_column:
        return fitted.sum_of_squares(not_none(e.y_deviation)) - fitted.sum_of_squares(e.residual)
    return jnp.sign(e.explained) * fitted.sum_of_squares(e.explained)


@differentiable
def scale(fitted: Fitted) -> Float[Array, "*batch"]:
    """σ̂² = ssr / df_resid; the scale of a robust cost, and the dispersion of a likelihood."""
    e = fitted.estimate
    if e.error_scale is not None:
        return e.error_scale
    if e.llf is not None:
        return not_none(e.dispersion)
    return fitted.over_df(fitted.sum_of_squares(fitted.estimate.residual))


@differentiable
def centered_tss(fitted: Fitted) -> Float[Array, "*batch"]:
    """Σ w (y − ȳ)²."""
    if fitted.ansatz.has_intercept:
        return fitted.total()
    return fitted.sum_of_squares(not_none(fitted.estimate.y_deviation))


@differentiable
def uncentered_tss(fitted: Fitted) -> Float[Array, "*batch"]:
    """Σ w y²."""
    mean = fitted.estimate.y_mean
    return fitted.total() if mean is None else fitted.total() + fitted.sum_of_squares(mean)


@differentiable
def rsquared(fitted: Fitted) -> Float[Array, "*batch"]:
    """R² = ess / tss."""
    explained, residual = fitted.shares()
    return explained / (explained + residual)


@differentiable
def rsquared_adj(fitted: Fitted) -> Float[Array, "*batch"]:
    """1 − (1 − R²) (nobs − 1) / df_resid; nobs itself without a constant."""
    explained, residual = fitted.shares()
    degrees = fitted.estimate.nobs - (fitted.p - fitted.regressors)
    return 1 - fitted.over_df(residual / (explained + residual) * degrees)


@differentiable
def tvalues(fitted: Fitted) -> Float[Array, "p *batch"]:
    """params / bse."""
    return fitted.estimate.params / fitted.estimate.bse


@differentiable
def _log_pvalues(fitted: Fitted) -> Float[Array, "p *batch"]:
    return t.log_p(fitted.estimate.params / fitted.estimate.bse, fitted.df_t)


def log_pvalues(fitted: Fitted) -> Float[Array, "p *batch"]:
    """log P(|T| > |t|), cached on the object: it is the slowest statistic, and three others depend on it."""
    cached = fitted.__dict__.get("_cached_log_pvalues")
    if cached is None:
        cached = _log_pvalues(fitted)
        if not isinstance(cached, Tracer):  # a cached tracer would outlive its trace
            fitted.__dict__["_cached_log_pvalues"] = cached
    return cached


def pvalues(fitted: Fitted) -> Float[Array, "p *batch"]:
    """P(|T| > |t|)."""
    return in_own_precision(jnp.exp)(log_pvalues(fitted))


def log10_pvalues(fitted: Fitted) -> Float[Array, "p *batch"]:
    """log₁₀ P(|T| > |t|)."""
    return in_own_precision(jnp.divide)(log_pvalues(fitted), math.log(10))


def conf_int(fitted: Fitted, alpha: Any = 0.05) -> Float[Array, "2 p *batch"]:
    """(lower, upper) limits of the params with confidence 1 − alpha."""
    return around(fitted.estimate.params, fitted.estimate.bse, quantile(fitted, alpha))


@differentiable
def cov_params(fitted: Fitted) -> Float[Array, "p p *batch"]:
    """The covariance of the params."""
    with float64():
        rows, V = fitted.feature_rows(), fitted.cov_of_coefs()
        p = len(rows)
        lower = [bilinear(rows[i], V, rows[j]) for i in range(p) for j in range(i + 1)]
        return jnp.stack(lower).astype(fitted.dtype)[triangle(p)]


@differentiable
def fvalue(fitted: Fitted) -> Float[Array, "*batch"]:
    """F of all params but the constant; with a robust covariance or another cost that of an `f_test`.

    NaN for curves, of which the intercept-only model is not a special case.
    """
    k, e = fitted.regressors, fitted.estimate
    is_wald = fitted.cov_type != "nonrobust" or not fitted.is_least_squares
    is_curve = isinstance(fitted.ansatz, CompiledCurve)
    if k == 0 or is_curve or (is_wald and fitted.constant == "implicit"):
        return jnp.full_like(e.residual, jnp.nan)
    if is_wald:
        constant = 0 if fitted.ansatz.has_intercept else fitted.constant
        C = np.stack([row for i, row in enumerate(np.eye(fitted.p)) if i != constant])
        return f_of(fitted, C, np.zeros(()))[0]
    explained, residual = fitted.shares()
    return jnp.where(jnp.isfinite(e.unit_cov[0]), explained / k / fitted.over_df(residual), jnp.nan)


def f_pvalue(fitted: Fitted) -> Float[Array, "*batch"]:
    """P(F > fvalue)."""
    if fitted.regressors == 1 and fitted.use_t and fitted.constant is None:  # F is T²
        return in_own_precision(jnp.exp)(log_pvalues(fitted)[-1])
    return tail_of_f(fitted, fvalue(fitted), fitted.regressors)


@differentiable
def llf(fitted: Fitted) -> Float[Array, "*batch"]:
    """The log-likelihood: of normal errors −nobs/2 (log(2π ssr / nobs) + 1) + ½ Σ log w."""
    return _log_likelihood(fitted)


@differentiable
def deviance(fitted: Fitted) -> Float[Array, "*batch"]:
    """Twice the log-likelihood of the saturated model minus that of the fit."""
    return _of_likelihood(fitted, fitted.estimate.deviance)


@differentiable
def pearson_chi2(fitted: Fitted) -> Float[Array, "*batch"]:
    """Σ w (y − μ)² / V(μ)."""
    return _of_likelihood(fitted, fitted.estimate.pearson_chi2)


def _of_likelihood(fitted: Fitted, a: Array | None) -> Array:
    """A statistic that only likelihoods have; NaN for other costs."""
    return jnp.full_like(fitted.estimate.bse[0], jnp.nan) if a is None else a


@differentiable
def aic(fitted: Fitted) -> Float[Array, "*batch"]:
    """−2 llf + 2p."""
    return -2 * _log_likelihood(fitted) + 2 * fitted.dof


@differentiable
def bic(fitted: Fitted) -> Float[Array, "*batch"]:
    """−2 llf + p log nobs."""
    return -2 * _log_likelihood(fitted) + fitted.dof * jnp.log(fitted.as_float(fitted.estimate.nobs))


def _log_likelihood(fitted: Fitted) -> Array:
    e = fitted.estimate
    if not fitted.is_least_squares:
        return jnp.full_like(e.residual, jnp.nan) if e.llf is None else e.llf
    n = fitted.as_float(e.nobs)
    log_variance = 2 * jnp.log(e.residual)  # of Σ w ε² / Σ w
    log_weight: Any = 0
    if e.root_weight is not None:
        log_variance += 2 * jnp.log(e.root_weight) - jnp.log(n)
        log_weight = e.log_weight
    return -n / 2 * (math.log(2 * math.pi) + log_variance + 1) + log_weight / 2


def quantile(fitted: Fitted, alpha: Any) -> Array:
    """The quantile of Student's t at 1 − alpha/2, from a table of all degrees of freedom if that is short."""
    e = fitted.estimate
    is_integer = jnp.issubdtype(e.nobs.dtype, jnp.integer) and e.effective_dof is None
    if isinstance(e.nobs, Tracer) or not fitted.use_t or not is_integer:
        return quantiles(_df_t(fitted), alpha)
    # In NumPy, for a concrete fit that `jit` closes over.
    df = np.asarray(e.nobs) - fitted.p if e.groups is None else np.asarray(e.groups) - 1
    if not 0 < df.max(initial=0) < MAX_TABLE_DF:
        return quantiles(_df_t(fitted), alpha)
    table = quantiles(np.maximum(np.arange(df.max() + 1), 1).astype(e.params.dtype), alpha)
    return in_own_precision(jnp.take)(table, np.maximum(df, 0))


@in_own_precision
def _df_t(fitted: Fitted) -> Array:
    return fitted.df_t
