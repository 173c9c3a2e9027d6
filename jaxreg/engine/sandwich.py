"""Robust covariances, for heteroscedastic or correlated errors: one more pass over the data.

With residuals ε and scores s_i = w_i ε_i ψ_i, cov c = (Σ w ψψᵀ)⁻¹ M (Σ w ψψᵀ)⁻¹. The meat M is summed row by
row, like the sums of a fit, by an object such as those of `jaxreg.inference.covariance`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.features import feature_rows, variance
from jaxreg.engine.row_sums import Window
from jaxreg.engine.rows import Rows
from jaxreg.engine.scores import Model, Scores
from jaxreg.engine.sums import columns_of
from jaxreg.numerics.vectors import Symmetric, max_listed, triangle, vector


class Meat(NamedTuple):
    """The middle of the sandwich.

    Attributes:
        M: in units of `Model.unit`².
        factor: the small-sample factor of the covariance.
        groups: number of clusters with valid observations, (*batch), or None; bse is NaN for a single one.
        is_definite: whether M is a sum of squares; else data sets where it is indefinite have NaN for bse.
    """

    M: Symmetric
    factor: Array | float = 1.0
    groups: Array | None = None
    is_definite: bool = True


@runtime_checkable
class Covariance(Protocol):
    """A covariance for `fit(cov_type=…)`: a frozen pytree that sums the meat from scores.

    `meat` runs within compiled programs, for all data sets of a block at once; `Scores` gives it the rows.
    Classes without arrays are registered by `jax.tree_util.register_static`; with arrays, see `Cluster`.

    Attributes:
        name: for `Fit.cov_type` and tables.
    """

    @property
    def name(self) -> str:
        """For `Fit.cov_type` and tables."""
        ...

    def prepared(self, n: int) -> Covariance:
        """Itself, checked against n observations, as compiled programs take it."""
        ...

    def state_size(self, p: int, n: int) -> int:
        """Numbers per data set that `meat` keeps while it sums, for p params: they should fit in a cache."""
        ...

    def meat(self, scores: Scores) -> Meat:
        """M, its small-sample factor, and the number of clusters."""
        ...


def with_robust_errors(
    ansatz: Ansatz,
    covariance: Covariance,
    estimate: Estimate,
    exact: Exact,
    x: Array,
    y: Array,
    weights: Array | None,
    *,
    rows: Rows,
    window: Window | None = None,
) -> Estimate:
    """The estimate with robust standard errors and covariance.

    Args:
        ansatz: with the basis ψ.
        covariance: the covariance type.
        estimate: the estimate.
        exact: its coefs and their covariance in float64, or in the dtype of the data for derivatives.
        x: as for `row_sums`.
        y: as for `row_sums`.
        weights: as for `row_sums`.
        rows: how many at once.
        window: (start, width), to select columns of x, y and weights; the estimate is of these.
    """
    p, dtype = len(estimate.params), exact.coefs.dtype
    solved = jnp.isfinite(estimate.bse).all(axis=0)
    center, scale = (columns_of(ansatz, a.astype(dtype), 0) for a in (estimate.x_center, estimate.x_scale))
    coefs, lower = (jnp.where(solved, a, 0) for a in exact)
    V = Symmetric(list(lower) if p <= max_listed() else lower[triangle(p)], p)
    residual = estimate.residual.astype(dtype)
    unit = jnp.where(solved & (residual > 0), residual, 1)
    nobs = estimate.nobs.astype(dtype)
    weight = nobs if weights is None else jnp.square(not_none(estimate.root_weight).astype(dtype))
    weight = jnp.where(solved & (weight > 0), weight, 1)
    model = Model(center, scale, vector(list(coefs)), V, unit, weight)
    scores = Scores(ansatz, model, nobs, (x, y, weights), rows, window)
    return with_errors_of(scores, covariance, estimate, residual, solved)


def with_errors_of(
    scores: Scores, covariance: Covariance, estimate: Estimate, unit: Array, solved: Array
) -> Estimate:
    """The estimate with the standard errors and covariance of scores.

    Args:
        scores: of the fitted model, whose V is the inverse of the mean of the second derivatives.
        covariance: the covariance type.
        estimate: the estimate.
        unit: that of the scores; cov c is `unit_cov` times unit² / df_resid.
        solved: which data sets have errors.
    """
    model = scores.model
    M, small_sample, groups, is_definite = covariance.meat(scores)
    has_errors = solved if groups is None else solved & (groups > 1)
    factor = small_sample * scores.df / jnp.square(model.weight)
    cov = model.V.sandwich(M).map(lambda a: factor * a)
    if not is_definite:
        has_errors = has_errors & _is_positive_semidefinite(cov)
    variances = [variance(row, cov) for row in feature_rows(scores.ansatz, model.center, model.scale)]
    bse = jnp.stack([unit * row_unit * _root(a / scores.df) for row_unit, a in variances])
    bse, unit_cov = (
        jnp.where(has_errors, a, jnp.nan).astype(estimate.params.dtype)
        for a in (bse, jnp.concatenate(cov.lower))
    )
    clusters = None if groups is None else groups.astype(jnp.int32)
    return replace(estimate, bse=bse, unit_cov=unit_cov, groups=clusters)


def _is_positive_semidefinite(a: Symmetric) -> Array:
    """Whether no eigenvalue of the matrix, with a unit diagonal, is below 0 by more than rounding."""
    dense = jnp.stack([jnp.stack([a[i, j] for j in range(a.k)]) for i in range(a.k)])
    diagonal = jnp.stack([a[i, i] for i in range(a.k)])
    root = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
    correlation = jnp.moveaxis(dense / (root[:, None] * root[None]), (0, 1), (-2, -1))
    correlation = jnp.where(jnp.isfinite(correlation), lax.stop_gradient(correlation), 0)
    lowest = jnp.linalg.eigvalsh(correlation)[..., 0]
    return (lowest >= -(jnp.finfo(dense.dtype).eps ** 0.5)) & (diagonal >= 0).all(axis=0)


def _root(a: Array) -> Array:
    """√a, 0 where a is not positive, with finite derivatives; NaN stays NaN."""
    return jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1)), jnp.where(a <= 0, 0, jnp.nan))
