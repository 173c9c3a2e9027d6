"""What a fit knows about its params beside their values: errors, tests, intervals, and how good it is.

Names and numbers are those of statsmodels, one for every data set. All of it is computed when it is asked
for, from what the one pass over the data gathered; where a data set has no residual degree of freedom it
is NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._typing import Array, Float, Int, not_none
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.features import Row, bilinear, deviation, feature_rows
from jaxreg.engine.sums import columns_of
from jaxreg.inference.contrasts import (
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
from jaxreg.inference.differentiable import computed, differentiable
from jaxreg.inference.distributions import t
from jaxreg.numerics.precision import float64, in_own_precision
from jaxreg.numerics.vectors import Symmetric, triangle

if TYPE_CHECKING:
    from jaxreg.ansatz import Ansatz

MAX_TABLED = 2**16  # degrees of freedom whose quantiles are looked up instead of computed per data set


class Prediction(NamedTuple):
    """f(θ, x) and an interval around it, each (n, *batch)."""

    mean: Array
    lower: Array
    upper: Array


class Inference:
    """The part of `Fit` that draws conclusions."""

    estimate: Estimate
    ansatz: Ansatz
    cov_type: str
    use_t: bool
    constant: int | str | None

    @property
    def df_resid(self) -> Int[Array, "*batch"]:
        """nobs − p, at least 0."""
        return jnp.maximum(self.estimate.nobs - self._p, 0)

    @property
    def df_model(self) -> Int[Array, "*batch"]:
        """How many params there are but for the constant."""
        return jnp.full_like(self.estimate.nobs, self._regressors)

    @computed
    def cost(self) -> Float[Array, "*batch"]:
        """S(θ): the mean squared error, or what another cost is."""
        e = self.estimate
        return jnp.square(e.residual) if e.cost is None else e.cost

    @computed
    def ssr(self) -> Float[Array, "*batch"]:
        """Σ w ε(θ)², in units of y² (times weight)."""
        return self._sum_of_squares(self.estimate.residual)

    @computed
    def ess(self) -> Float[Array, "*batch"]:
        """By how much ssr is lower than that of the best constant, or of 0 where there is no constant."""
        e = self.estimate
        if self._has_constant_column:
            return self._sum_of_squares(not_none(e.y_deviation)) - self._sum_of_squares(e.residual)
        return jnp.sign(e.explained) * self._sum_of_squares(e.explained)

    @computed
    def scale(self) -> Float[Array, "*batch"]:
        """σ̂² = ssr / df_resid, the variance of an observation of weight 1."""
        return self._over_df(self._sum_of_squares(self.estimate.residual))

    @computed
    def centered_tss(self) -> Float[Array, "*batch"]:
        """Σ w (y − ȳ)²."""
        return (
            self._total()
            if self.ansatz.has_intercept
            else self._sum_of_squares(not_none(self.estimate.y_deviation))
        )

    @computed
    def uncentered_tss(self) -> Float[Array, "*batch"]:
        """Σ w y²."""
        mean = self.estimate.y_mean
        return self._total() if mean is None else self._total() + self._sum_of_squares(mean)

    @computed
    def rsquared(self) -> Float[Array, "*batch"]:
        """R² = ess / tss: the share of the variance, or of Σ w y² without a constant, that is explained.

        NaN where there is no variance.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).rsquared)
        0.8526315...
        """
        explained, rest = self._shares()
        return explained / (explained + rest)

    @computed
    def rsquared_adj(self) -> Float[Array, "*batch"]:
        """1 − (1 − R²) (nobs − 1) / df_resid; nobs itself without a constant."""
        explained, rest = self._shares()
        return 1 - self._over_df(
            rest / (explained + rest) * (self.estimate.nobs - (self._p - self._regressors))
        )

    @computed
    def tvalues(self) -> Float[Array, "p *batch"]:
        """params / bse."""
        return self.estimate.params / self.estimate.bse

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

    @property
    def _log_pvalues(self) -> Float[Array, "p *batch"]:
        """Kept, since it is most of the time of all that is known, and asked for thrice."""
        kept = self.__dict__.get("_kept_log_pvalues")
        if kept is None:
            kept = _log_pvalues(self)
            if not isinstance(kept, Tracer):  # which would outlive its trace
                self.__dict__["_kept_log_pvalues"] = kept
        return kept

    def conf_int(self, alpha: Any = 0.05) -> Float[Array, "2 p *batch"]:
        """(lower, upper) limits of the params with confidence 1 − alpha: `low, high = fit.conf_int()`."""
        return around(self.estimate.params, self.estimate.bse, self._quantile(alpha))

    @differentiable
    def cov_params(self) -> Float[Array, "p p *batch"]:
        """The covariance of the params."""
        with float64():
            rows, V = self._feature_rows(), self._cov_of_coefs()
            p = len(rows)
            lower = [bilinear(rows[i], V, rows[j]) for i in range(p) for j in range(i + 1)]
            return jnp.stack(lower).astype(self.estimate.params.dtype)[triangle(p)]

    @computed
    def fvalue(self) -> Float[Array, "*batch"]:
        """The F statistic of all params but the constant together; a robust covariance makes it an `f_test`.

        NaN where a robust covariance of these params is singular, such as one of fewer clusters than params.
        """
        k, e = self._regressors, self.estimate
        if k == 0 or (self.cov_type != "nonrobust" and self.constant == "implicit"):
            return jnp.full_like(e.residual, jnp.nan)
        if self.cov_type != "nonrobust":
            constant = 0 if self.ansatz.has_intercept else self.constant
            others = [row for i, row in enumerate(np.eye(self._p)) if i != constant]
            return f_of(self, np.stack(others), np.zeros(()))[0]
        explained, rest = self._shares()
        return jnp.where(jnp.isfinite(e.unit_cov[0]), explained / k / self._over_df(rest), jnp.nan)

    @property
    def f_pvalue(self) -> Float[Array, "*batch"]:
        """P(F > fvalue)."""
        if self._regressors == 1 and self.use_t and self.constant is None:  # F is T²
            return in_own_precision(jnp.exp)(self._log_pvalues[-1])
        return tail_of_f(self, self.fvalue, self._regressors)

    @computed
    def llf(self) -> Float[Array, "*batch"]:
        """The log-likelihood −nobs/2 (log(2π ssr / nobs) + 1) + ½ Σ log w of normal errors."""
        return self._llf()

    @computed
    def aic(self) -> Float[Array, "*batch"]:
        """Akaike's −2 llf + 2p."""
        return -2 * self._llf() + 2 * self._p

    @computed
    def bic(self) -> Float[Array, "*batch"]:
        """Schwarz's −2 llf + p log nobs."""
        return -2 * self._llf() + self._p * jnp.log(self._float(self.estimate.nobs))

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
        C = as_numbers(contrast, self._p)
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
        C = np.atleast_2d(as_numbers(contrasts, self._p))
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
        params, others = self.estimate.params, restricted.estimate.params
        more = len(params) - len(others)
        if more <= 0 or others.shape[1:] != params.shape[1:]:
            raise ValueError(
                f"compare takes a fit of fewer params to the same data sets; this one has params "
                f"{params.shape}, the restricted one {others.shape}"
            )
        if self.cov_type != "nonrobust" or restricted.cov_type != "nonrobust":
            raise ValueError("compare is for nonrobust covariances; test the params in question with f_test")
        if params.dtype != others.dtype or not same_data(self, restricted):
            raise ValueError("compare takes fits of the same y with the same weights; these two had others")
        fvalue, pvalue = gain_over(self, restricted)
        return FTest(fvalue, pvalue, more, self._df_denom)

    def _llf(self) -> Array:
        e = self.estimate
        n = self._float(e.nobs)
        log_variance = 2 * jnp.log(e.residual)  # of Σ w ε² / Σ w
        log_weight: Any = 0
        if e.root_weight is not None:
            log_variance += 2 * jnp.log(e.root_weight) - jnp.log(n)
            log_weight = e.log_weight
        return -n / 2 * (math.log(2 * math.pi) + log_variance + 1) + log_weight / 2

    def _deviation(self, psi: list[Array], weights: Any) -> Array:
        """√var f(θ, x) where the basis is ψ; of a new observation, if a weight of it is given."""
        e = self.estimate
        with float64():
            V = self._cov_of_coefs()
            sd = deviation(dict(enumerate(psi)), V)
            if weights is not None:
                sigma = self._root_weight * self._sigma_over_root_weight()
                sd = jnp.hypot(sd, sigma / jnp.sqrt(weights))
            return sd.astype(e.params.dtype)

    @property
    def _p(self) -> int:
        return self.estimate.params.shape[0]

    @property
    def _has_constant_column(self) -> bool:
        """Whether columns of x hold the constant, and not an intercept beside them."""
        return self.constant is not None

    @property
    def _regressors(self) -> int:
        return self._p - (self.ansatz.has_intercept or self._has_constant_column)

    @property
    def _df_denom(self) -> Array:
        groups = self.estimate.groups
        return self.df_resid if groups is None else groups - 1

    @property
    def _df_t(self) -> Array:
        """Degrees of freedom of Student's t; infinite for the normal distribution."""
        df = self._float(self._df_denom)
        return df if self.use_t else jnp.where(df > 0, jnp.inf, jnp.nan).astype(df.dtype)

    @property
    def _root_weight(self) -> Array:
        """√Σ w."""
        e = self.estimate
        return jnp.sqrt(self._float(e.nobs)) if e.root_weight is None else e.root_weight

    def _float(self, a: Array) -> Array:
        return a.astype(self.estimate.params.dtype)

    def _sum_of_squares(self, root_mean: Array) -> Array:
        """Σ w a² of √⟨a²⟩."""
        return jnp.square(root_mean * self._root_weight)

    def _total(self) -> Array:
        """Σ w y², about the mean where there is an intercept."""
        e = self.estimate
        return jnp.sign(e.explained) * self._sum_of_squares(e.explained) + self._sum_of_squares(e.residual)

    def _shares(self) -> tuple[Array, Array]:
        """What of Σ w y² is explained and what is left, in one unit, in which no square overflows."""
        e = self.estimate
        if self._has_constant_column:
            deviation = not_none(e.y_deviation)
            unit = jnp.maximum(deviation, e.residual)
            rest = jnp.square(e.residual / unit)
            return jnp.square(deviation / unit) - rest, rest
        unit = jnp.maximum(jnp.abs(e.explained), e.residual)
        explained = e.explained / unit
        return explained * jnp.abs(explained), jnp.square(e.residual / unit)

    def _over_df(self, a: Array) -> Array:
        df = self.df_resid
        return jnp.where(df > 0, a / jnp.maximum(df, 1), jnp.nan)

    def _sigma_over_root_weight(self) -> Array:
        """√(Σ w ε² / Σ w / df_resid): cov c is the square of it times `unit_cov`."""
        return self.estimate.residual * jnp.sqrt(self._over_df(jnp.ones_like(self.estimate.residual)))

    def _quantile(self, alpha: Any) -> Array:
        """Of Student's t at 1 − alpha/2; few numbers of degrees of freedom are those of many data sets."""
        e = self.estimate
        if isinstance(e.nobs, Tracer) or not self.use_t:
            return quantiles(_df_t(self), alpha)
        df = np.asarray(e.nobs) - self._p if e.groups is None else np.asarray(e.groups) - 1  # even inside jit
        if not 0 < df.max(initial=0) < MAX_TABLED:
            return quantiles(_df_t(self), alpha)
        table = quantiles(np.maximum(np.arange(df.max() + 1), 1).astype(e.params.dtype), alpha)
        return in_own_precision(jnp.take)(table, np.maximum(df, 0))

    def _cov_of_coefs(self) -> Symmetric:
        """The covariance of c in units of y², float64."""
        e = self.estimate
        unit = self._sigma_over_root_weight().astype(jnp.float64)
        V = [a.astype(jnp.float64) * unit * unit for a in jnp.asarray(e.unit_cov)]
        return Symmetric(V, self._p)

    def _feature_rows(self) -> list[Row]:
        """The way from c to θ, float64."""
        e = self.estimate
        center, scale = (self._wide_columns(a) for a in (e.x_center, e.x_scale))
        if e.x_origin is not None:
            center = [c + o for c, o in zip(center, self._wide_columns(e.x_origin), strict=True)]
        return feature_rows(self.ansatz, center, scale)

    def _wide_columns(self, a: Array) -> list[Array]:
        """The columns of a center or a scale; cut before they are float64, for what JAX transposes."""
        return [column.astype(jnp.float64) for column in columns_of(self.ansatz, a, 0)]


@differentiable
def _log_pvalues(fit: Inference) -> Array:
    return t.log_p(fit.estimate.params / fit.estimate.bse, fit._df_t)


@in_own_precision
def _df_t(fit: Inference) -> Array:
    return fit._df_t
