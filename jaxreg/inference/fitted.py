"""`Fitted`: the estimate of every data set and the options that decide its inference."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.features import Row, feature_rows
from jaxreg.engine.sums import columns_of
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.numerics.vectors import Symmetric


@pytree
class Fitted:
    """The argument of every statistic.

    Attributes:
        estimate: params, standard errors and sums of every data set.
        ansatz: the compiled ansatz.
        cov_type: the name of the covariance of standard errors and tests.
        use_t: whether params are tested with Student's t instead of the normal distribution.
        constant: without an intercept, the index of a constant column of a shared x, "implicit" if a
            combination of columns is constant, or None; sums of squares are about 0 if None.
        link: "identity", "log" or "logit", by which f(θ, x) is a function of the mean of y.
    """

    estimate: Estimate
    ansatz: Ansatz = static()
    cov_type: str = static(default="nonrobust")
    use_t: bool = static(default=True)
    constant: int | str | None = static(default=None)
    link: str = static(default="identity")

    @property
    def p(self) -> int:
        """Number of params."""
        return self.estimate.params.shape[0]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the data."""
        return self.estimate.params.dtype

    @property
    def is_traced(self) -> bool:
        """Whether it has no concrete values, as within `jit`."""
        return isinstance(self.estimate.params, Tracer)

    @property
    def has_constant_column(self) -> bool:
        """Whether columns of x, instead of an intercept, contain the constant."""
        return self.constant is not None

    @property
    def regressors(self) -> int:
        """Number of params other than the constant."""
        return self.p - (self.ansatz.has_intercept or self.has_constant_column)

    @property
    def dof(self) -> Any:
        """Degrees of freedom of the fit: p, or the trace of the hat matrix of a ridge regression."""
        return self.p if self.estimate.effective_dof is None else self.estimate.effective_dof

    @property
    def df_resid(self) -> Array:
        """nobs − p, at least 0."""
        return jnp.maximum(self.estimate.nobs - self.dof, 0)

    @property
    def df_denominator(self) -> Array:
        """Degrees of freedom of tests: number of clusters − 1, or those of the residuals."""
        groups = self.estimate.groups
        return self.df_resid if groups is None else groups - 1

    @property
    def df_t(self) -> Array:
        """Degrees of freedom of Student's t; infinite for the normal distribution."""
        df = self.as_float(self.df_denominator)
        return df if self.use_t else jnp.where(df > 0, jnp.inf, jnp.nan).astype(df.dtype)

    @property
    def root_weight(self) -> Array:
        """√Σ w."""
        e = self.estimate
        return jnp.sqrt(self.as_float(e.nobs)) if e.root_weight is None else e.root_weight

    def as_float(self, a: Array) -> Array:
        """The array in the dtype of the data."""
        return a.astype(self.dtype)

    def sum_of_squares(self, root_mean: Array) -> Array:
        """Σ w a² from √⟨a²⟩."""
        return jnp.square(root_mean * self.root_weight)

    def total(self) -> Array:
        """Σ w y², about the mean if there is an intercept."""
        e = self.estimate
        return jnp.sign(e.explained) * self.sum_of_squares(e.explained) + self.sum_of_squares(e.residual)

    def shares(self) -> tuple[Array, Array]:
        """Explained and residual sum of squares, in a common unit in which no square overflows."""
        e = self.estimate
        if self.has_constant_column:
            deviation = not_none(e.y_deviation)
            unit = jnp.maximum(deviation, e.residual)
            residual = jnp.square(e.residual / unit)
            return jnp.square(deviation / unit) - residual, residual
        unit = jnp.maximum(jnp.abs(e.explained), e.residual)
        explained = e.explained / unit
        return explained * jnp.abs(explained), jnp.square(e.residual / unit)

    def over_df(self, a: Array) -> Array:
        """a / df_resid; NaN if df_resid is 0."""
        df = self.df_resid
        return jnp.where(df > 0, a / jnp.where(df > 0, df, 1), jnp.nan)

    def sigma_over_root_weight(self) -> Array:
        """√(Σ w ε² / Σ w / df_resid), whose square times `unit_cov` is the covariance of the coefs c."""
        residual = self.estimate.residual
        return residual * jnp.sqrt(self.over_df(jnp.ones_like(residual)))

    @property
    def is_least_squares(self) -> bool:
        """Whether the cost was the mean squared error."""
        return self.estimate.cost is None

    def unit_of_cov(self) -> Array:
        """The number whose square times `unit_cov` is the covariance of the coefs c, float64."""
        dispersion = self.estimate.dispersion
        unit = self.sigma_over_root_weight() if dispersion is None else jnp.sqrt(dispersion)
        return unit.astype(jnp.float64)

    def cov_of_coefs(self) -> Symmetric:
        """The covariance of the coefs c in units of y², float64."""
        unit = self.unit_of_cov()
        V = [a.astype(jnp.float64) * unit * unit for a in jnp.asarray(self.estimate.unit_cov)]
        return Symmetric(V, self.p)

    def feature_rows(self) -> list[Row]:
        """Rows of the matrix that maps the coefs c to the params θ, float64."""
        e = self.estimate
        center, scale = (self._wide_columns(a) for a in (e.x_center, e.x_scale))
        if e.x_origin is not None:
            center = [c + o for c, o in zip(center, self._wide_columns(e.x_origin), strict=True)]
        return feature_rows(self.ansatz, center, scale)

    def _wide_columns(self, a: Array) -> list[Array]:
        """Columns of a center or a scale in float64, converted after slicing, which JAX can transpose."""
        return [column.astype(jnp.float64) for column in columns_of(self.ansatz, a, 0)]
