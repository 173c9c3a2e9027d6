"""Fits of long tables, per group of their rows, by `jaxreg.frame`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxreg.data import time_units
from jaxreg.data.output import UserError
from jaxreg.faces.cli import tables
from jaxreg.faces.cli.options import Model, Names, Reading
from jaxreg.faces.cli.results import adjusted, dataset_of_tidy
from jaxreg.faces.frame.fits import fit
from jaxreg.faces.xarray.regressors import as_numbers


def fit_groups(
    table: pd.DataFrame, names: Names, model: Model, reading: Reading, file: str
) -> dict[str, xr.Dataset]:
    """The fit of each response, for each group, in the layout of `jaxreg.xarray.fit`."""
    columns = list(map(str, table.columns))
    extra = {"weights": names.weights, "cov-type cluster": model.clusters}
    named = {option: (name,) for option, name in extra.items() if name is not None}
    tables.check_names(columns, file, by=names.by, y=names.y, x=names.x, **named)
    if model.degree != 1:
        raise UserError('--degree is for fits without --by: pass --formula, such as "y ~ x + I(x**2)"')
    if model.solver is not None:
        raise UserError("--method is for fits without --by and --formula; omit it")
    table = tables.without_missing(table, reading)
    if names.formula is None:
        y, x = _columns(table, names, model, file)
    else:
        if names.y or names.x:
            raise UserError("--formula names y and x; omit --y and --x")
        y, x = (), tuple(name for name in columns if name not in names.by and name in names.formula)
    table, units, zero = _numeric(table, names, (*y, *x), x, model, reading, file)
    tidy = fit(
        table,
        y=list(y) or None,
        x=list(x) if names.formula is None else None,
        by=list(names.by) or None,
        formula=names.formula,
        weights=names.weights,
        groups=model.clusters,
        cost=model.cost,
        cov_type=model.cov_type,
        tidy=True,
        alpha=model.alpha,
    )
    responses = tidy.groupby("y", sort=False) if "y" in tidy else [(_response(y, names), tidy)]
    fits = {}
    for name, rows in responses:
        fitted = dataset_of_tidy(rows.drop(columns="y", errors="ignore"), list(names.by))
        fits[str(name)] = _labeled(adjusted(fitted, model), str(name), names, units, zero, model)
    return fits


def _columns(
    table: pd.DataFrame, names: Names, model: Model, file: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """y and x: those named, or the only other columns of numbers."""
    taken = {*names.by, *names.y, *names.x, names.weights, model.clusters}
    others = [str(c) for c in table.columns if c not in taken]
    if names.y and names.x:
        return names.y, names.x
    if len(others) == 1 and (names.y or names.x):
        return names.y or (others[0],), names.x or (others[0],)
    missing = " and ".join(f"--{n}" for n, given in (("y", names.y), ("x", names.x)) if not given)
    raise UserError(f"pass {missing}: the other columns of {file} are {', '.join(others)}")


def _numeric(
    table: pd.DataFrame,
    names: Names,
    used: tuple[str, ...],
    x: tuple[str, ...],
    model: Model,
    reading: Reading,
    file: str,
) -> tuple[pd.DataFrame, dict[str, str], str]:
    """The table with dates of x as numbers in a unit of time; the units of x, and the date of their zero."""
    unit = time_units.checked_unit(model.per or "year")
    values, units, zero = {}, {}, ""
    if names.weights is not None:
        values[names.weights] = tables.numbers(table, names.weights, file)
    for name in used:
        if name in names.by:
            raise UserError(f"{name} is in --by and in --{'x' if name in x else 'y'}: pass it in one")
        column: Any = table[name]
        if names.formula is not None and not _holds_dates(column, reading):
            continue  # formulas take text too
        if name not in x:
            values[name] = tables.numbers(table, name, file)
            continue
        array = xr.DataArray(tables.numbers_or_dates(table, name, reading, file), dims="row", name=name)
        number = as_numbers(array, unit, None if names.formula is not None else model.per)
        values[name], units[name], zero = number.values.values, number.units, zero or number.zero
    return table.assign(**values), units, zero


def _holds_dates(column: Any, reading: Reading) -> bool:
    if pd.api.types.is_datetime64_any_dtype(column):
        return True
    is_text = column.dtype == object or pd.api.types.is_string_dtype(column)
    return is_text and tables.dates_of(column, str(column.name), reading.date_format, "the table") is not None


def _response(y: tuple[str, ...], names: Names) -> str:
    return y[0] if y else str(names.formula).partition("~")[0].strip()


def _labeled(
    fitted: xr.Dataset, y: str, names: Names, units: dict[str, str], zero: str, model: Model
) -> xr.Dataset:
    """With the name of the model, units of time, and where the intercept is."""
    params = [str(name) for name in fitted.param.values]
    of_params = [f"per {units[name]}" if units.get(name) else "" for name in params]
    x = ", ".join(name for name in params if name != "intercept")
    at = zero or ", ".join(f"{name} = 0" for name in params if name != "intercept")
    fitted["params"].attrs |= {"y": y, "y_long_name": y, "intercept_at": at}
    covariance = "cluster" if model.clusters else getattr(model.cov_type, "name", model.cov_type)
    attributes = {"ansatz": names.formula or "Linear()", "x": x, "cov_type": covariance, "source": "jaxreg"}
    return fitted.assign_coords(units=("param", np.array(of_params))).assign_attrs(attributes)
