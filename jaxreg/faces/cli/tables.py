"""Tables: columns of numbers and dates, and which of them are x and y."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxreg.data.output import UserError
from jaxreg.faces.cli.options import Names, Reading
from jaxreg.faces.cli.variables import Variable, Variables, missing_numbers

ROW = "row"
DATE_FORMATS = ("ISO8601", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")


def variables_of(table: pd.DataFrame, names: Names, reading: Reading, file: str) -> Variables:
    """x and y of a table whose rows are observations: the first column is x and all others y if omitted."""
    columns = list(map(str, table.columns))
    check_names(columns, file, y=names.y, x=names.x, weights=(names.weights,) if names.weights else ())
    x_names = names.x or next((name,) for name in columns if name not in (*names.y, names.weights))
    taken = {*x_names, names.weights}
    y_names = names.y or tuple(name for name in columns if name not in taken)
    if not y_names:
        raise UserError(f"{file} has no column beside {', '.join(x_names)} to fit")
    table = without_missing(table, reading)
    x = [_along_rows(numbers_or_dates(table, name, reading, file), name) for name in x_names]
    values = [numbers(table, name, file) for name in y_names]
    if len(y_names) == 1:
        y = _along_rows(values[0], y_names[0])
    else:
        y = xr.DataArray(np.stack(values, axis=1), {"data_set": list(y_names)}, (ROW, "data_set"), "y")
    weights = None if names.weights is None else _along_rows(numbers(table, names.weights, file), "weights")
    return Variables(
        [Variable(y)], [Variable(a) for a in x], ROW, None if weights is None else Variable(weights)
    )


def check_names(columns: list[str], file: str, **arguments: tuple[str, ...]) -> None:
    """Raise unless all names are columns."""
    for option, names in arguments.items():
        for name in names:
            if name not in columns:
                raise UserError(f"{file} has no column {name!r} for --{option}; it has {', '.join(columns)}")


def numbers(table: pd.DataFrame, name: str, file: str) -> np.ndarray:
    """A column of numbers, NaN where one is missing."""
    column: Any = table[name]
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan)
    if pd.api.types.is_datetime64_any_dtype(column):
        raise UserError(f"column {name!r} of {file} holds dates, which only x can be")
    converted: Any = pd.to_numeric(column, errors="coerce")
    values = converted.to_numpy(np.float64, na_value=np.nan)
    wrong = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
    if not wrong.size:
        return values
    if np.isnan(values).all():
        raise UserError(
            f"column {name!r} of {file} holds text, such as {column.iloc[wrong[0]]!r}: pass --by {name} if "
            "it names groups, or the columns to fit, --y COLUMN --x COLUMN"
        )
    number = list(map(str, table.columns)).index(name) + 1
    row, value = table.index[wrong[0]] + 2, column.iloc[wrong[0]]  # row 1 is the header
    raise UserError(
        f"not a number in column {number} ({name}) row {row} of {file}: {value!r}; "
        "--missing takes texts that stand for a gap"
    )


def numbers_or_dates(table: pd.DataFrame, name: str, reading: Reading, file: str) -> np.ndarray:
    """A column of numbers, or of dates as datetime64 in UTC."""
    column: Any = table[name]
    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
        return column.to_numpy()
    if column.dtype == object or pd.api.types.is_string_dtype(column):
        dates = dates_of(column, name, reading.date_format, file)
        if dates is not None:
            return dates
    return numbers(table, name, file)


def dates_of(column: Any, name: str, date_format: str | None, file: str) -> np.ndarray | None:
    """Texts or date objects as datetime64; None if they are neither."""
    formats = DATE_FORMATS if date_format is None else (date_format,)
    read = {known: dates for known in formats if (dates := _parsed(column, known)) is not None}
    both = [read[known] for known in ("%d/%m/%Y", "%m/%d/%Y") if known in read]
    if len(both) == 2 and not np.array_equal(*both, equal_nan=True):
        example = column.dropna().iloc[0]
        raise UserError(
            f"dates such as {example!r} in column {name!r} of {file} begin with the day or the month: pass "
            "--date-format %d/%m/%Y or %m/%d/%Y"
        )
    if date_format is not None and not read:
        example = column.dropna().iloc[0]
        raise UserError(f"--date-format {date_format} does not read {example!r} in column {name!r} of {file}")
    return next(iter(read.values()), None)


def _parsed(column: Any, date_format: str) -> np.ndarray | None:
    converted: Any = pd.to_numeric(column, errors="coerce")
    if not column.notna().any() or converted.notna().any():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dates: Any = pd.to_datetime(column, format=date_format, utc=True)
    except (ValueError, TypeError):
        return None
    return dates.dt.tz_localize(None).to_numpy()


def without_missing(table: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """The table with gaps in place of the values of --missing."""
    codes = missing_numbers(reading.missing)
    return table.replace([*reading.missing, *codes], np.nan) if reading.missing else table


def _along_rows(values: np.ndarray, name: str) -> xr.DataArray:
    return xr.DataArray(values, dims=[ROW], name=name)
