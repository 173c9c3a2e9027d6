"""Sums over windows of rows, each exact by itself: additions only, so that nothing drifts or cancels.

A running sum from which old rows are subtracted keeps the rounding of all rows it has seen. Here the rows are
cut at a multiple of 2^l inside each window, the one with the largest l: a window is then the end of what is
left of the cut and the beginning of what is right of it, and both are running sums that begin at the cut.
Windows with the same cut share them, and their rows have one center, a row at the cut. Windows of at most w
rows need running sums of 2n numbers beyond l = log₂ w, and of at most n for each smaller l.

Source: M. van Herk, Pattern Recognit. Lett. 13 (1992) 517; J. Gil and M. Werman, IEEE Trans. Pattern Anal.
Mach. Intell. 15 (1993) 504, for extrema in windows of one length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxreg.ansatz import Ansatz, compiled_ansatz
from jaxreg.engine.estimate import Estimate, estimate_of
from jaxreg.engine.sums import Origin, Sums, SumScaling
from jaxreg.engine.tiles import few_widths, pad_columns
from jaxreg.engine.turning_point import turning_point
from jaxreg.numerics.precision import float64
from jaxreg.status import Status

RUN = 256  # rows of a running sum, before these are summed in turn
ROUNDINGS = 4.0 * RUN  # of a term of a window of up to RUN³ rows, at most
ELEMENTS = 2**18  # of an array of rows at once, which stays in cache
SOLVED = 2**15  # windows whose normal equations are solved at once
MIN_SOLVED = 256


class Series(NamedTuple):
    """Rows in order, of which windows are taken, in float64.

    Attributes:
        z: the columns of x, and y, 0 where a row is missing, (k + 1, n).
        weights: 0 where a row is missing, 1 without weights, (n,).
        valid: whether a row is valid, (n,).
        log_weights: 0 where a row is missing, or None without weights, (n,).
        usable: whether a row is valid and finite, (n,); None if all are.
    """

    z: np.ndarray
    weights: np.ndarray
    valid: np.ndarray
    log_weights: np.ndarray | None
    usable: np.ndarray | None

    @classmethod
    def of(cls, x: list[np.ndarray], y: np.ndarray, weights: np.ndarray | None) -> Series:
        """From columns; NaN in x or y, and a weight of 0, are gaps."""
        z = np.stack([*x, y]).astype(np.float64)
        valid: np.ndarray = ~np.isnan(z).any(axis=0)  # pyright: ignore
        if weights is None:
            if np.isfinite(z).all():
                return cls(z, valid.astype(np.float64), valid, None, None)
            usable: np.ndarray = np.isfinite(z).all(axis=0)  # pyright: ignore
            return cls(np.where(valid, z, 0), valid.astype(np.float64), valid, None, usable)
        valid = valid & (weights != 0)
        w = np.where(valid, weights, 0)
        w = np.where((w < 0) | np.isnan(w), np.inf, w)  # an infinite sum makes the window invalid
        with np.errstate(divide="ignore"):
            log_weights = np.where(valid, np.log(w), 0)
        return cls(np.where(valid, z, 0), w, valid, log_weights, valid & np.isfinite(z).all(axis=0))


class Cut(NamedTuple):
    """Windows cut at the same power of two.

    Attributes:
        ids: of the windows, (windows,).
        at: the rows at which they are cut, (cuts,).
        cut: which of these a window has, (windows,).
        left: rows of each window before its cut, (windows,).
        right: rows of each window after its cut, (windows,).
    """

    ids: np.ndarray
    at: np.ndarray
    cut: np.ndarray
    left: np.ndarray
    right: np.ndarray


def estimates_of_windows(
    ansatz: Ansatz,
    columns: tuple[list[np.ndarray], np.ndarray, np.ndarray | None],
    starts: np.ndarray,
    stops: np.ndarray,
    dtype: np.dtype,
) -> tuple[Estimate, np.ndarray]:
    """The least-squares estimate of every window, and whether rounding is too small to be noticed.

    Args:
        ansatz: `Linear`.
        columns: those of x, (n,) each, y, (n,), and weights, (n,) or None.
        starts: the first row of each window, (windows,), not decreasing.
        stops: one past its last row, not decreasing, and larger than the first.
        dtype: of the results.
    """
    ansatz = compiled_ansatz(ansatz)
    sums, scaling = _sums_of_windows(ansatz, Series.of(*columns), starts, stops)
    solved = []
    for first, last, width in few_widths(len(starts), MIN_SOLVED, SOLVED):
        selected = jax.tree.map(partial(pad_columns, first=first, last=last, width=width), (sums, scaling))
        with float64():
            result = _solve(ansatz, dtype, *selected)
            solved.append(jax.tree.map(lambda a, m=last - first: np.asarray(a)[..., :m], result))
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *solved)


@partial(jax.jit, static_argnums=(0, 1))
def _solve(ansatz: Ansatz, dtype: np.dtype, sums: Sums, scaling: SumScaling) -> tuple:
    point = turning_point(ansatz, sums, scaling, Origin(None, None), ROUNDINGS, dtype)
    return estimate_of(ansatz, point, sums, Status.ok, dtype)[0], point.accurate


def _sums_of_windows(
    ansatz: Ansatz, series: Series, starts: np.ndarray, stops: np.ndarray
) -> tuple[Sums, SumScaling]:
    """The sums of every window and the scaling of its z."""
    size, m = len(series.z), len(starts)
    has_weights = series.log_weights is not None
    first = 3 if has_weights else 1
    sums = np.zeros((first + size + size * (size + 1) // 2, m))
    center, scale = np.zeros((size, m)), np.ones((size, m))
    for cut in _cuts(starts, stops):
        rows = _Rows.of(series, cut)
        own_center, own_scale, z = _scaled(series, rows, shift_x=ansatz.has_intercept)
        of_windows = own_center.take(cut.cut, axis=1), own_scale.take(cut.cut, axis=1)
        own_sums = _sums_of_cut(series, cut, rows, z, len(sums))
        for target, values in zip((center, scale, sums), (*of_windows, own_sums), strict=True):
            for row, own in zip(target, values, strict=True):  # faster than all rows at once
                row[cut.ids] = own
    log_weight = sums[2] if has_weights else None
    z, products = sums[first : first + size], sums[first + size :]
    return (
        Sums(sums[0], sums[int(has_weights)], log_weight, list(z), list(products)),
        SumScaling(list(center[:-1]), list(scale[:-1]), center[-1], scale[-1]),
    )


def _cuts(starts: np.ndarray, stops: np.ndarray) -> Iterator[Cut]:
    """The windows by the power of two at whose multiple they are cut, as many at once as stay in cache."""
    last = stops - 1
    power = np.maximum(np.frexp((starts ^ last).astype(np.float64))[1] - 1, 0)
    for exponent in np.unique(power):
        ids = np.flatnonzero(power == exponent)
        at = (last[ids] >> exponent) << exponent
        left, right = at - starts[ids], stops[ids] - at
        begins = np.flatnonzero(np.append(True, np.diff(at) != 0))
        cuts = max(1, ELEMENTS // int(max(left.max(), right.max())))
        for first in range(0, len(begins), cuts):
            some = begins[first : first + cuts]
            stop = begins[first + cuts] if first + cuts < len(begins) else len(ids)
            part = slice(some[0], stop)
            cut = np.repeat(np.arange(len(some)), np.diff(np.append(some, stop)))
            yield Cut(ids[part], at[some], cut, left[part], right[part])


class _Rows(NamedTuple):
    """The rows of the windows of each cut: those from the cut to the right, then those to the left.

    Attributes:
        ids: row numbers, (cuts, rows).
        right: how many of them are right of the cut.
        usable: whether a row is valid, finite, and in a window of the cut, (cuts, rows); None if all are.
    """

    ids: np.ndarray
    right: int
    usable: np.ndarray | None

    @classmethod
    def of(cls, series: Series, cut: Cut) -> _Rows:
        """All rows within the longest window of any cut, and the first or last one beyond these."""
        begins = np.flatnonzero(np.append(True, np.diff(cut.cut) != 0))
        extents = [np.maximum.reduceat(lengths, begins)[:, None] for lengths in (cut.right, cut.left)]
        right, left = (np.arange(extent.max()) for extent in extents)
        after = np.minimum(cut.at[:, None] + right, series.z.shape[1] - 1)
        before = np.maximum(cut.at[:, None] - 1 - left, 0)
        ids = np.concatenate([after, before], axis=1)
        is_own = np.concatenate([right < extents[0], left < extents[1]], axis=1)
        if series.usable is None:
            return cls(ids, len(right), None if is_own.all() else is_own)
        return cls(ids, len(right), is_own & series.usable[ids])


def _scaled(series: Series, rows: _Rows, *, shift_x: bool) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Center and scale for every cut, (k + 1, cuts), and the scaled z of its rows, 0 where it is missing.

    The center is the first valid row near the cut, and the scale is the range of all rows of its windows.
    """
    z = [a[rows.ids] for a in series.z]
    usable = rows.usable
    if usable is None:
        center = series.z[:, rows.ids[:, 0]]
    else:
        nearest = rows.ids[np.arange(len(rows.ids)), usable.argmax(axis=1)]
        center = np.where(usable.any(axis=1), series.z[:, nearest], 0)
    if not shift_x:
        center[:-1] = 0
    scale = np.empty_like(center)
    with np.errstate(over="ignore", invalid="ignore"):
        for i, a in enumerate(z):
            a -= center[i, :, None]
            size = np.abs(a) if usable is None else np.where(usable, np.abs(a), 0)
            exponent = np.clip(np.frexp(size.max(axis=1))[1], -1000, 1000)
            scale[i] = np.where(size.any(axis=1), np.ldexp(1.0, exponent), 1)
            a *= (1 / scale[i])[:, None]
            if series.usable is not None:
                a[~series.valid[rows.ids]] = 0
    return center, scale, z


