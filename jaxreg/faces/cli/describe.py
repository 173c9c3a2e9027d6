"""`jaxreg info`: what a file holds, and which fits it allows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pandas as pd
import xarray as xr
from rich.table import Table

from jaxreg.data import time_units
from jaxreg.data.output import UserError
from jaxreg.faces.cli import arrays, tables
from jaxreg.faces.cli.files import Opened
from jaxreg.faces.cli.options import Names, Reading
from jaxreg.faces.cli.results import period_of

MAX_ROWS = 40


def contents(opened: Opened, reading: Reading) -> Table:
    """A row for each variable or column."""
    table = Table(title=f"{opened.file}: {opened.kind}", title_justify="left")
    is_table = isinstance(opened.data, pd.DataFrame)
    for heading in (
        ("column", "holds", "missing", "values")
        if is_table
        else ("variable", "dimensions", "holds", "values")
    ):
        table.add_column(heading)
    rows = list(_columns(opened, reading) if is_table else _variables(opened.data))
    for row in rows[:MAX_ROWS]:
        table.add_row(*row)
    if len(rows) > MAX_ROWS:
        table.add_row(f"… {len(rows) - MAX_ROWS} more", *[""] * (len(table.columns) - 1))
    return table


def suggestions(opened: Opened, reading: Reading) -> list[str]:
    """Commands that fit what is in the file."""
    file = shlex.quote("-" if opened.file == "the standard input" else opened.file) + _options(reading)
    if isinstance(opened.data, pd.DataFrame):
        return _of_table(opened.data, reading, file)
    data = opened.data
    if "params" in data or any(str(name).endswith("_params") for name in data):
        return [f"jaxreg plot {file}"]
    found = [f"jaxreg info {file} --group {shlex.quote(group)}" for group in opened.groups]
    for y in arrays.responses(data):
        try:
            variables = arrays.variables_of(data, None, Names(y=(y,)), Reading(), opened.file)
        except UserError:
            found.append(f"jaxreg fit {file} --y {shlex.quote(y)} --x DIMENSION")
            continue
        x = str(variables.x[0].decoded.name)
        if not (x in data.data_vars and y == "x"):
            found.append(f"jaxreg fit {file} --y {shlex.quote(y)} --x {shlex.quote(x)}")
    return found[:8]


def _options(reading: Reading) -> str:
    """How the file is read, as options."""
    options = [("missing", value) for value in reading.missing]
    options += [
        (name, value) for name, value in vars(reading).items() if name != "missing" and value is not None
    ]
    return "".join(f" --{name.replace('_', '-')} {shlex.quote(value)}" for name, value in options)


def _variables(data: Any) -> Iterator[tuple[str, ...]]:
    for name, a in data.variables.items():
        array = data[name]
        sizes = ", ".join(f"{dim} {length}" for dim, length in array.sizes.items())
        units = array.attrs.get("units") or array.encoding.get("units") or ""
        if hasattr(array, "dt"):
            units = time_units.calendar_of(array) or "time differences"
        holds = (
            f"{array.dtype} {units}".strip().replace("object", "times,").replace("datetime64[ns]", "times,")
        )
        yield str(name), sizes, holds, _range(array) if a.ndim == 1 and array.size < 10**6 else ""


def _range(array: xr.DataArray) -> str:
    values = array.load()
    if values.dtype.kind in "iufM" or hasattr(values, "dt"):
        return period_of(values.drop_attrs().rename("")).strip() if values.size else ""
    return ", ".join(map(str, values.values[:3])) + (" …" if values.size > 3 else "")


def _columns(opened: Opened, reading: Reading) -> Iterator[tuple[str, ...]]:
    table = tables.without_missing(opened.table("by"), reading)
    for name in table.columns:
        column: Any = table[name]
        kind, missing = _kind(table, str(name), reading), int(column.isna().sum())
        if kind == "numbers":
            values = tables.numbers(table, str(name), opened.file)
            shown = f"{pd.Series(values).min():.6g} to {pd.Series(values).max():.6g}"
        elif kind == "dates":
            dates = pd.Series(tables.numbers_or_dates(table, str(name), reading, opened.file))
            shown = f"{dates.min():%Y-%m-%d} to {dates.max():%Y-%m-%d}"
        else:
            shown = (
                f"{column.nunique()} different, such as {column.dropna().iloc[0]!r}"
                if missing < len(column)
                else ""
            )
        yield str(name), kind, str(missing), shown


def _kind(table: pd.DataFrame, name: str, reading: Reading) -> str:
    try:
        values = tables.numbers_or_dates(table, name, reading, "the table")
    except UserError:
        return "text"
    return "dates" if values.dtype.kind == "M" else "numbers"


def _of_table(table: pd.DataFrame, reading: Reading, file: str) -> list[str]:
    kinds = {str(name): _kind(table, str(name), reading) for name in table.columns}
    if {"term", "estimate", "p_value"} <= set(kinds):
        return [f"jaxreg plot {file}"]
    different: Any = table.nunique()
    groups = [n for n, kind in kinds.items() if kind == "text" and 1 < different[n] <= len(table) // 2]
    dates = [n for n, kind in kinds.items() if kind == "dates"]
    numbers = [n for n, kind in kinds.items() if kind == "numbers"]
    calendar = [n for n in numbers if n.lower() in ("x", "time", *time_units.CALENDAR_NAMES)]
    x = next(iter([*dates, *calendar, *numbers]), None)
    y = [n for n in numbers if n != x]
    if x is None or not y:
        return []
    if groups:
        by = " ".join(f"--by {shlex.quote(name)}" for name in groups[:1])
        return [f"jaxreg fit {file} {by} --y {shlex.quote(name)} --x {shlex.quote(x)}" for name in y[:3]]
    texts = [n for n, kind in kinds.items() if kind == "text"]
    first = str(table.columns[0])
    short = [] if texts or x != first else [f"jaxreg fit {file}"]
    return [*short, *(f"jaxreg fit {file} --y {shlex.quote(name)} --x {shlex.quote(x)}" for name in y[:3])]
