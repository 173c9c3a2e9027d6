"""Robust covariances, for heteroscedastic or correlated errors: one more pass over the data.

With residuals ε and scores s_i = w_i ε_i ψ_i, cov c = (Σ w ψψᵀ)⁻¹ M (Σ w ψψᵀ)⁻¹. The meat M is Σ s sᵀ,
corrected for leverage or for degrees of freedom (HC0 to HC3), Σ_g (Σ_{i∈g} s_i)(…)ᵀ over clusters, or Σ_l k_l
Σ_i (s_i s_{i−l}ᵀ + s_{i−l} s_iᵀ) over lags (HAC, with Bartlett's weights). It is summed row by row, like the
sums of a fit; no array of the size of the data is stored.

Source: J. G. MacKinnon and H. White, J. Econometrics 29 (1985) 305; K.-Y. Liang and S. L. Zeger,
Biometrika 73 (1986) 13; W. K. Newey and K. D. West, Econometrica 55 (1987) 703.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.cost import is_valid
from jaxreg.engine import matrix_sums
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.features import feature_rows, variance
from jaxreg.engine.products import over_row_tiles, product
from jaxreg.engine.row_sums import Window, over_rows, row
from jaxreg.engine.rows import Rows
from jaxreg.engine.sums import columns_of
from jaxreg.numerics.precision import power_of_two
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.numerics.vectors import MAX_LISTED, Symmetric, Vector, dot, elementwise, triangle, vector

WITH_LEVERAGE = ("HC2", "HC3")
MIN_RESIDUAL_SHARE = 2.0**-36  # of 1 − h, which has four correct digits there


@pytree
class Robust:
    """The options of robust standard errors.

    Attributes:
        order: for clusters, the rows ordered by cluster, (n,); else None.
        begins: for clusters, whether a row in this order begins a cluster, (n,); else None.
        cov_type: "HC0" to "HC3", "cluster" or "HAC".
        maxlags: for HAC, the largest lag; None for ⌊4 (nobs/100)^(2/9)⌋.
    """

    order: Any
    begins: Any
    cov_type: str = static()
    maxlags: int | None = static()

    @property
    def name(self) -> str:
        """What `Fit.cov_type` says."""
        return self.cov_type


class _Model(NamedTuple):
    """The fitted model of each data set, in float64.

    Attributes:
        center: of each column of x.
        scale: the same.
        coefs: c, p of them.
        V: ⟨ψψᵀ⟩⁻¹.
        unit: √⟨ε²⟩, the unit of scores.
        weight: Σ w.
    """

    center: list[Array]
    scale: list[Array]
    coefs: Vector
    V: Symmetric
    unit: Array
    weight: Array


class _Row(NamedTuple):
    """One observation of each data set, with weight and score 0 if missing; `score` is w ε without ψ."""

    valid: Array
    weight: Array
    psi: Vector
    score: Array


def with_robust_errors(
    ansatz: Ansatz,
    robust: Robust,
    found: Estimate,
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
        robust: the options.
        found: the estimate.
        exact: its coefs and their covariance in float64, or in the dtype of the data for derivatives.
        x: as for `row_sums`.
        y: as for `row_sums`.
        weights: as for `row_sums`.
        rows: how many at once.
        window: (start, width), to select columns of x, y and weights; the estimate is of these.
    """
    p, dtype = len(found.params), exact.coefs.dtype
    solved = jnp.isfinite(found.bse).all(axis=0)
    center, scale = (columns_of(ansatz, a.astype(dtype), 0) for a in (found.x_center, found.x_scale))
    coefs, lower = (jnp.where(solved, a, 0) for a in exact)
    V = Symmetric(list(lower) if p <= MAX_LISTED else lower[triangle(p)], p)
    residual = found.residual.astype(dtype)
    unit = jnp.where(solved & (residual > 0), residual, 1)
    nobs = found.nobs.astype(dtype)
    weight = nobs if weights is None else jnp.square(not_none(found.root_weight).astype(dtype))
    weight = jnp.where(solved & (weight > 0), weight, 1)
    model = _Model(center, scale, vector(list(coefs)), V, unit, weight)
    meat, groups = _meat(ansatz, robust, model, nobs, x, y, weights, rows, window)
    has_errors = solved & (groups > 1) if robust.cov_type == "cluster" else solved
    df = jnp.maximum(nobs - p, 1)
    factor = _correction(robust, nobs, df, groups) * df / jnp.square(model.weight)
    cov = V.sandwich(meat).map(lambda a: factor * a)
    variances = [variance(row, cov) for row in feature_rows(ansatz, center, scale)]
    bse = jnp.stack([residual * unit * _root(a / df) for unit, a in variances])
    bse, unit_cov = (
        jnp.where(has_errors, a, jnp.nan).astype(found.params.dtype)
        for a in (bse, jnp.concatenate(cov.lower))
    )
    clusters = groups.astype(jnp.int32) if robust.cov_type == "cluster" else None
    return replace(found, bse=bse, unit_cov=unit_cov, groups=clusters)


