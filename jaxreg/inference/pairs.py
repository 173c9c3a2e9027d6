"""Regressions of single columns of y on single columns of x, in float64 on the host."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from jaxreg._typing import Float, Int
from jaxreg.engine.residual_columns import Residuals, bases_of, patterns_of, residuals_of
from jaxreg.inference.distributions import t as student

CHUNK = 2**21  # numbers of the columns that are in work at once
P_VALUES = 1024  # computed at once: one shape compiles


class Pairs(NamedTuple):
    """Regressions of y on x and the covariates; every array has the shape (pairs,).

    Attributes:
        x_index: the column of x.
        y_index: the column of y.
        slope: units of y / units of x.
        bse: standard error of the slope.
        tvalues: slope / bse.
        pvalues: P(|T| > |t|).
        log10_pvalues: its logarithm, finite where the p-value underflows to 0.
        r: partial correlation of x and y given the covariates.
        nobs: rows in which x, y and the covariates are valid.
        df_resid: nobs − rank of (1, covariates) − 1.
    """

    x_index: Int[np.ndarray, "pairs"]
    y_index: Int[np.ndarray, "pairs"]
    slope: Float[np.ndarray, "pairs"]
    bse: Float[np.ndarray, "pairs"]
    tvalues: Float[np.ndarray, "pairs"]
    pvalues: Float[np.ndarray, "pairs"]
    log10_pvalues: Float[np.ndarray, "pairs"]
    r: Float[np.ndarray, "pairs"]
    nobs: Int[np.ndarray, "pairs"]
    df_resid: Int[np.ndarray, "pairs"]

    def at(self, index: np.ndarray) -> Pairs:
        """Some of the pairs."""
        return Pairs(*(a[index] for a in self))

    @classmethod
    def concatenated(cls, parts: list[Pairs]) -> Pairs:
        """All pairs of several."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


NONE = Pairs(*np.zeros((2, 0), int), *np.zeros((6, 0)), *np.zeros((2, 0), int))


class Block(NamedTuple):
    """Columns of x or y in memory.

    Attributes:
        values: (n, b), with NaN in gaps.
        first: the index of the first column.
        rounding: the relative error of the values.
    """

    values: Float[np.ndarray, "n b"]
    first: int
    rounding: float


def pairs_of(
    x: Block,
    y: Block,
    basis: Float[np.ndarray, "n q"],
    i: Int[np.ndarray, "pairs"],
    j: Int[np.ndarray, "pairs"],
) -> Pairs:
    """The regressions of columns j of y on columns i of x, NaN where there is none.

    Args:
        x: columns of x.
        y: columns of y.
        basis: orthonormal, of the span of (1, covariates).
        i: indices of columns of x.
        j: indices of columns of y, as many.

    Returns:
        The pairs in another order.
    """
    length = max(1, CHUNK // len(basis))
    tile = (j - y.first) // length
    parts = [_of_tile(x, y, basis, i[tile == t], j[tile == t], length) for t in np.unique(tile)]
    return Pairs.concatenated([NONE, *parts])


def _of_tile(x: Block, y: Block, basis: np.ndarray, i: np.ndarray, j: np.ndarray, length: int) -> Pairs:
    """Columns without gaps are projected once for all of their pairs."""
    (xs, x_at), (ys, y_at) = (np.unique(index, return_inverse=True) for index in (i, j))
    x_values, y_values = _finite(x.values[:, xs - x.first]), _finite(y.values[:, ys - y.first])
    x_valid, y_valid = ~np.isnan(x_values), ~np.isnan(y_values)
    (n, q), bases = basis.shape, basis[None]
    u = residuals_of(x_values, x_valid, np.zeros(len(xs), int), bases, x.rounding)
    v = residuals_of(y_values, y_valid, np.zeros(len(ys), int), bases, y.rounding)
    x_complete, y_complete = (np.asarray(valid.all(axis=0)) for valid in (x_valid, y_valid))
    complete = x_complete[x_at] & y_complete[y_at]
    parts = [NONE]
    for pairs in _pieces(np.flatnonzero(complete), length):
        a, b, nobs = x_at[pairs], y_at[pairs], np.full(len(pairs), n)
        parts.append(Pairs(i[pairs], j[pairs], *_regressions(u.at(a), v.at(b), nobs, nobs - q - 1)))
    for pairs in _pieces(np.flatnonzero(~complete), length):
        a, b = x_at[pairs], y_at[pairs]
        valid = x_valid[:, a] & y_valid[:, b]
        masks, pattern = patterns_of(valid)
        bases, rank = bases_of(masks, basis)
        own_u = residuals_of(x_values[:, a], valid, pattern, bases, x.rounding)
        own_v = residuals_of(y_values[:, b], valid, pattern, bases, y.rounding)
        nobs = valid.sum(axis=0)
        parts.append(Pairs(i[pairs], j[pairs], *_regressions(own_u, own_v, nobs, nobs - rank[pattern] - 1)))
    return Pairs.concatenated(parts)


def _pieces(index: np.ndarray, length: int) -> list[np.ndarray]:
    return [index[k : k + length] for k in range(0, len(index), length)]


def _regressions(u: Residuals, v: Residuals, nobs: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, ...]:
    """The fields of `Pairs` from slope on: slope = x̃ᵀỹ / x̃ᵀx̃ and ssr = |ỹ − slope x̃|² of residuals."""
    x, y = u.values, v.values
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        xx, xy, yy = (np.einsum("ij,ij->j", a, b) for a, b in ((x, x), (x, y), (y, y)))
        slope = xy / xx
        difference = y - slope * x
        bse = np.sqrt(np.einsum("ij,ij->j", difference, difference) / df / xx)
        unit = np.where(u.varies & v.varies & (df > 0), v.scale / u.scale, np.nan)
        t = slope / bse + 0 * unit
        r = np.clip(xy / np.sqrt(xx * yy), -1, 1) + 0 * unit
        log_p = log_pvalues(t, df)
        return slope * unit, bse * unit, t, np.exp(log_p), log_p / math.log(10), r, nobs, df


def _finite(columns: np.ndarray) -> np.ndarray:
    """The columns, those with an infinite value as gaps alone."""
    return np.where(np.isinf(columns).any(axis=0), np.nan, columns)


def log_pvalues(t: Float[np.ndarray, "pairs"], df: Int[np.ndarray, "pairs"]) -> Float[np.ndarray, "pairs"]:
    """log P(|T| > |t|) for df degrees of freedom, in pieces of one length."""
    count = len(t)
    padding = (0, -count % P_VALUES)
    t, df = np.pad(t, padding), np.pad(np.maximum(df, 1).astype(float), padding, constant_values=1)
    pieces = range(0, len(t), P_VALUES)
    parts = [np.asarray(student.log_p(t[i : i + P_VALUES], df[i : i + P_VALUES])) for i in pieces]
    return np.concatenate([np.zeros(0), *parts])[:count]
