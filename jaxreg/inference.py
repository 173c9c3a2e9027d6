"""What a fit knows about its params beside their values: errors, tests, intervals, and how good it is.

Names and numbers are those of statsmodels, one for every data set. All of it is computed when it is asked
for, from what the one pass over the data gathered; where a data set has no residual degree of freedom it
is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg import small
from jaxreg._typing import Array, Float, Int
from jaxreg.closed_form import FromCoefs, TurningPoint
from jaxreg.contrasts import (
    FTest,
    TTest,
    around,
    as_numbers,
    as_values,
    f_of,
    gain_over,
    quantiles,
    rank,
    same_data,
    t_tests,
    tail_of_f,
)
from jaxreg.distributions import t
from jaxreg.precision import float64, in_own_precision

if TYPE_CHECKING:
    from jaxreg.ansatz import Ansatz
    from jaxreg.frame import Frame

MOST_TABLED = 2**16  # degrees of freedom whose quantiles are looked up instead of computed per data set


def standard_errors(
    point: TurningPoint, cost: Array, df_resid: Array, y_scale: Array
) -> Float[Array, "p *batch"]:
    """√diag(σ̂² (XᵀWX)⁻¹) with σ̂² = Σ w ε² / (nobs − p), for errors of one variance / w.

    Args:
        point: the turning point, for √diag(⟨φ φᵀ⟩⁻¹).
        cost: Σ w ε² / Σ w at the params, in units of u².
        df_resid: nobs − p.
        y_scale: the unit of u.

    Returns:
        Standard errors in the units of the params; NaN where df_resid is 0 or less.
    """
    variance = cost / jnp.maximum(df_resid, 1)
    nothing = variance == 0  # whose square root has no derivative
    deviation = jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, 1, variance)))
    bse = point.unit_errors * y_scale * deviation
    return jnp.where(df_resid > 0, bse, jnp.nan)


def computed(function: Callable[[Any], Array]) -> property:
    """A property that is compiled, in the precision of the fit."""
    return property(in_own_precision(jax.jit(function)))


class Prediction(NamedTuple):
    """f(θ, x) and an interval around it, each (n, *batch)."""

    mean: Array
    lower: Array
    upper: Array


class Inference:
    """The part of `Fit` that draws conclusions."""

    params: Array
    bse: Array
    cost: Array
    rest: Array
    explained: Array
    root_weight: Array
    nobs: Array
    df_resid: Array
    coefs: Array
    ss_mean: Array
    log_weight: Array
    unit_cov: Array
    groups: Array | None
    frame: Frame
    ansatz: Ansatz
    cov_type: str
    use_t: bool

    @property
    def df_model(self) -> Int[Array, "*batch"]:
        """How many params there are but for the intercept."""
        return jnp.full_like(self.nobs, self._regressors)

    @computed
    def ssr(self) -> Float[Array, "*batch"]:
        """Σ w ε(θ)², in units of y² (times weight)."""
        return self._sum_of_squares(self.rest)

    @computed
    def ess(self) -> Float[Array, "*batch"]:
        """By how much ssr is lower than that of the best constant, or of 0 without an intercept."""
        return self._sum_of_squares(self.explained)

    @computed
    def scale(self) -> Float[Array, "*batch"]:
        """σ̂² = ssr / df_resid, the variance of an observation of weight 1."""
        return self._over_df(self.ssr, self.df_resid)

    @computed
    def centered_tss(self) -> Float[Array, "*batch"]:
        """Σ w (y − ȳ)²."""
        if self.ansatz.has_intercept:
            return self.ess + self.ssr
        return jnp.maximum(self.ess + self.ssr - self.ss_mean, 0)

    @computed
    def uncentered_tss(self) -> Float[Array, "*batch"]:
        """Σ w y²."""
        about_0 = self.ess + self.ssr
        return about_0 + self.ss_mean if self.ansatz.has_intercept else about_0

    @computed
    def rsquared(self) -> Float[Array, "*batch"]:
        """R² = ess / tss: the share of the variance, or of Σ w y² without an intercept, that is explained.

        NaN where there is no variance.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).rsquared)
        0.8526315...
        """
        whole = self.explained + self.rest
        return jnp.where(whole > 0, self.explained / whole, jnp.nan)

    @computed
    def rsquared_adj(self) -> Float[Array, "*batch"]:
        """1 − (1 − R²) (nobs − 1) / df_resid; nobs itself without an intercept."""
        unexplained = 1 - self.rsquared
        return 1 - self._over_df(unexplained * (self.nobs - self.ansatz.has_intercept), self.df_resid)

    @computed
    def tvalues(self) -> Float[Array, "p *batch"]:
        """params / bse."""
        return self.params / self.bse

    @property
    def _log_pvalues(self) -> Float[Array, "p *batch"]:
        """Kept, since it is most of the time of all that is known, and asked for thrice."""
        kept = self.__dict__.get("_kept_log_pvalues")
        if kept is None:
            kept = t.log_p(self.tvalues, self._df_t)
            if not isinstance(kept, Tracer):  # which would outlive its trace
                self.__dict__["_kept_log_pvalues"] = kept
        return kept

    @property
    def pvalues(self) -> Float[Array, "p *batch"]:
        """P(|T| > |t|), of params that are 0; the normal distribution stands for T where `use_t` is False.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).pvalues)
        [0.85857864 0.07661948]
        """
        return in_own_precision(jnp.exp)(self._log_pvalues)

    @property
    def log10_pvalues(self) -> Float[Array, "p *batch"]:
        """log₁₀ of the p-values, which does not underflow where these do."""
        return in_own_precision(jnp.divide)(self._log_pvalues, math.log(10))

    def conf_int(self, alpha: Any = 0.05) -> Float[Array, "2 p *batch"]:
        """(lower, upper) limits of the params with confidence 1 − alpha: `low, high = fit.conf_int()`."""
        return around(self.params, self.bse, self._quantile(alpha))

    @in_own_precision
    @jax.jit
    def cov_params(self) -> Float[Array, "p p *batch"]:
        """The covariance of the params."""
        with float64():
            rows, unit = self._to_params()
            V = self._cov_of_coefs()
            whole = small.matmul(small.matmul(rows, V), jnp.swapaxes(rows, 0, 1))
            cov = unit[:, None] * unit[None] * whole
        return cov.astype(self.params.dtype)

    @computed
    def fvalue(self) -> Float[Array, "*batch"]:
        """The F statistic of all params but the intercept together; a robust covariance makes it an `f_test`.

        NaN where a robust covariance of these params is singular, such as one of fewer clusters than params.
        """
        if self._regressors == 0:
            return jnp.full_like(self.rest, jnp.nan)
        if self.cov_type == "nonrobust":
            known = jnp.isfinite(self.unit_cov[0])
            return jnp.where(known, self.explained / self._regressors / self._variance, jnp.nan)
        return f_of(self, np.eye(self.params.shape[0])[int(self.ansatz.has_intercept) :], 0.0)[0]

    @property
    def f_pvalue(self) -> Float[Array, "*batch"]:
        """P(F > fvalue)."""
        if self._regressors == 1 and self.use_t:  # F is T²
            return in_own_precision(jnp.exp)(self._log_pvalues[-1])
        return tail_of_f(self, self.fvalue, self._regressors)

    @computed
    def llf(self) -> Float[Array, "*batch"]:
        """The log-likelihood −nobs/2 (log(2π ssr / nobs) + 1) + ½ Σ log w of normal errors."""
        n = self.nobs.astype(self.rest.dtype)
        log_unit = jnp.log(self.frame.y_scale) + jnp.log(self.root_weight)
        log_variance = jnp.log(self.rest) + (2 * log_unit - jnp.log(n))  # of ssr / nobs
        return -n / 2 * (math.log(2 * math.pi) + log_variance + 1) + self.log_weight / 2

    @computed
    def aic(self) -> Float[Array, "*batch"]:
        """Akaike's −2 llf + 2p."""
        return -2 * self.llf + 2 * self.params.shape[0]

    @computed
    def bic(self) -> Float[Array, "*batch"]:
        """Schwarz's −2 llf + p log nobs."""
        return -2 * self.llf + self.params.shape[0] * jnp.log(self.nobs.astype(self.rest.dtype))

    def t_test(self, contrast: Any, value: Any = 0.0) -> TTest:
        """Test cᵀθ = value, for every data set.

        Args:
            contrast: c, (p,), or (q, p) for q tests, each on its own.
            value: the same for all data sets, a number, or (q,) for q tests.

        >>> from jaxreg import fit
        >>> found = fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0]))
        >>> print(found.t_test([1, 10]).effect)  # the line at x = 10
        8.89999...
        """
        C = as_numbers(contrast, self.params.shape[0])
        each = t_tests(self, np.atleast_2d(C), as_values(value, C))
        return TTest(*(each if C.ndim == 2 else (a[0] for a in each)))

    def f_test(self, contrasts: Any, value: Any = 0.0) -> FTest:
        """Test that C θ = value in all its rows: F = (Cθ − v)ᵀ (C cov Cᵀ)⁻¹ (Cθ − v) / q.

        NaN where C cov Cᵀ has no inverse. A robust covariance has a rank of its own, at most that of the
        scores it is made of: the number of clusters, or of observations that are not fitted exactly.

        Args:
            contrasts: C, (q, p), of independent rows.
            value: the same for all data sets, a number, or (q,).

        >>> from jaxreg import fit
        >>> found = fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0]))
        >>> print(found.f_test([[0, 1]]).fvalue, found.fvalue)
        11.571428... 11.571428...
        """
        C = np.atleast_2d(as_numbers(contrasts, self.params.shape[0]))
        q = C.shape[0]
        if rank(C) < q:
            raise ValueError(f"the {q} rows of the contrasts depend on each other; leave out those that do")
        fvalue, pvalue = f_of(self, C, as_values(value, C))
        return FTest(fvalue, pvalue, q, self._df_denom)

    def compare(self, restricted: Any) -> FTest:
        """Does this fit explain more than a restricted one of the same data? F = Δssr / Δp / scale.

        Args:
            restricted: a fit of the same data sets with fewer params, such as a lower degree.

        Raises:
            TypeError: if it is no fit.
            ValueError: if it has not fewer params, is of other data, or if a covariance is robust: `f_test`
                is for these.

        Returns:
            `FTest`; NaN where the data sets have other observations, or where the restricted fit explains
            more: it is not a special case of this one.

        >>> from jaxreg import Polynomial, fit
        >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
        >>> print(fit(x, y, ansatz=Polynomial(2)).compare(fit(x, y)).pvalue)
        0.00785183...
        """
        if not isinstance(restricted, Inference):
            raise TypeError(f"compare takes the fit of fewer params, got {type(restricted).__name__}")
        more = self.params.shape[0] - restricted.params.shape[0]
        if more <= 0 or restricted.nobs.shape != self.nobs.shape:
            raise ValueError(
                f"compare takes a fit of fewer params to the same data sets; this one has params "
                f"{self.params.shape}, the restricted one {restricted.params.shape}"
            )
        if self.cov_type != "nonrobust" or restricted.cov_type != "nonrobust":
            raise ValueError("compare is for nonrobust covariances; test the params in question with f_test")
        if self.params.dtype != restricted.params.dtype or not same_data(self, restricted):
            raise ValueError("compare takes fits of the same y with the same weights; these two had others")
        fvalue, pvalue = gain_over(self, restricted)
        return FTest(fvalue, pvalue, more, self._df_denom)

    def _deviation(self, psi: list[Array], weights: Any) -> Array:
        """√var f(θ, x) where the basis is ψ; of a new observation, if a weight of it is given."""
        with float64():
            V = self._cov_of_coefs()
            p = len(psi)
            variance = sum(V[i, j] * psi[i] * psi[j] for i in range(p) for j in range(p))
            sd = self.frame.y_scale * jnp.sqrt(jnp.maximum(jnp.asarray(variance), 0))
            if weights is not None:
                of_one = self.frame.y_scale * self.root_weight * jnp.sqrt(self._variance)
                sd = jnp.hypot(sd, of_one / jnp.sqrt(weights))
            return sd.astype(self.params.dtype)

    @property
    def _regressors(self) -> int:
        return self.params.shape[0] - self.ansatz.has_intercept

    @property
    def _df_denom(self) -> Array:
        return self.df_resid if self.groups is None else self.groups - 1

    @property
    def _df_t(self) -> Array:
        """Degrees of freedom of Student's t; infinite for the normal distribution."""
        return _as_float(self._df_denom, self.params, self.use_t)

    @property
    def _variance(self) -> Array:
        """σ̂² / Σ w in units of the frame."""
        return self._over_df(self.rest, self.df_resid)

    def _sum_of_squares(self, mean: Array) -> Array:
        """Σ w of what is a mean in units of the frame."""
        unit = self.frame.y_scale * self.root_weight
        return mean * unit * unit

    def _over_df(self, a: Array, df: Array) -> Array:
        return jnp.where(df > 0, a / jnp.maximum(df, 1), jnp.nan)

    def _quantile(self, alpha: Any) -> Array:
        """Of Student's t at 1 − alpha/2; few numbers of degrees of freedom are those of many data sets."""
        if isinstance(self.nobs, Tracer) or not self.use_t:
            return quantiles(self._df_t, alpha)
        of_groups = self.groups is not None
        df = np.asarray(self.groups if of_groups else self.df_resid) - of_groups  # known even inside jit
        if not 0 < df.max(initial=0) < MOST_TABLED:
            return quantiles(self._df_t, alpha)
        table = quantiles(np.maximum(np.arange(df.max() + 1), 1).astype(self.params.dtype), alpha)
        return in_own_precision(jnp.take)(table, np.maximum(df, 0))

    def _cov_of_coefs(self) -> Array:
        """The covariance of c in the frame, in units of u², (p, p, *batch), float64."""
        p = self.coefs.shape[0]
        unit = jnp.asarray(self.unit_cov).astype(jnp.float64)
        V = jnp.stack([jnp.stack([unit[k] for k in row]) for row in small.of_triangle(p)])
        if self.cov_type != "nonrobust":
            return V
        return V * self._variance.astype(jnp.float64)

    def _to_params(self) -> tuple[Array, Array]:
        """M and units with θ = units · M c but for the offset of y, float64."""
        M, size = FromCoefs.of(self.ansatz, self.frame, single=True).slopes()
        return M.hi, self.frame.y_scale * size


@in_own_precision
def _as_float(df: Array, like: Array, use_t: bool) -> Array:
    df = df.astype(like.dtype)
    return df if use_t else jnp.where(df > 0, jnp.inf, jnp.nan).astype(like.dtype)
