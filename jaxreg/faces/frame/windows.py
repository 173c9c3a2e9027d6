"""`rolling` and `expanding`: a regression for every row of a data frame, on the rows up to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxreg.ansatz import Linear, compiled_ansatz
from jaxreg.data.source import constant_of
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.tiles import few_widths, pad_columns
from jaxreg.engine.windows import estimates_of_windows
from jaxreg.faces.frame.formulas import Model
from jaxreg.faces.frame.inputs import model_of_arguments, weights_of
from jaxreg.faces.frame.padding import pieces
from jaxreg.faces.frame.statistics import Columns, wide_columns
from jaxreg.faces.frame.table import Groups, Table, Times, check_apart, names_of
from jaxreg.fitting import fit as fit_arrays
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.result import Fit
from jaxreg.status import Status

NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
}
STATISTICS_AT_ONCE = (2**8, 2**16)  # windows, the least and the most
MAX_DURATION = 2**62  # nanoseconds; longer ones would overflow
MAX_ROWS_AGAIN = 2**26  # rows of all windows that are fitted a second time, the shortest first


def rolling(
    df: Any,
    y: str | None = None,
    x: str | Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    *,
    window: int | str,
    on: str | None = None,
    min_nobs: int | None = None,
    formula: str | None = None,
    intercept: bool = True,
    weights: str | None = None,
) -> Any:
    """Fit y = θ₀ + θ₁ x₁ + … + θ_k x_k to the window of rows that ends at each row of a data frame.

    Each window is summed by itself, from additions only: results do not drift, whatever the number of
    windows and the offset of the data. Windows where rounding would be noticeable are fitted again by
    `jaxreg.fit`, the shortest first, up to 6·10⁷ rows in all; `digits` says how accurate the others are.
    Params are tested with Student's t, where statsmodels' `RollingOLS` has the normal distribution unless
    `use_t=True`.

    Args:
        df: a data frame, as for `fit`.
        y: the column of the response.
        x: the column of x, or a list of columns.
        by: columns whose values make a group; windows hold rows of one group.
        window: a number of rows; or a duration such as "90d", for the rows with times in (t − window, t] for
            the time t of the row, also those after it with the same time. Units are w, d, h, min, s, ms, us
            and ns.
        on: the column of times, or other numbers, by which rows are sorted; needed for a duration. Without
            it, the rows of a group are in the order of the frame.
        min_nobs: number of valid observations from which a window is fitted. If omitted, the first windows of
            a group, with fewer than `window` rows, are not fitted, as in statsmodels' `RollingOLS`, and all
            others from as many observations as params on. With a duration, all windows from as many on.
        formula: in place of y and x, as for `fit`, with one response.
        intercept: whether to include θ₀.
        weights: the column of inverse variances.

    Returns:
        A frame of the same kind, with the rows of df in their order (and their index, in pandas), the columns
        `by` and `on`, and those of `Fit.to_pandas`, as for `fit`. Windows that are not fitted have NaN and a
        status that says why; nobs is the number of valid observations in all of them.

        Null and NaN in y, x or weights are gaps: such a row counts for the length of a window and not for
        its nobs.

    Raises:
        ValueError, TypeError: if a column does not exist or is not of numbers, or the window is not a number
            of rows or a duration.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"x": [0.0, 1, 2, 3, 4, 5], "y": [1.0, 3, 5, 6, 6, 6]})
    >>> print(rolling(df, y="y", x="x", window=4)[["x", "x_bse", "nobs", "status"]].round(3))
         x  x_bse  nobs                status
    0  NaN    NaN     1  too_few_observations
    1  NaN    NaN     2  too_few_observations
    2  NaN    NaN     3  too_few_observations
    3  1.7  0.173     4                    ok
    4  1.0  0.316     4                    ok
    5  0.3  0.173     4                    ok
    """
    duration = _duration(window)
    if duration is not None and on is None:
        raise ValueError(f"window={window!r} is a duration: name the column of times, on=")
    data = _Rows.of(df, y, x, by, formula, intercept, weights, on)
    begins = np.repeat(data.groups.starts[:-1], data.groups.counts)
    if duration is None:
        stops = np.arange(1, len(begins) + 1)
        starts = np.maximum(begins, stops - int(window))
        fitted = stops - begins >= (1 if min_nobs is not None else int(window))
    else:
        starts, stops = _windows_in_time(data.times, begins, duration)
        fitted = np.ones(len(begins), bool)
    return data.result(starts, stops, fitted, min_nobs)


def expanding(
    df: Any,
    y: str | None = None,
    x: str | Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    *,
    on: str | None = None,
    min_nobs: int | None = None,
    formula: str | None = None,
    intercept: bool = True,
    weights: str | None = None,
) -> Any:
    """Fit y = θ₀ + θ₁ x₁ + … + θ_k x_k to all rows up to each row of a data frame.

    The same as `rolling` with a window that begins at the first row of the group; see there for what is not
    said here.

    Args:
        df: a data frame, as for `fit`.
        y: the column of the response.
        x: the column of x, or a list of columns.
        by: columns whose values make a group.
        on: the column of times, by which rows are sorted.
        min_nobs: number of valid observations from which rows are fitted; that of the params if omitted.
        formula: in place of y and x, as for `fit`, with one response.
        intercept: whether to include θ₀.
        weights: the column of inverse variances.

    Returns:
        A frame as that of `rolling`.

    Raises:
        ValueError, TypeError: as `rolling`.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"x": [0.0, 1, 2, 3], "y": [1.0, 3, 5, 6]})
    >>> print(expanding(df, y="y", x="x", min_nobs=3)[["x", "nobs", "status"]].round(3))
         x  nobs                status
    0  NaN     1  too_few_observations
    1  NaN     2  too_few_observations
    2  2.0     3                    ok
    3  1.7     4                    ok
    """
    data = _Rows.of(df, y, x, by, formula, intercept, weights, on)
    begins = np.repeat(data.groups.starts[:-1], data.groups.counts)
    return data.result(begins, np.arange(1, len(begins) + 1), np.ones(len(begins), bool), min_nobs)


class _Rows:
    """The rows of a frame by group, and within it in their order or by time."""

    def __init__(self, table: Table, keys: list[str], groups: Groups, times: Times | None, model: Model):
        self.table, self.keys, self.groups, self.times, self.model = table, keys, groups, times, model
        self.columns: tuple[list[np.ndarray], np.ndarray, np.ndarray | None]
        self.dtype: np.dtype

    @classmethod
    def of(
        cls, df: Any, y: Any, x: Any, by: Any, formula: str | None, intercept: bool, weights: Any, on: Any
    ) -> _Rows:
        """From the arguments of `rolling`."""
        table, by_names = Table.of(df), names_of(by, "by")
        model, dtype = model_of_arguments(table, y, x, formula, intercept)
        if len(model.y) != 1:
            raise ValueError(f"windows have one response; got {', '.join(model.y_names)}")
        if not model.x:
            raise ValueError("windows need a column of x besides the intercept")
        on_names, weight_names = names_of(on, "on"), names_of(weights, "weights")
        check_apart(by=by_names, y=model.y_names, x=model.x_names)
        check_apart(by=by_names, weights=weight_names)
        weight = weights_of(table, weights)
        groups, times = table.groups(by_names, keep_null=True), None
        if on_names:
            unsorted = table.times(on)
            values = groups.sort(unsorted.values)
            group = np.repeat(np.arange(len(groups)), groups.counts)
            by_time = np.lexsort((values, group))
            groups = Groups(groups.rows(by_time), groups.starts)
            times = unsorted._replace(values=values[by_time])
        response = model.y[0]
        if table.frame.implementation.is_pandas_like() and by_names:
            response = np.where(table.missing(by_names), np.nan, response)
        keys = [*by_names, *(name for name in on_names if name not in by_names)]
        rows = cls(table, keys, groups, times, model)
        xs = [np.asarray(groups.sort(a), dtype) for a in model.x]
        w = None if weight is None else groups.sort(weight)
        rows.columns = xs, np.asarray(groups.sort(response), dtype), w
        rows.dtype = dtype
        return rows

    def result(self, starts: np.ndarray, stops: np.ndarray, fitted: np.ndarray, min_nobs: int | None) -> Any:
        """The frame of the results: windows [start, stop) of the sorted rows, of which some are fitted."""
        is_count = isinstance(min_nobs, int | np.integer) and not isinstance(min_nobs, bool) and min_nobs > 0
        if min_nobs is not None and not is_count:
            raise ValueError(f"min_nobs is a positive number of observations, got {min_nobs!r}")
        if not len(starts):
            raise ValueError("df has no rows")
        ansatz = Linear(intercept=self.model.intercept, names=tuple(self.model.x_names))
        estimate, accurate = estimates_of_windows(ansatz, self.columns, starts, stops, self.dtype)
        again = np.flatnonzero(~accurate & fitted)
        estimate = _fit_again(ansatz, self.columns, starts, stops, again, estimate)
        constant = None if self.model.intercept else constant_of(np.stack(self.model.x, axis=1))
        fitted_windows = Fitted(estimate, compiled_ansatz(ansatz), constant=constant)
        columns = Columns(len(starts))
        for first, last, width in few_widths(len(starts), *STATISTICS_AT_ONCE):
            pad = partial(pad_columns, first=first, last=last, width=width)
            part = Fit(jax.tree.map(pad, fitted_windows), ansatz)
            columns.set(self.groups.rows(slice(first, last)), wide_columns(part), last - first)
        table = columns.wide()
        is_fitted = np.empty_like(fitted)
        is_fitted[self.groups.rows(slice(None))] = fitted
        is_fitted &= table["nobs"] >= (1 if min_nobs is None else min_nobs)
        _without_params(table, ~is_fitted)
        return self.table.result(np.arange(len(starts)), self.keys, table, index=True)


def _without_params(columns: dict[str, Any], missing: np.ndarray) -> None:
    """Set rows to NaN and the status `too_few_observations`, if they have a valid observation."""
    rows = np.flatnonzero(missing & (columns["nobs"] > 0))
    for a in columns.values():
        if isinstance(a, np.ndarray) and a.dtype.kind == "f":
            a[rows] = np.nan
    columns["digits"][rows] = 0
    columns["status"].codes[rows] = Status.too_few_observations


def _fit_again(
    ansatz: Linear,
    columns: tuple[list[np.ndarray], np.ndarray, np.ndarray | None],
    starts: np.ndarray,
    stops: np.ndarray,
    ids: np.ndarray,
    estimate: Estimate,
) -> Estimate:
    """The estimate with these windows, the shortest first, from `fit`."""
    counts = (stops - starts)[ids]
    shortest = np.argsort(counts, kind="stable")
    ids = ids[shortest[np.cumsum(counts[shortest]) <= MAX_ROWS_AGAIN]]
    x, y, weights = columns
    for piece in pieces(starts[ids], (stops - starts)[ids]):
        w = None if weights is None else piece.array(weights)
        again = fit_arrays(piece.arrays(x), piece.array(y), weights=w, ansatz=ansatz)._fitted.estimate
        own, count = ids[piece.ids], len(piece.ids)

        def put(a: np.ndarray, b: Any, own: np.ndarray = own, count: int = count) -> None:
            a[..., own] = np.asarray(b)[..., :count]

        jax.tree.map(put, estimate, again)
    return estimate


def _duration(window: Any) -> int | None:
    """A duration in nanoseconds; None for a number of rows."""
    if isinstance(window, int | np.integer) and not isinstance(window, bool) and window > 0:
        return None
    match = re.fullmatch(r"(\d+) *([a-z]+)", window.strip().lower()) if isinstance(window, str) else None
    if match is None or match[2] not in NANOSECONDS or int(match[1]) == 0:
        raise ValueError(
            f'window is a positive number of rows or a duration such as "90d", with the units '
            f"{', '.join(NANOSECONDS)}; got {window!r}"
        )
    duration = int(match[1]) * NANOSECONDS[match[2]]
    if duration > MAX_DURATION:
        raise ValueError(f"window={window!r} is longer than {MAX_DURATION // NANOSECONDS['d']} days")
    return duration


def _windows_in_time(
    column: Times | None, begins: np.ndarray, duration: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first row with a time after t − duration, and one past the last row of time t, by bisection."""
    if column is None or column.unit is None:
        raise ValueError("a window of time needs dates or times in on=, and its column has other numbers")
    times, duration = column.values, -(-duration // column.unit)
    low, high = begins.copy(), np.arange(len(begins))  # the first such row is in low … high
    while (low < high).any():
        middle = (low + high) // 2
        inside = times[middle] > times - duration
        low, high = np.where(inside, low, middle + 1), np.where(inside, middle, high)
    is_last = np.append((np.diff(times) != 0) | (np.diff(begins) != 0), True)
    last = np.flatnonzero(is_last)
    return low, last[np.searchsorted(last, np.arange(len(begins)))] + 1