def _root(a: Array) -> Array:
    """√a, 0 where a is not positive, with finite derivatives; NaN stays NaN."""
    return jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1)), jnp.where(a <= 0, 0, jnp.nan))


def _correction(robust: Robust, nobs: Array, df: Array, groups: Array) -> Array | float:
    """The small-sample factor of the covariance."""
    if robust.cov_type == "HC1":
        return nobs / df
    if robust.cov_type == "cluster":
        return groups / jnp.maximum(groups - 1, 1) * ((nobs - 1) / df)
    return 1.0


def _meat(
    ansatz: Ansatz,
    robust: Robust,
    model: _Model,
    nobs: Array,
    x: Array,
    y: Array,
    weights: Array | None,
    rows: Rows,
    window: Window | None,
) -> tuple[Symmetric, Array]:
    """M in units of `model.unit`², and the number of clusters."""
    make_row = partial(_row, ansatz, model)
    loop = partial(over_rows, (x, y, weights), rows.unrolled, window)
    zero = jnp.zeros_like(nobs)
    if robust.cov_type == "cluster":
        row_at = partial(row, (x, y, weights), window)
        return _clustered(robust, model, make_row, row_at, y.shape[0], zero)
    if robust.cov_type == "HAC":
        return _lagged(robust.maxlags, max_lag(robust, y.shape[0]), model, nobs, make_row, loop, zero), zero
    x_is_shared = all(length == 1 for length in x.shape[1 + ansatz.x_is_vector :])
    if ansatz.basis_is_x and window is None and matrix_sums.applies(ansatz, x, x_is_shared):
        return _on_shared_design(ansatz, robust.cov_type, model, x, y, weights, rows), zero
    return _heteroscedastic(robust.cov_type, model, make_row, loop, zero), zero


def _row(ansatz: Ansatz, model: _Model, x: Array, y: Array, w: Array | None) -> _Row:
    """ψ and w ε of a row of the data."""
    dtype = model.unit.dtype
    columns = columns_of(ansatz, x, 0)
    valid = is_valid(columns, y, w) & jnp.isfinite(y)
    columns = [jnp.where(jnp.isfinite(a), a, 0).astype(dtype) for a in columns]
    w = _valid_weight(valid, w, dtype)
    x_scaled = [(a - c) * (1 / s) for a, c, s in zip(columns, model.center, model.scale, strict=True)]
    psi = vector([jnp.broadcast_to(a, valid.shape) for a in ansatz.basis(x_scaled)])
    error = jnp.where(valid, y, 0).astype(dtype)
    for c, a in zip(model.coefs, psi, strict=True):
        error = error - c * a
    return _Row(valid, w, psi, w * (error / model.unit))


def _valid_weight(valid: Array, w: Array | None, dtype: Any) -> Array:
    """w, or 1 without weights; 0 for missing observations."""
    finite = jnp.ones((), dtype) if w is None else jnp.where(jnp.isfinite(w), w, 0).astype(dtype)
    return jnp.where(valid, finite, 0)


def _outer(a: Vector, factor: Array) -> Symmetric:
    """f a aᵀ."""
    k = len(a)
    if isinstance(a, list):
        return Symmetric([factor * a[i] * a[j] for i in range(k) for j in range(i + 1)], k)
    return Symmetric(factor * a[:, None] * a[None], k)


def _zeros(model: _Model, zero: Array) -> tuple[Vector, Symmetric]:
    """A vector and a symmetric matrix of zeros."""
    v = elementwise(lambda c: jnp.zeros_like(zero + c), model.coefs)
    return v, _outer(v, zero)


def _add(a: Symmetric, b: Symmetric) -> Symmetric:
    return Symmetric(elementwise(jnp.add, a.entries, b.entries), a.k)


