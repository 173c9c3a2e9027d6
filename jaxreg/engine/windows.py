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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxreg._typing import not_none
from jaxreg.ansatz import Ansatz, compiled_ansatz
from jaxreg.engine.estimate import Estimate, estimate_of
from jaxreg.engine.sums import Origin, Sums, SumScaling
from jaxreg.engine.tiles import THREADS, few_widths, pad_columns
from jaxreg.engine.turning_point import turning_point
from jaxreg.numerics.precision import float64
from jaxreg.status import Status

RUN = 256  # rows of a running sum, before these are summed in turn
ROUNDINGS = 4.0 * RUN  # of a term of a window of up to RUN³ rows, at most
ELEMENTS = 2**18  # of an array of rows at once, which stays in cache
SOLVED = 2**14  # windows whose normal equations are solved at once
MIN_SOLVED = 256


class Series(NamedTuple):
    """Rows in order, of which windows are taken, in float64.

    Attributes:
        z: the columns of x, and y, 0 where a row is missing, (k + 1, n).
        weights: 0 where a row is missing, 1 without weights, (n,).
        valid: whether a row is valid, (n,).
        log_weights: 0 where a row is missing, or None without weights, (n,).
    """

    z: np.ndarray
    weights: np.ndarray
    valid: np.ndarray
    log_weights: np.ndarray | None

    @classmethod
    def of(cls, x: list[np.ndarray], y: np.ndarray, weights: np.ndarray | None) -> Series:
        """From columns; NaN in x or y, and a weight of 0, are gaps."""
        z = np.stack([*x, y]).astype(np.float64)
        valid: np.ndarray = ~np.isnan(z).any(axis=0)  # pyright: ignore
        if weights is None:
            return cls(np.where(valid, z, 0), valid.astype(np.float64), valid, None)
        valid = valid & (weights != 0)
        w = np.where(valid, weights, 0)
        w = np.where((w < 0) | np.isnan(w), np.inf, w)  # an infinite sum makes the window invalid
        with np.errstate(divide="ignore"):
            return cls(np.where(valid, z, 0), w, valid, np.where(valid, np.log(w), 0))


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
    sums = np.zeros((2 + has_weights + size + size * (size + 1) // 2, m))
    center, scale = np.zeros((size, m)), np.ones((size, m))

    def add(cut: Cut) -> None:
        own_center, own_scale = _scaling_at(series, cut, shift_x=ansatz.has_intercept)
        center[:, cut.ids], scale[:, cut.ids] = own_center[:, cut.cut], own_scale[:, cut.cut]
        part = np.zeros((len(sums), len(cut.ids)))
        for rows, lengths in ((_rows_before(cut), cut.left), (_rows_after(cut), cut.right)):
            if rows.size:
                _add_running_sums(part, series, own_center, own_scale, cut, rows, lengths)
        sums[:, cut.ids] = part

    with ThreadPoolExecutor(THREADS, thread_name_prefix="jaxreg") as pool:  # a window has one cut
        list(pool.map(add, _cuts(starts, stops)))
    first = 2 + has_weights
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


def _rows_before(cut: Cut) -> np.ndarray:
    """Row numbers (cuts, rows) from the cut to the left."""
    return np.maximum(cut.at[:, None] - 1 - np.arange(cut.left.max()), 0)


def _rows_after(cut: Cut) -> np.ndarray:
    """Row numbers (cuts, rows) from the cut to the right, which may go beyond the last row."""
    return cut.at[:, None] + np.arange(cut.right.max())


def _scaling_at(series: Series, cut: Cut, *, shift_x: bool) -> tuple[np.ndarray, np.ndarray]:
    """Center and scale of z for every cut: the first valid row near it, and the range of all its rows."""
    n = series.z.shape[1]
    rows = np.concatenate([np.minimum(_rows_after(cut), n - 1), _rows_before(cut)], axis=1)
    extent = np.zeros((2, len(cut.at)), np.int64)  # of the windows of each cut; rows beyond are of others
    np.maximum.at(extent[0], cut.cut, cut.right)
    np.maximum.at(extent[1], cut.cut, cut.left)
    offsets = np.arange(cut.right.max()), np.arange(cut.left.max())
    is_own = [offset < own[:, None] for offset, own in zip(offsets, extent, strict=True)]
    is_finite = np.isfinite(series.z[:, rows]).all(axis=0)
    usable = series.valid[rows] & is_finite & np.concatenate(is_own, axis=1)
    nearest = rows[np.arange(len(rows)), usable.argmax(axis=1)]
    center = np.where(usable.any(axis=1), series.z[:, nearest], 0)
    if not shift_x:
        center[:-1] = 0
    reach = np.stack(
        [
            np.where(usable, np.abs(a[rows] - c[:, None]), 0).max(axis=1)
            for a, c in zip(series.z, center, strict=True)
        ]
    )
    exponent = np.clip(np.frexp(reach)[1], -1000, 1000)
    return center, np.where(reach > 0, np.ldexp(1.0, exponent), 1)


def _add_running_sums(
    part: np.ndarray,
    series: Series,
    center: np.ndarray,
    scale: np.ndarray,
    cut: Cut,
    rows: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Add to `part`, the sums of the windows, those over their first `lengths` of the rows of their cut."""
    rows = np.minimum(rows, series.z.shape[1] - 1)
    weights, valid = series.weights[rows], series.valid[rows]
    with np.errstate(over="ignore", invalid="ignore"):
        z = [
            np.where(valid, (a[rows] - c[:, None]) * (1 / s)[:, None], 0)
            for a, c, s in zip(series.z, center, scale, strict=True)
        ]
        weighted = z if series.log_weights is None else [weights * a for a in z]
        logs = [] if series.log_weights is None else [not_none(series.log_weights)[rows]]
        products = (weighted[i] * z[j] for i in range(len(z)) for j in range(i + 1))
        whole = bool((lengths > 0).all())
        position = cut.cut * rows.shape[1] + np.maximum(lengths - 1, 0)  # in the flattened rows
        for i, term in enumerate((valid.astype(np.float64), weights, *logs, *weighted, *products)):
            if i == 1 and not logs:
                continue  # the weight is the number of observations
            values = _running_sums(term).ravel().take(position)
            part[i] += values if whole else np.where(lengths > 0, values, 0)


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
