"""Covariances of the params that do not ask for errors of one variance: one more pass over the data.

With residuals ε and scores s_i = w_i ε_i ψ_i, cov c = (Σ w ψψᵀ)⁻¹ M (Σ w ψψᵀ)⁻¹. The meat M is Σ s sᵀ,
corrected for leverage or for degrees of freedom (HC0 to HC3), Σ_g (Σ_{i∈g} s_i)(…)ᵀ over clusters, or
Σ_l k_l Σ_i (s_i s_{i−l}ᵀ + s_{i−l} s_iᵀ) over lags (HAC, with Bartlett's weights). Like the sums of a fit, it
is added up row by row; nothing of the size of the data is stored.

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
MIN_LEFT = 2.0**-36  # of 1 − h, which has four digits there


@pytree
class Robust:
    """What M is made of.

    Attributes:
        order: of clusters, the rows, cluster by cluster, (n,); else None.
        begins: at which of these a cluster begins, (n,); else None.
        cov_type: "HC0" to "HC3", "cluster" or "HAC".
        maxlags: of HAC, the largest lag; None for ⌊4 (nobs/100)^(2/9)⌋.
    """

    order: Any
    begins: Any
    cov_type: str = static()
    maxlags: int | None = static()

    @property
    def name(self) -> str:
        """What `Fit.cov_type` says."""
        return self.cov_type


class _Known(NamedTuple):
    """What is known of the data sets, in float64.

    Attributes:
        center: of each column of x.
        scale: the same.
        coefs: c, p of them.
        V: ⟨ψψᵀ⟩⁻¹.
        unit: √⟨ε²⟩, in units of which scores are.
        weight: Σ w.
    """

    center: list[Array]
    scale: list[Array]
    coefs: Vector
    V: Symmetric
    unit: Array
    weight: Array


class _Row(NamedTuple):
    """One observation of each data set; what is missing is 0, and so is its gradient."""

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
    """The estimate with standard errors and a covariance made from a sandwich.

    Args:
        ansatz: of the basis.
        robust: what the sandwich is made of.
        found: the estimate.
        exact: its coefs and their covariance to more digits, float64 where these are added up.
        x: as for `row_sums`, and the others.
        y: as above.
        weights: as above.
        rows: how many at once.
        window: (start, width), for some of the columns of the data; the rest is of these.
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
    known = _Known(center, scale, vector(list(coefs)), V, unit, weight)
    meat, groups = _meat(ansatz, robust, known, nobs, x, y, weights, rows, window)
    enough = solved & (groups > 1) if robust.cov_type == "cluster" else solved
    df = jnp.maximum(nobs - p, 1)
    factor = _correction(robust, nobs, df, groups) * df / jnp.square(known.weight)
    cov = V.sandwich(meat).map(lambda a: factor * a)
    variances = [variance(row, cov) for row in feature_rows(ansatz, center, scale)]
    bse = jnp.stack([residual * unit * _root(a / df) for unit, a in variances])
    bse, unit_cov = (
        jnp.where(enough, a, jnp.nan).astype(found.params.dtype) for a in (bse, jnp.concatenate(cov.lower))
    )
    clusters = groups.astype(jnp.int32) if robust.cov_type == "cluster" else None
    return replace(found, bse=bse, unit_cov=unit_cov, groups=clusters)


def _root(a: Array) -> Array:
    """√a, 0 where a is not positive, with finite derivatives; NaN stays NaN."""
    return jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1)), jnp.where(a <= 0, 0, jnp.nan))


def _correction(robust: Robust, nobs: Array, df: Array, groups: Array) -> Array | float:
    if robust.cov_type == "HC1":
        return nobs / df
    if robust.cov_type == "cluster":
        return groups / jnp.maximum(groups - 1, 1) * ((nobs - 1) / df)
    return 1.0


def _meat(
    ansatz: Ansatz,
    robust: Robust,
    known: _Known,
    nobs: Array,
    x: Array,
    y: Array,
    weights: Array | None,
    rows: Rows,
    window: Window | None,
) -> tuple[Symmetric, Array]:
    """M in units of `known.unit`², and the number of clusters."""
    row_of = partial(_row, ansatz, known)
    over = partial(over_rows, (x, y, weights), rows.unrolled, window)
    none = jnp.zeros_like(nobs)
    if robust.cov_type == "cluster":
        row_at = partial(row, (x, y, weights), window)
        return _clustered(robust, known, row_of, row_at, y.shape[0], none)
    if robust.cov_type == "HAC":
        most = max_lag(robust, y.shape[0])
        return _lagged(robust.maxlags, most, known, nobs, row_of, over, none), none
    x_is_shared = all(length == 1 for length in x.shape[1 + ansatz.x_is_vector :])
    if ansatz.basis_is_x and window is None and matrix_sums.applies(ansatz, x, x_is_shared):
        return _by_products(ansatz, robust.cov_type, known, x, y, weights, rows), none
    return _heteroscedastic(robust.cov_type, known, row_of, over, none), none


