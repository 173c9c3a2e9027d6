"""Regressions of single columns of y on single columns of x, in float64 on the host."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from jaxreg._typing import Float, Int
from jaxreg.engine.residual_columns import bases_of, patterns_of, residuals_of
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
    """
    length = max(1, CHUNK // len(basis))
    starts = range(0, max(len(i), 1), length)
    return Pairs.concatenated([_chunk(x, y, basis, i[a : a + length], j[a : a + length]) for a in starts])


def _chunk(x: Block, y: Block, basis: np.ndarray, i: np.ndarray, j: np.ndarray) -> Pairs:
    """With residuals x̃ and ỹ: slope = x̃ᵀỹ / x̃ᵀx̃ and ssr = |ỹ − slope x̃|²."""
    x_values, y_values = _finite(x.values[:, i - x.first]), _finite(y.values[:, j - y.first])
    valid = ~(np.isnan(x_values) | np.isnan(y_values))
    masks, pattern = patterns_of(valid)
    bases, rank = bases_of(masks, basis)
    nobs = valid.sum(axis=0)
    df = nobs - rank[pattern] - 1
    u = residuals_of(x_values, valid, pattern, bases, x.rounding)
    v = residuals_of(y_values, valid, pattern, bases, y.rounding)
    usable = u.varies & v.varies & (df > 0)
    products = ((u.values, u.values), (u.values, v.values), (v.values, v.values))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        xx, xy, yy = (np.einsum("ij,ij->j", a, b) for a, b in products)
        slope = xy / xx
        ssr = np.square(v.values - slope * u.values).sum(axis=0)
        bse = np.sqrt(ssr / df / xx)
        t = np.where(usable, slope / bse, np.nan)
        r = np.where(usable, np.clip(xy / np.sqrt(xx * yy), -1, 1), np.nan)
        slope, bse = (np.where(usable, a * (v.scale / u.scale), np.nan) for a in (slope, bse))
    log_p = log_pvalues(t, df)
    return Pairs(i, j, slope, bse, t, np.exp(log_p), log_p / math.log(10), r, nobs, df)


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