def _sums_of_cut(series: Series, cut: Cut, rows: _Rows, z: list[np.ndarray], number: int) -> np.ndarray:
    """The sums of the windows of some cuts, (number, windows)."""
    sums = np.zeros((number, len(cut.ids)))
    columns = slice(None, rows.right), slice(rows.right, None)
    for part, lengths in zip(columns, (cut.right, cut.left), strict=True):
        if not lengths.any():
            continue
        ids = rows.ids[:, part]
        position = cut.cut * ids.shape[1] + np.maximum(lengths - 1, 0)  # in the flattened rows
        is_empty = lengths == 0
        some_are_empty = is_empty.any()
        with np.errstate(over="ignore", invalid="ignore"):
            for i, term in enumerate(_terms(series, ids, [a[:, part] for a in z])):
                values = lengths if term is None else _running_sums(term).ravel().take(position)
                sums[i] += np.where(is_empty, 0, values) if some_are_empty else values
    return sums


def _terms(series: Series, ids: np.ndarray, z: list[np.ndarray]) -> Iterator[np.ndarray | None]:
    """What is summed: 1 of valid rows, weights and their logarithms if there are any, w z, and w z zᵀ.

    None stands for 1 in all rows.
    """
    yield None if series.usable is None else series.valid[ids].astype(np.float64)
    weighted = z
    if series.log_weights is not None:
        weights = series.weights[ids]
        yield weights
        yield series.log_weights[ids]
        weighted = [weights * a for a in z]
    yield from weighted
    yield from (weighted[i] * z[j] for i in range(len(z)) for j in range(i + 1))


def _running_sums(a: np.ndarray) -> np.ndarray:
    """Sums of the first 1, 2, … numbers of each row; of long rows, runs are summed first."""
    count, length = a.shape
    if length <= 2 * RUN:
        return np.cumsum(a, axis=1)
    runs = math.ceil(length / RUN)
    padded = np.zeros((count, runs * RUN))
    padded[:, :length] = a
    within = np.cumsum(padded.reshape(count, runs, RUN), axis=2)
    within[:, 1:] += _running_sums(within[:, :-1, -1])[..., None]
    return within.reshape(count, -1)[:, :length]
