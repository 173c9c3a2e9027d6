"""Covariances of the params that do not ask for errors of one variance: one more pass over the data.

With residuals ε and scores s_i = w_i ε_i ψ_i, cov c = (Σ w ψψᵀ)⁻¹ M (Σ w ψψᵀ)⁻¹. The meat M is Σ s sᵀ,
corrected for leverage or for degrees of freedom (HC0 to HC3), Σ_g (Σ_{i∈g} s_i)(…)ᵀ over clusters, or
Σ_l k_l Σ_i (s_i s_{i−l}ᵀ + s_{i−l} s_iᵀ) over lags (HAC, with Bartlett's weights). Like the sums of a fit, it
is added up row by row in tiles of columns; nothing of the size of the data is stored.

Source: J. G. MacKinnon and H. White, J. Econometrics 29 (1985) 305; K.-Y. Liang and S. L. Zeger,
Biometrika 73 (1986) 13; W. K. Newey and K. D. West, Econometrica 55 (1987) 703.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxreg import frame as frames
from jaxreg import products, small, tiles
from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.closed_form import FromCoefs
from jaxreg.cost import observed
from jaxreg.frame import Frame
from jaxreg.gather import LEAST_COLUMNS, tile_columns
from jaxreg.inputs import Data
from jaxreg.pair import Pair
from jaxreg.precision import float64, in_own_precision
from jaxreg.pytree import pytree, static
from jaxreg.result import Fit
from jaxreg.tiles import Tile

WITH_LEVERAGE = ("HC2", "HC3")
COV_TYPES = ("nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster", "HAC")
LEAST_LEFT = 2.0**-36  # of 1 − h, which has four digits there
LAGGED_BYTES = 2**18  # of the scores that wait for those behind them; with more, some widths take 3 ×


@pytree
class Sandwich:
    """What M is made of.

    Attributes:
        order: of clusters, the rows, cluster by cluster, (n,).
        begins: at which of these a cluster begins, (n,).
        cov_type: one of COV_TYPES, not nonrobust.
        maxlags: of HAC, the largest lag; None for ⌊4 (nobs/100)^(2/9)⌋.
    """

    order: Any
    begins: Any
    cov_type: str = static()
    maxlags: int | None = static()


_Sums = tuple[Array, Array, Array, Array]


class _Found(NamedTuple):
    """What is known of the data sets of a tile, in float64."""

    frame: Frame
    coefs: Array
    inverse: Array


def sandwich(cov_type: Any, groups: Any, maxlags: Any, n: int) -> Sandwich | None:
    """What the options of `fit` ask for; None for a nonrobust covariance."""
    if cov_type not in COV_TYPES:
        raise ValueError(f"cov_type is one of {COV_TYPES}, got {cov_type!r}")
    if (groups is not None) != (cov_type == "cluster"):
        raise ValueError('groups and cov_type="cluster" go together: pass both or neither')
    if maxlags is not None and cov_type != "HAC":
        raise ValueError(f'maxlags is for cov_type="HAC", got cov_type={cov_type!r}')
    if cov_type == "nonrobust":
        return None
    if cov_type != "cluster":
        whole = isinstance(maxlags, int | np.integer) and not isinstance(maxlags, bool) and maxlags >= 0
        if maxlags is not None and not whole:
            raise ValueError(f"maxlags is a whole number, at least 0, or None; got {maxlags!r}")
        return Sandwich(None, None, cov_type, None if maxlags is None else int(maxlags))
    if isinstance(groups, Tracer):
        raise TypeError("groups need values and there are none under jit or vmap; close over them instead")
    codes = _codes(groups, n)
    order = np.argsort(codes, kind="stable").astype(np.int32)
    begins = np.append(True, np.diff(codes[order]) != 0)
    return Sandwich(order, begins, cov_type, None)


def _codes(groups: Any, n: int) -> np.ndarray:
    """A number for each label."""
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"groups has shape {labels.shape}: pass a label for every observation, ({n},)")
    missing = np.ma.getmaskarray(groups) if isinstance(groups, np.ma.MaskedArray) else _is_missing(labels)
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"groups has {missing.sum()} missing labels, the first at observation {first}: give those "
            "observations a label, or y a NaN and any label"
        )
    try:
        return np.unique(labels, return_inverse=True)[1]
    except TypeError:  # of kinds that cannot be sorted together
        numbers: dict[Any, int] = {}
        return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def _is_missing(labels: np.ndarray) -> np.ndarray:
    """Which labels are None, NaN, NaT or pandas' NA: those that do not equal themselves, and None."""
    if labels.dtype != object:
        return labels != labels

    def missing(label: Any) -> bool:
        try:
            return label is None or bool(label != label)
        except TypeError:  # the truth of pandas' NA is not known
            return True

    return np.array([missing(label) for label in labels])