def _row(ansatz: Ansatz, known: _Known, x: Array, y: Array, w: Array | None) -> _Row:
    """ψ and w ε of a row of the data."""
    dtype = known.unit.dtype
    columns = columns_of(ansatz, x, 0)
    valid = is_valid(columns, y, w) & jnp.isfinite(y)
    columns = [jnp.where(jnp.isfinite(a), a, 0).astype(dtype) for a in columns]
    usable = jnp.ones((), dtype) if w is None else jnp.where(jnp.isfinite(w), w, 0).astype(dtype)
    w = jnp.where(valid, usable, 0)
    t = [(a - c) * (1 / s) for a, c, s in zip(columns, known.center, known.scale, strict=True)]
    psi = vector([jnp.broadcast_to(a, valid.shape) for a in ansatz.basis(t)])
    error = jnp.where(valid, y, 0).astype(dtype)
    for c, a in zip(known.coefs, psi, strict=True):
        error = error - c * a
    return _Row(valid, w, psi, w * (error / known.unit))


def _outer(a: Vector, factor: Array) -> Symmetric:
    """f a aᵀ."""
    k = len(a)
    if isinstance(a, list):
        return Symmetric([factor * a[i] * a[j] for i in range(k) for j in range(i + 1)], k)
    return Symmetric(factor * a[:, None] * a[None], k)


def _nothing(known: _Known, like: Array) -> tuple[Vector, Symmetric]:
    """A vector and a symmetric matrix of zeros."""
    v = elementwise(lambda c: jnp.zeros_like(like + c), known.coefs)
    return v, _outer(v, like)


def _add(a: Symmetric, b: Symmetric) -> Symmetric:
    return Symmetric(elementwise(jnp.add, a.entries, b.entries), a.k)


def _heteroscedastic(
    cov_type: str, known: _Known, row_of: Callable[..., _Row], over: Callable, none: Array
) -> Symmetric:
    """M = Σ (w ε)² ψψᵀ / (1 − h)^d, with h = w ψᵀ(Σ w ψψᵀ)⁻¹ψ and d = 1 for HC2, 2 for HC3."""

    @jax.checkpoint
    def step(meat: Symmetric, rows: list[tuple]) -> Symmetric:
        for data in rows:
            row = row_of(*data)
            h = None
            if cov_type in WITH_LEVERAGE:
                h = row.weight * dot(row.psi, known.V.times(row.psi)) / known.weight
            meat = _add(meat, _outer(row.psi, _corrected(jnp.square(row.score), h, cov_type)))
        return meat

    return over(step, _nothing(known, none)[1])


def _corrected(square: Array, h: Array | None, cov_type: str) -> Array:
    if h is None:
        return square
    left = jnp.where(1 - h > MIN_LEFT, 1 - h, jnp.nan)  # as good as fitted by itself, whatever its error
    return square / (left if cov_type == "HC2" else left * left)


def _by_products(
    ansatz: Ansatz,
    cov_type: str,
    known: _Known,
    x: Array,
    y: Array,
    weights: Array | None,
    rows: Rows,
) -> Symmetric:
    """The same on a shared design of several columns, as matrix products of (w ε)² with all ψ_i ψ_j.

    The basis is in one scaling for all data sets, ψ_k = d_k ψ'_k + r_k in terms of which that of each is; M
    moves to that of each.
    """
    n, p, dtype = y.shape[0], len(known.coefs), known.unit.dtype
    first = int(ansatz.has_intercept)
    columns = [jnp.where(jnp.isfinite(a), a, 0).astype(dtype) for a in columns_of(ansatz, x, 1)]
    low, high = (jnp.stack([function(a, axis=0) for a in columns]) for function in (jnp.min, jnp.max))
    center = (low + high) / 2 if first else jnp.zeros_like(low)
    scale = power_of_two(jnp.maximum(high - center, center - low))
    t = [(a - c) * (1 / s) for a, c, s in zip(columns, center, scale, strict=True)]
    psi = jnp.stack([a.reshape(n) for a in ansatz.basis(t)])
    row_, column = np.tril_indices(p)
    pairs = psi[row_] * psi[column]
    d = jnp.stack([s / own for s, own in zip(scale, known.scale, strict=True)])
    r = jnp.stack([(c - own) / s for c, own, s in zip(center, known.center, known.scale, strict=True)])
    one = jnp.ones_like(d[:1])
    d, r = (jnp.concatenate([one, d]), jnp.concatenate([one, r])) if first else (d, jnp.zeros_like(r))
    coefs, V = known.coefs * d, d[:, None] * known.V.entries * d[None]
    if first:
        u = known.V.times(r)
        coefs = coefs.at[0].set(dot(known.coefs, r))
        V = V.at[0].set(d * u).at[:, 0].set(d * u).at[0, 0].set(dot(r, u))
    twice = jnp.where(row_ == column, 1.0, 2.0).reshape(-1, *(1,) * (V.ndim - 2)).astype(dtype)
    lower = V[row_, column] * twice

    psi_of_row, pairs_of_row = psi.T, pairs.T  # products of another form have other last bits in last columns

    @partial(jax.checkpoint, static_argnums=0)
    def step(some: Callable[..., Array], meat: Array) -> Array:
        some_y, w = some(y), None if weights is None else some(weights)
        valid = is_valid([some(a) for a in columns_of(ansatz, x, 1)], some_y, w) & jnp.isfinite(some_y)
        usable = jnp.ones((), dtype) if w is None else jnp.where(jnp.isfinite(w), w, 0).astype(dtype)
        w = jnp.where(valid, usable, 0)
        error = jnp.where(valid, some_y, 0).astype(dtype) - product(some(psi_of_row), coefs)
        h = w * product(some(pairs_of_row), lower) / known.weight if cov_type in WITH_LEVERAGE else None
        square = _corrected(jnp.square(w * (error / known.unit)), h, cov_type)
        return meat + product(some(pairs, 1), square)

    meat = jnp.broadcast_to(jnp.zeros_like(known.unit), (len(pairs), *known.unit.shape))
    meat = over_row_tiles(n, rows, step, meat)
    M = meat[triangle(p)]
    if first:
        r = r.at[0].set(0)
        column_0 = d * M[0]
        M = (
            d[:, None] * M * d[None]
            + column_0[:, None] * r[None]
            + r[:, None] * column_0[None]
            + r[:, None] * r[None] * M[0, 0]
        )
    else:
        M = d[:, None] * M * d[None]
    return Symmetric(M, p)


