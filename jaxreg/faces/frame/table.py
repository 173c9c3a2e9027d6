"""The columns of a data frame as arrays, its rows by group, and the frame of the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

from jaxreg.faces.frame import keys

NANOSECONDS_OF = {"ns": 1, "us": 1000}


@dataclass(frozen=True)
class Groups:
    """The rows of a frame sorted by group.

    Attributes:
        order: row numbers, those of a group together and in the order of the frame, (rows,); None for all
            rows of the frame in their order.
        starts: where each group begins in `order`, and its length at the end, (groups + 1,).
    """

    order: np.ndarray | None
    starts: np.ndarray

    @classmethod
    def of_sorted(cls, begins: np.ndarray) -> Groups:
        """From whether a group begins at each row of a sorted frame, (rows,)."""
        return cls(None, np.append(np.flatnonzero(begins), len(begins)))

    def sort(self, values: np.ndarray) -> np.ndarray:
        """The values of the rows in their order here."""
        return values if self.order is None else values[self.order]

    def rows(self, positions: Any) -> Any:
        """Row numbers of the frame at positions of the order here."""
        return positions if self.order is None else self.order[positions]

    @property
    def counts(self) -> np.ndarray:
        """The number of rows of each group."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1


class Times(NamedTuple):
    """A column by which rows are sorted.

    Attributes:
        values: integers for times, (rows,).
        unit: of times in nanoseconds; None for other numbers.
    """

    values: np.ndarray
    unit: int | None


class Named(NamedTuple):
    """A column of few names: the frame library repeats them faster than NumPy converts strings.

    Attributes:
        codes: of each row, (rows,).
        names: of each code.
    """

    codes: np.ndarray
    names: Sequence[str]

    def series(self, name: str, backend: Any) -> nw.Series[Any]:
        """The names of the rows."""
        return nw.new_series(name, list(self.names), nw.String, backend=backend)[self.codes]