@in_own_precision
@jax.jit
def with_sandwich(data: Data, found: Fit, how: Sandwich) -> Fit:
    """The fit with errors and tests made from a sandwich."""
    m, batch = data.width, found.shape
    found = jax.tree.map(lambda a: a.reshape(*a.shape[: a.ndim - len(batch)], -1), found)
    p, dtype = found.coefs.shape[0], found.params.dtype
    solved = jnp.isfinite(found.coefs).all(axis=0) & jnp.isfinite(found.unit_cov).all(axis=0)
    with float64():
        lower = jnp.broadcast_to(found.unit_cov, (p * (p + 1) // 2, m))
        known = _Found(
            jax.tree.map(lambda a: a.astype(jnp.float64), found.frame),
            jnp.where(solved, found.coefs.astype(jnp.float64) + found.coefs_rest, 0),
            jnp.where(solved, lower[small.of_triangle(p)], 0).astype(jnp.float64),
        )
        weight, inverse, meat, groups = _gathered(data, found.ansatz, known, how)
        enough = solved & (found.df_resid > 0) & (weight > 0)
        if how.cov_type == "cluster":
            enough &= groups > 1
        factor = _correction(how, found.nobs, p, groups) / jnp.square(jnp.where(enough, weight, 1))
        V = factor * small.matmul(small.matmul(inverse, meat), inverse)
        M, size = FromCoefs.of(found.ansatz, found.frame, single=True).slopes()
        variances = small.dot(jnp.swapaxes(small.matmul(M.hi, V), 0, 1), jnp.swapaxes(M.hi, 0, 1))
        bse = found.frame.y_scale * size * _root(variances)
        unit_cov = jnp.stack([V[i, j] for i in range(p) for j in range(i + 1)])
        bse, unit_cov = (jnp.where(enough, a, jnp.nan).astype(dtype) for a in (bse, unit_cov))
    groups = groups if how.cov_type == "cluster" else None
    found = replace(found, bse=bse, unit_cov=unit_cov, groups=groups, cov_type=how.cov_type)
    return jax.tree.map(lambda a: a.reshape(*a.shape[:-1], *batch), found)


def _root(a: Array) -> Array:
    """√a, 0 where a is not positive, with finite derivatives; NaN stays NaN."""
    return jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1)), jnp.where(a <= 0, 0, jnp.nan))


def _correction(how: Sandwich, nobs: Array, p: int, groups: Array) -> Array | float:
    nobs, groups = nobs.astype(jnp.float64), groups.astype(jnp.float64)
    df = jnp.maximum(nobs - p, 1)
    if how.cov_type == "HC1":
        return nobs / df
    if how.cov_type == "cluster":
        return groups / jnp.maximum(groups - 1, 1) * ((nobs - 1) / df)
    return 1.0


def _gathered(data: Data, ansatz: Ansatz, known: _Found, how: Sandwich) -> _Sums:
    """Σ w, A⁻¹, M and the number of clusters of each data set, (m,), (p, p, m), (p, p, m) and (m,)."""
    x, y, weights = data.arrays()
    p, m = known.coefs.shape
    most = tile_columns(ansatz, x, x.shape[-1] == 1)
    if how.cov_type == "cluster":
        of_tile = partial(_clustered, ansatz, how)
    elif how.cov_type == "HAC":
        lags = int(_lags(y.shape[0])) if how.maxlags is None else min(how.maxlags, y.shape[0] - 1)
        of_tile = partial(_lagged, ansatz, how.maxlags, lags)
        most = max(LEAST_COLUMNS, LAGGED_BYTES // (8 * p * (lags + 1)))
    elif products.apply_to(ansatz, x, x.shape[-1] == 1):
        of_tile = partial(_by_products, ansatz, how.cov_type)
    else:
        of_tile = partial(_heteroscedastic, ansatz, how.cov_type)
    width = tiles.even_width(m, most)

    def tile(start: Array | int) -> _Sums:
        cut = partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=width, axis=-1)
        first = jnp.asarray(data.first, jnp.int32) + jnp.int32(start)
        return of_tile(Tile(x, y, weights, first, width), jax.tree.map(cut, known))

    return tiles.put_together(tile, m, width)