def _heteroscedastic(
    cov_type: str, model: _Model, make_row: Callable[..., _Row], loop: Callable, zero: Array
) -> Symmetric:
    """M = Σ (w ε)² ψψᵀ / (1 − h)^d, with the leverage h = w ψᵀ(Σ w ψψᵀ)⁻¹ψ and d = 1 for HC2, 2 for HC3."""

    @jax.checkpoint
    def step(meat: Symmetric, observations: list[tuple]) -> Symmetric:
        for observation in observations:
            row = make_row(*observation)
            h = None
            if cov_type in WITH_LEVERAGE:
                h = row.weight * dot(row.psi, model.V.times(row.psi)) / model.weight
            meat = _add(meat, _outer(row.psi, _corrected(jnp.square(row.score), h, cov_type)))
        return meat

    return loop(step, _zeros(model, zero)[1])


def _corrected(square: Array, h: Array | None, cov_type: str) -> Array:
    """(w ε)² / (1 − h)^d."""
    if h is None:
        return square
    residual_share = jnp.where(1 - h > MIN_RESIDUAL_SHARE, 1 - h, jnp.nan)  # else ε is 0 whatever the error
    return square / (residual_share if cov_type == "HC2" else residual_share * residual_share)


def _on_shared_design(
    ansatz: Ansatz,
    cov_type: str,
    model: _Model,
    x: Array,
    y: Array,
    weights: Array | None,
    rows: Rows,
) -> Symmetric:
    """`_heteroscedastic` on a shared design of several columns, by matrix products of (w ε)² and ψ_i ψ_j.

    The products have one scaling of x for all data sets. In terms of its basis ψ', the basis of a data set is
    ψ_k = d_k ψ'_k + r_k ψ'_0, by which coefs, V and M are transformed.
    """
    n, p, dtype = y.shape[0], len(model.coefs), model.unit.dtype
    first = int(ansatz.has_intercept)
    columns = [jnp.where(jnp.isfinite(a), a, 0).astype(dtype) for a in columns_of(ansatz, x, 1)]
    low, high = (jnp.stack([function(a, axis=0) for a in columns]) for function in (jnp.min, jnp.max))
    center = (low + high) / 2 if first else jnp.zeros_like(low)
    scale = power_of_two(jnp.maximum(high - center, center - low))
    x_scaled = [(a - c) * (1 / s) for a, c, s in zip(columns, center, scale, strict=True)]
    psi = jnp.stack([a.reshape(n) for a in ansatz.basis(x_scaled)])
    i, j = np.tril_indices(p)
    products = psi[i] * psi[j]
    d = jnp.stack([shared / own for shared, own in zip(scale, model.scale, strict=True)])
    r = jnp.stack([(c - own) / s for c, own, s in zip(center, model.center, model.scale, strict=True)])
    one = jnp.ones_like(d[:1])
    d, r = (jnp.concatenate([one, d]), jnp.concatenate([one, r])) if first else (d, jnp.zeros_like(r))
    coefs, V = _to_shared_basis(model, d, r, first)
    multiplicity = jnp.where(i == j, 1.0, 2.0).reshape(-1, *(1,) * (V.ndim - 2)).astype(dtype)
    V_lower = V[i, j] * multiplicity  # h/w is the dot product with the lower triangle of ψψᵀ

    # Transposed so that all products have one layout: another gives other last bits in the last columns.
    psi_rows, product_rows = psi.T, products.T

    @partial(jax.checkpoint, static_argnums=0)
    def step(tile: Callable[..., Array], meat: Array) -> Array:
        y_tile, w = tile(y), None if weights is None else tile(weights)
        valid = is_valid([tile(a) for a in columns_of(ansatz, x, 1)], y_tile, w) & jnp.isfinite(y_tile)
        w = _valid_weight(valid, w, dtype)
        error = jnp.where(valid, y_tile, 0).astype(dtype) - product(tile(psi_rows), coefs)
        h = w * product(tile(product_rows), V_lower) / model.weight if cov_type in WITH_LEVERAGE else None
        square = _corrected(jnp.square(w * (error / model.unit)), h, cov_type)
        return meat + product(tile(products, 1), square)

    meat = jnp.broadcast_to(jnp.zeros_like(model.unit), (len(products), *model.unit.shape))
    meat = over_row_tiles(n, rows, step, meat)
    return Symmetric(_from_shared_basis(meat[triangle(p)], d, r, first), p)


def _to_shared_basis(model: _Model, d: Array, r: Array, first: int) -> tuple[Array, Array]:
    """Coefs and V with cᵀψ = c'ᵀψ' and ψᵀVψ = ψ'ᵀV'ψ', for ψ_k = d_k ψ'_k + r_k ψ'_0."""
    coefs, V = model.coefs * d, d[:, None] * model.V.entries * d[None]
    if first:
        Vr = model.V.times(r)
        coefs = coefs.at[0].set(dot(model.coefs, r))
        V = V.at[0].set(d * Vr).at[:, 0].set(d * Vr).at[0, 0].set(dot(r, Vr))
    return coefs, V