def _clustered(
    robust: Robust, known: _Known, row_of: Callable[..., _Row], row_at: Callable, n: int, none: Array
) -> tuple[Symmetric, Array]:
    """M = Σ_g S_g S_gᵀ of the sums S_g of scores, and how many clusters have observations."""
    order, begins = (jnp.asarray(a).reshape(n) for a in (robust.order, robust.begins))

    @jax.checkpoint
    def step(k: Any, state: tuple) -> tuple:
        meat, S, any_valid, groups = state
        begin = begins[k]
        meat = _add(meat, _outer(S, jnp.where(begin, jnp.ones_like(none), 0)))
        groups = groups + jnp.where(begin & any_valid, 1, 0).astype(none.dtype)
        row = row_of(*row_at(order[k]))
        S = elementwise(lambda s, a: jnp.where(begin, 0, s) + row.score * a, S, row.psi)
        return meat, S, jnp.where(begin, False, any_valid) | row.valid, groups

    S, meat = _nothing(known, none)
    start = meat, S, none > 0, none
    meat, S, any_valid, groups = lax.fori_loop(0, n, step, start)
    return _add(meat, _outer(S, jnp.ones_like(none))), groups + any_valid


def max_lag(robust: Robust, n: int) -> int:
    """How many lags a data set of n rows has at most."""
    return int(_lags(n)) if robust.maxlags is None else min(robust.maxlags, n - 1)


def _lags(nobs: Any) -> Any:
    """Newey and West's ⌊4 (nobs / 100)^(2/9)⌋."""
    if isinstance(nobs, int):
        return np.floor(4 * (nobs / 100) ** (2 / 9))
    return jnp.floor(4 * (nobs / 100) ** (2 / 9))


def _lagged(
    maxlags: int | None,
    most: int,
    known: _Known,
    nobs: Array,
    row_of: Callable[..., _Row],
    over: Callable,
    none: Array,
) -> Symmetric:
    """M = Σ s sᵀ + s fᵀ + f sᵀ with f_i = Σ_l (1 − l / (L + 1)) s_{i−l}; lags count valid observations."""
    L = _lags(nobs) if maxlags is None else jnp.full_like(nobs, float(maxlags))
    kernel = [jnp.maximum(1 - lag / (L + 1), 0) for lag in range(1, most + 1)]

    # Entry by entry and some rows at a time: as stacked arrays of one row it takes three times as long.
    @jax.checkpoint
    def step(state: tuple, rows: list[tuple]) -> tuple:
        meat, before = state
        for data in rows:
            row = row_of(*data)
            s = elementwise(partial(jnp.multiply, row.score), row.psi)
            f = elementwise(lambda a: a / 2, s)
            for weight, earlier in zip(kernel, before, strict=True):
                f = elementwise(jnp.add, f, elementwise(partial(jnp.multiply, weight), earlier))
            meat = _add(meat, _both(s, f))
            newest = [s, *before[:-1]] if before else []
            before = [
                elementwise(partial(jnp.where, row.valid), new, old)
                for new, old in zip(newest, before, strict=True)
            ]
        return meat, before

    nothing, meat = _nothing(known, none)
    return over(step, (meat, [nothing] * most))[0]


def _both(a: Vector, b: Vector) -> Symmetric:
    """a bᵀ + b aᵀ."""
    k = len(a)
    if isinstance(a, list):
        return Symmetric([a[i] * b[j] + b[i] * a[j] for i in range(k) for j in range(i + 1)], k)
    return Symmetric(a[:, None] * b[None] + b[:, None] * a[None], k)