class _Row(NamedTuple):
    """One observation of each data set of a tile; what is missing is 0, and so is its gradient."""

    seen: Array
    weight: Array
    psi: Array
    score: Array

    @classmethod
    def of(cls, ansatz: Ansatz, known: _Found, row: tuple) -> _Row:
        """ψ (p, width) and w ε of a row of the data."""
        x, y, w = row
        seen = observed(x, y, w, ansatz) & jnp.isfinite(y)
        x = jnp.where(jnp.isfinite(x), x, 0).astype(jnp.float64)
        y = jnp.where(seen, y, 0).astype(jnp.float64)
        usable = 1.0 if w is None else jnp.where(jnp.isfinite(w), w, 0).astype(jnp.float64)
        w = jnp.where(seen, usable, 0.0)
        *psi, u = tiles.z(ansatz, known.frame, x, y)
        error = u - sum(c * a for c, a in zip(known.coefs, psi, strict=True))
        psi = jnp.stack([jnp.broadcast_to(a, error.shape)[0] for a in psi])
        return cls(seen[0], w[0], psi, (w * error)[0])


def _total(
    ansatz: Ansatz, tile: Tile, known: _Found, *, with_gram: bool
) -> tuple[Array, Array, Array | None]:
    """The number of observations, Σ w, and Σ w ψψᵀ / Σ w if asked for."""
    p = known.coefs.shape[0]

    def of_row(data: tuple) -> list[Array]:
        row = _Row.of(ansatz, known, data)
        gram = _products(row.weight * row.psi, row.psi) if with_gram else []
        return [row.seen.astype(jnp.float64), row.weight, *gram]

    @jax.checkpoint
    def step(sums: list[Array], rows: list[tuple]) -> list[Array]:
        each = [of_row(row) for row in rows]
        return [total + sum(a[1:], a[0]) for total, *a in zip(sums, *each, strict=True)]

    start = [jnp.zeros(tile.width)] * 2 + (_no_products(p, tile.width) if with_gram else [])
    nobs, total, *gram = tile.over_rows(step, start)
    return nobs, total, _matrix(gram) / jnp.where(total > 0, total, 1) if with_gram else None


def _refined(inverse: Array, A: Array) -> Array:
    """A⁻¹ to the digits of float64, by Newton's A⁻¹(2 − A A⁻¹): with fewer a small 1 − h is noise."""
    fixed, A = lax.stop_gradient((inverse, A))
    p = len(A)
    twice = 2 * jnp.eye(p).reshape(p, p, *(1,) * (A.ndim - 2))
    better = fixed
    for _ in range(2):  # each doubles the digits, of which there are some seven
        better = small.matmul(better, twice - small.matmul(A, better))
    return inverse + (better - fixed)


def _heteroscedastic(ansatz: Ansatz, cov_type: str, tile: Tile, known: _Found) -> _Sums:
    """M = Σ (w ε)² ψψᵀ / (1 − h)^d, with h = w ψᵀ(Σ w ψψᵀ)⁻¹ψ and d = 1 for HC2, 2 for HC3."""
    p = known.coefs.shape[0]
    _, total, gram = _total(ansatz, tile, known, with_gram=cov_type in WITH_LEVERAGE)
    if gram is not None:
        known = known._replace(inverse=_refined(known.inverse, gram))

    def of_row(data: tuple) -> list[Array]:
        row = _Row.of(ansatz, known, data)
        h = row.weight * _quadratic(known.inverse, row.psi) / total if cov_type in WITH_LEVERAGE else None
        square = _corrected(jnp.square(row.score), h, cov_type)
        return [square * a for a in _products(row.psi, row.psi)]

    @jax.checkpoint
    def step(sums: list[Array], rows: list[tuple]) -> list[Array]:
        each = [of_row(row) for row in rows]
        return [total + sum(a[1:], a[0]) for total, *a in zip(sums, *each, strict=True)]

    sums = tile.over_rows(step, _no_products(p, tile.width))
    return total, known.inverse, _matrix(sums), jnp.zeros(tile.width, jnp.int32)