def _from_shared_basis(M: Array, d: Array, r: Array, first: int) -> Array:
    """The meat of ψ from that of ψ'."""
    if not first:
        return d[:, None] * M * d[None]
    r = r.at[0].set(0)
    column_0 = d * M[0]
    return (
        d[:, None] * M * d[None]
        + column_0[:, None] * r[None]
        + r[:, None] * column_0[None]
        + r[:, None] * r[None] * M[0, 0]
    )


def _clustered(
    robust: Robust, model: _Model, make_row: Callable[..., _Row], row_at: Callable, n: int, zero: Array
) -> tuple[Symmetric, Array]:
    """M = Σ_g S_g S_gᵀ of the sums S_g of scores, and the number of clusters with observations."""
    order, begins = (jnp.asarray(a).reshape(n) for a in (robust.order, robust.begins))

    @jax.checkpoint
    def step(k: Any, state: tuple) -> tuple:
        meat, S, any_valid, groups = state
        begin = begins[k]
        meat = _add(meat, _outer(S, jnp.where(begin, jnp.ones_like(zero), 0)))
        groups = groups + jnp.where(begin & any_valid, 1, 0).astype(zero.dtype)
        row = make_row(*row_at(order[k]))
        S = elementwise(lambda s, a: jnp.where(begin, 0, s) + row.score * a, S, row.psi)
        return meat, S, jnp.where(begin, False, any_valid) | row.valid, groups

    S, meat = _zeros(model, zero)
    start = meat, S, zero > 0, zero
    meat, S, any_valid, groups = lax.fori_loop(0, n, step, start)
    return _add(meat, _outer(S, jnp.ones_like(zero))), groups + any_valid


def max_lag(robust: Robust, n: int) -> int:
    """The largest lag of data sets of n rows."""
    return int(_default_lags(n)) if robust.maxlags is None else min(robust.maxlags, n - 1)


def _default_lags(nobs: Any) -> Any:
    """Newey and West's ⌊4 (nobs / 100)^(2/9)⌋."""
    if isinstance(nobs, int):
        return np.floor(4 * (nobs / 100) ** (2 / 9))
    return jnp.floor(4 * (nobs / 100) ** (2 / 9))


def _lagged(
    maxlags: int | None,
    largest_lag: int,
    model: _Model,
    nobs: Array,
    make_row: Callable[..., _Row],
    loop: Callable,
    zero: Array,
) -> Symmetric:
    """M = Σ s sᵀ + s fᵀ + f sᵀ with f_i = Σ_l (1 − l / (L + 1)) s_{i−l}; lags count valid observations."""
    L = _default_lags(nobs) if maxlags is None else jnp.full_like(nobs, float(maxlags))
    bartlett = [jnp.maximum(1 - lag / (L + 1), 0) for lag in range(1, largest_lag + 1)]

    # Entry by entry and a few rows at a time: arrays of all entries of one row take three times as long.
    @jax.checkpoint
    def step(state: tuple, observations: list[tuple]) -> tuple:
        meat, previous = state  # scores of the last valid observations, newest first
        for observation in observations:
            row = make_row(*observation)
            s = elementwise(partial(jnp.multiply, row.score), row.psi)
            f = elementwise(lambda a: a / 2, s)  # half of s: s fᵀ + f sᵀ then contains s sᵀ
            for weight, lagged in zip(bartlett, previous, strict=True):
                f = elementwise(jnp.add, f, elementwise(partial(jnp.multiply, weight), lagged))
            meat = _add(meat, _symmetric_outer(s, f))
            shifted = [s, *previous[:-1]] if previous else []
            previous = [
                elementwise(partial(jnp.where, row.valid), new, old)
                for new, old in zip(shifted, previous, strict=True)
            ]
        return meat, previous

    zeros, meat = _zeros(model, zero)
    return loop(step, (meat, [zeros] * largest_lag))[0]


def _symmetric_outer(a: Vector, b: Vector) -> Symmetric:
    """a bᵀ + b aᵀ."""
    k = len(a)
    if isinstance(a, list):
        return Symmetric([a[i] * b[j] + b[i] * a[j] for i in range(k) for j in range(i + 1)], k)
    return Symmetric(a[:, None] * b[None] + b[:, None] * a[None], k)