@dataclass(frozen=True)
class Table:
    """A data frame whose columns are read by name.

    Attributes:
        frame: of narwhals.
        index: of a frame of pandas, else None.
    """

    frame: nw.DataFrame[Any]
    index: Any

    @classmethod
    def of(cls, df: Any) -> Table:
        """From a data frame of pandas, polars, pyarrow, or another kind that narwhals reads."""
        if hasattr(df, "collect") and not hasattr(df, "to_native"):
            raise TypeError("the frame is lazy: pass df.collect()")
        try:
            frame = nw.from_native(df, eager_only=True)
        except TypeError:
            raise TypeError(
                f"df is a data frame of pandas, polars or pyarrow; got {type(df).__name__}"
            ) from None
        return cls(nw.maybe_reset_index(frame), nw.maybe_get_index(frame))

    def __len__(self) -> int:
        return len(self.frame)

    def check(self, names: Sequence[str], argument: str) -> None:
        """Raise unless all names are columns."""
        unknown = [name for name in names if name not in self.frame.columns]
        if unknown:
            raise ValueError(
                f"{argument} names {', '.join(map(repr, unknown))}, and the columns of the frame are "
                f"{', '.join(map(repr, self.frame.columns))}"
            )

    def numbers(self, names: Sequence[str], argument: str) -> list[np.ndarray]:
        """Columns as float64, NaN where a value is missing."""
        self.check(names, argument)
        return [self._floats(name, argument) for name in names]

    def _floats(self, name: str, argument: str) -> np.ndarray:
        series = self.frame[name]
        if not (series.dtype.is_numeric() or series.dtype == nw.Boolean):
            raise TypeError(
                f"{argument} needs numbers, and column {name!r} is {series.dtype}: convert it, or pass "
                "formula= with C(…) for categories"
            )
        return np.asarray(series.cast(nw.Float64).to_numpy(), np.float64)

    def dtype(self, names: Sequence[str]) -> np.dtype:
        """Of the results: float32 if all columns are, else float64."""
        return np.dtype(
            np.float32 if all(self.frame[name].dtype == nw.Float32 for name in names) else np.float64
        )

    def missing(self, names: Sequence[str]) -> np.ndarray:
        """Whether a value is null or NaN in any of the columns, (rows,)."""
        missing = np.zeros(len(self), bool)
        for name in names:
            series = self.frame[name]
            missing |= np.asarray(series.is_null().to_numpy(), bool)
            if series.dtype.is_float():
                missing |= np.isnan(self._floats(name, "x"))
        return missing

    def codes(self, name: str, argument: str) -> np.ndarray:
        """A code for the value of each row of a column; −1 where it is null."""
        self.check([name], argument)
        codes, missing = keys.ranks(self.frame[name])
        return np.where(missing, -1, codes)

    def groups(self, by: Sequence[str], *, keep_null: bool = False) -> Groups:
        """The rows by group, sorted by the values of the columns; one group without columns.

        Rows with a null key are groups of their own, after the others; a frame of pandas leaves them out, as
        its groupby does, unless `keep_null`.
        """
        self.check(by, "by")
        if not by:
            return Groups(None, np.array([0, len(self)]))
        if len(by) == 1 and keys.is_sorted(self.frame[by[0]]):
            return Groups.of_sorted(keys.begins(self.frame[by[0]]))
        codes, is_null = keys.ranks(self.frame[by[0]])
        for name in by[1:]:
            own, own_is_null = keys.ranks(self.frame[name])
            is_null = is_null | own_is_null
            codes = codes * (own.max(initial=0) + 1) + own
            if codes.max(initial=0) >= keys.largest_code(len(self)):
                codes = np.unique(codes, return_inverse=True)[1]
        leave_out = self.frame.implementation.is_pandas_like() and not keep_null
        rows = np.flatnonzero(~is_null) if leave_out and is_null.any() else None
        codes = codes if rows is None else codes[rows]
        if rows is None and (codes[1:] >= codes[:-1]).all():
            return Groups.of_sorted(keys.begins_of_codes(codes))
        order = keys.stable_order(codes)
        begins = np.flatnonzero(keys.begins_of_codes(codes[order]))
        return Groups(order if rows is None else rows[order], np.append(begins, len(order)))

    def times(self, name: str) -> Times:
        """A column of dates, times or other numbers."""
        self.check([name], "on")
        series = self.frame[name]
        is_time = isinstance(series.dtype, nw.Datetime | nw.Date)
        if not (is_time or series.dtype.is_numeric()):
            raise TypeError(f"on needs dates, times or numbers, and column {name!r} is {series.dtype}")
        missing = int(self.missing([name]).sum())
        if missing:
            raise ValueError(f"on has {missing} missing values in column {name!r}: leave these rows out")
        if not is_time:
            return Times(series.to_numpy(), None)
        unit = "ns" if isinstance(series.dtype, nw.Datetime) and series.dtype.time_unit == "ns" else "us"
        if isinstance(series.dtype, nw.Date) or series.dtype.time_zone is None:  # pyright: ignore
            series = series.cast(nw.Datetime(unit))
        else:
            series = series.dt.convert_time_zone("UTC").cast(nw.Datetime(unit, "UTC"))
        return Times(np.asarray(series.dt.timestamp(unit).to_numpy(), np.int64), NANOSECONDS_OF[unit])

    def result(
        self, rows: np.ndarray, by: Sequence[str], columns: Mapping[str, Any], *, index: bool = False
    ) -> Any:
        """A frame of the same kind: the columns `by` at these rows, and `columns`: arrays, or `Named`.

        With `index`, a frame of pandas keeps its index; the rows are then all of its rows.
        """
        taken = sorted(set(by) & set(columns))
        if taken:
            raise ValueError(
                f"{', '.join(map(repr, taken))} names two columns of the result: rename that in the data"
            )
        own = {name: self.frame[name][rows] for name in by}
        backend = self.frame.implementation
        named = {name: a.series(name, backend) for name, a in columns.items() if isinstance(a, Named)}
        series = {name: nw.maybe_reset_index(a) for name, a in {**own, **named}.items()}
        data = {**dict.fromkeys([*by, *columns]), **columns, **series}
        result = nw.from_dict(data).to_native()  # of the kind of the series
        return result.set_axis(self.index) if index and self.index is not None else result


def names_of(columns: str | Sequence[str] | None, argument: str) -> list[str]:
    """Names as a list."""
    single = isinstance(columns, str) or not isinstance(columns, Iterable | None)
    names: list[Any] = [columns] if single else list(columns or ())
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} is the name of a column, or a list of names; got {columns!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{argument} names a column twice: {', '.join(names)}")
    return names


def check_apart(**columns: Sequence[str]) -> None:
    """Raise if two of the arguments name the same column."""
    arguments = list(columns.items())
    for i, (argument, names) in enumerate(arguments):
        for other, others in arguments[i + 1 :]:
            both = sorted(set(names) & set(others))
            if both:
                raise ValueError(
                    f"{', '.join(map(repr, both))} is in {argument} and in {other}: pass it in one"
                )