def _products(a: Array, b: Array) -> list[Array]:
    """The lower triangle of a bᵀ entry by entry; all of it in one array where p is large."""
    p = len(a)
    return [a[:, None] * b] if p > tiles.UNROLLED else [a[i] * b[j] for i in range(p) for j in range(i + 1)]


def _no_products(p: int, width: int) -> list[Array]:
    """What sums of `_products` begin with."""
    if p > tiles.UNROLLED:
        return [jnp.zeros((p, p, width))]
    return [jnp.zeros(width)] * (p * (p + 1) // 2)


def _matrix(sums: list[Array]) -> Array:
    """The matrix of sums of `_products`."""
    return sums[0] if sums[0].ndim == 3 else small.symmetric(sums)


def _quadratic(A: Array, psi: Array) -> Array:
    """ψᵀ A ψ."""
    return small.dot(psi, small.matvec(A, psi))


def _corrected(square: Array, h: Array | None, cov_type: str) -> Array:
    if h is None:
        return square
    left = jnp.where(1 - h > LEAST_LEFT, 1 - h, jnp.nan)  # as good as fitted by itself, whatever its error
    return square / (left if cov_type == "HC2" else left * left)


def _by_products(ansatz: Ansatz, cov_type: str, tile: Tile, known: _Found) -> _Sums:
    """The same on a shared design of several columns, as matrix products of (w ε)² with all ψ_i ψ_j.

    The design is that of a frame for all data sets, and the result moves to the frame of each.
    """
    p = known.coefs.shape[0]
    one, nothing = jnp.ones(()), jnp.zeros(())
    shared = frames.of_ranges(tiles.x_range(tile), (nothing, nothing), ansatz)
    shared = jax.tree.map(lambda a: a.astype(jnp.float64), shared)
    of_y = replace(known.frame, x_center=shared.x_center, x_scale=shared.x_scale)
    R = frames.between(of_y, known.frame, ansatz, lambda a: Pair(a, None)).hi[:p, :p]
    psi, _ = products.design_of(ansatz, replace(shared, y_center=nothing, y_scale=one), tile.x)
    row, column = np.tril_indices(p)
    pairs = psi[:, row] * psi[:, column]
    twice = jnp.where(row == column, 1.0, 2.0)[:, None]
    c = small.matvec(jnp.swapaxes(R, 0, 1), known.coefs)
    A_inverse = small.matmul(jnp.swapaxes(R, 0, 1), small.matmul(known.inverse, R))

    def rows_of(rows: tuple, y0: Array, unit: Array) -> tuple[Array, Array]:
        x, y, w = rows
        seen = observed(x, y, w, ansatz) & jnp.isfinite(y)
        usable = 1.0 if w is None else jnp.where(jnp.isfinite(w), w, 0).astype(jnp.float64)
        u = (jnp.where(seen, y, 0).astype(jnp.float64) - y0) / unit
        return jnp.where(seen, usable, 0.0), u

    with_leverage = cov_type in WITH_LEVERAGE

    def of_strip(strip: Tile, y0: Array, unit: Array, c: Array, A_inverse: Array) -> tuple[Array, Array]:
        def add_first(sums: tuple[Array, Array], first: Array, rows: tuple) -> tuple[Array, Array]:
            total, gram = sums
            w, u = rows_of(rows, y0, unit)
            if with_leverage:
                gram += products.dot(products.chunk_of(pairs, first, u), w)
            return total + jnp.sum(w, axis=0), gram

        none = jnp.zeros((len(row) if with_leverage else 0, products.STRIP))
        total, gram = products.over_chunks(strip, add_first, (jnp.zeros(products.STRIP), none))
        if with_leverage:
            A = small.symmetric(list(gram / jnp.where(total > 0, total, 1)))
            A_inverse = _refined(A_inverse, A)[row, column] * twice

        def add(meat: Array, first: Array, rows: tuple) -> Array:
            w, u = rows_of(rows, y0, unit)
            some, some_pairs = (products.chunk_of(a, first, u) for a in (psi, pairs))
            square = jnp.square(w * (u - products.dot(some.T, c)))
            h = w * products.dot(some_pairs.T, A_inverse) / total if with_leverage else None
            return meat + products.dot(some_pairs, _corrected(square, h, cov_type))

        return total, products.over_chunks(strip, add, jnp.zeros((len(row), products.STRIP)))

    y_frame = (jnp.broadcast_to(a, tile.width) for a in (known.frame.y_center, known.frame.y_scale))
    total, lower = products.over_strips(tile, of_strip, *y_frame, c, A_inverse)
    meat = small.matmul(R, small.matmul(lower[small.of_triangle(p)], jnp.swapaxes(R, 0, 1)))
    return total, known.inverse, meat, jnp.zeros(tile.width, jnp.int32)


def _clustered(ansatz: Ansatz, how: Sandwich, tile: Tile, known: _Found) -> _Sums:
    """M = Σ_g S_g S_gᵀ of the sums S_g of scores, and how many clusters have observations."""
    p = known.coefs.shape[0]
    order, begins = jnp.asarray(how.order), jnp.asarray(how.begins)

    @jax.checkpoint
    def step(k: Array, state: tuple) -> tuple:
        total, meat, S, any_seen, groups = state
        begin = begins[k]
        meat = jnp.where(begin, meat + S[:, None] * S, meat)
        groups += jnp.where(begin, any_seen, False)
        S, any_seen = jnp.where(begin, 0, S), jnp.where(begin, False, any_seen)
        row = _Row.of(ansatz, known, tile.rows(order[k], 1))
        return total + row.weight, meat, S + row.score * row.psi, any_seen | row.seen, groups

    none = jnp.zeros(tile.width, jnp.int32)
    start = jnp.zeros(tile.width), jnp.zeros((p, p, tile.width)), jnp.zeros((p, tile.width)), none > 0, none
    total, meat, S, any_seen, groups = lax.fori_loop(0, tile.y.shape[0], step, start)
    return total, known.inverse, meat + S[:, None] * S, groups + any_seen


def _lags(nobs: Any) -> Any:
    """Newey and West's ⌊4 (nobs / 100)^(2/9)⌋."""
    if isinstance(nobs, int):
        return np.floor(4 * (nobs / 100) ** (2 / 9))
    return jnp.floor(4 * (nobs.astype(jnp.float64) / 100) ** (2 / 9))


def _lagged(ansatz: Ansatz, maxlags: int | None, most: int, tile: Tile, known: _Found) -> _Sums:
    """M = Σ s sᵀ + s fᵀ + f sᵀ with f_i = Σ_l (1 − l / (L + 1)) s_{i−l}; lags count valid observations."""
    p = known.coefs.shape[0]
    nobs, total, _ = _total(ansatz, tile, known, with_gram=False)
    L = _lags(nobs) if maxlags is None else jnp.full(tile.width, float(maxlags))
    kernel = [jnp.maximum(1 - lag / (L + 1), 0) for lag in range(1, most + 1)]

    # Entry by entry and some rows at a time: as stacked arrays of one row it takes three times as long.
    @jax.checkpoint
    def step(state: tuple, rows: list[tuple]) -> tuple:
        meat, before = state
        for data in rows:
            row = _Row.of(ansatz, known, data)
            s = row.score * row.psi
            f = jnp.stack(
                [sum((a * b[i] for a, b in zip(kernel, before, strict=True)), s[i] / 2) for i in range(p)]
            )
            both = zip(meat, _products(s, f), _products(f, s), strict=True)
            meat = [total + a + b for total, a, b in both]
            newest = [list(s), *before[:-1]] if before else []
            before = [
                [jnp.where(row.seen, a, b) for a, b in zip(new, old, strict=True)]
                for new, old in zip(newest, before, strict=True)
            ]
        return meat, before

    start = _no_products(p, tile.width), [[jnp.zeros(tile.width)] * p] * most
    meat, _ = tile.over_rows(step, start)
    return total, known.inverse, _matrix(meat), jnp.zeros(tile.width, jnp.int32)
