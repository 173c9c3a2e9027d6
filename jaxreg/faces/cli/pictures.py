"""Pictures of results: a map of the slopes of a grid, curves in the data, or params with their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.backend_bases import FigureCanvasBase

from jaxreg.data import time_units
from jaxreg.data.labels import title_of
from jaxreg.data.output import UserError, check_output, write_whole
from jaxreg.faces.cli.along import from_nearer_origin
from jaxreg.faces.cli.variables import Variables
from jaxreg.faces.xarray.prediction import predict

YEARS = ("year", "years", "yr", "a")
PLURALS = ("seconds", "minutes", "hours", "days", "months")
DEGREES = {"degrees_north": "latitude (° N)", "degrees_east": "longitude (° E)"}
MOST_PANELS = 12


def suffixes() -> list[str]:
    """Of the formats of pictures."""
    return [f".{name}" for name in sorted(FigureCanvasBase.get_supported_filetypes())]


def check(path: Path, source: str) -> None:
    """Raise unless a picture can be written there."""
    check_output(path, suffixes(), source)


def draw(
    fitted: xr.Dataset, path: Path, variables: Variables | None = None, param: str | None = None
) -> None:
    """Draw the fits of one y; with its data, curves in them."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = [str(name) for name in fitted.param.values]
    if param is not None and param not in names:
        raise UserError(f"there is no --param {param}; there are {', '.join(names)}")
    dims = [dim for dim in fitted.params.dims if dim != "param"]
    if len(dims) == 2 and (param or names[-1]) in names[1:]:
        _map(fitted, param or names[1])
    elif (
        variables is not None and param is None and len(variables.x) == 1 and variables.x[0].decoded.ndim == 1
    ):
        _curves(fitted, variables)
    else:
        _estimates(fitted, param or names[-1])
    write_whole(path, lambda temporary: plt.savefig(temporary, dpi=150, format=path.suffix[1:].lower()))
    plt.close("all")


def _map(fitted: xr.Dataset, param: str) -> None:
    from jaxreg.faces.plot.maps import draw_slopes

    row, column = (fitted[dim] for dim in fitted.params.dims if dim != "param")
    one = fitted.sel(param=param)
    attributes = fitted.params.attrs
    units, per = _units_of_slope(fitted, param)
    title = ", ".join(text for text in (attributes.get("y_long_name"), attributes.get("period")) if text)
    rate = fitted.attrs.get("alpha", 0.05)
    ax = draw_slopes(
        per * one.params.values,
        _adjusted(one) < rate,
        hatched=f"not significant (false discovery rate {rate:g})",
        row=row.values,
        column=column.values,
        row_label=_label(row),
        column_label=_label(column),
        label=f"{param} of {attributes.get('y', 'y')}" + (f" ({units})" if units else ""),
        title=title or None,
    )
    if all(axis.attrs.get("units") in DEGREES for axis in (row, column)):
        ax.set_aspect("equal")


def _adjusted(one: xr.Dataset) -> np.ndarray:
    if "pvalue_adjusted" in one:
        return one.pvalue_adjusted.values
    from jaxreg.inference.multiple_testing import false_discovery

    return np.asarray(false_discovery(one.pvalue.values))


def _curves(fitted: xr.Dataset, variables: Variables) -> None:
    """The data and the curves of the first data sets."""
    from jaxreg.faces.plot.fits import draw_panels

    y = next(v for v in variables.y if str(v.decoded.name) == fitted.params.attrs["y"])
    loops = [dim for dim in y.decoded.dims if dim != variables.dim]
    first: Any = {dim: slice(0, MOST_PANELS) for dim in loops}
    count = int(np.prod([y.decoded.sizes[dim] for dim in loops], dtype=int))
    data = y.cut(first).load()
    x, _ = from_nearer_origin(variables.x[0])
    part = fitted.isel(first)
    dense = _between(x)
    curves = predict(part, dense)
    names = [str(data.name)] if not loops else _names_of(part.status) if len(loops) == 1 else None
    draw_panels(
        _plotted(x).values,
        data.transpose(variables.dim, ...).values.reshape(len(x), -1)[:, :MOST_PANELS],
        _plotted(dense).values,
        curves.transpose("dense", ...).values.reshape(len(dense), -1)[:, :MOST_PANELS],
        np.ravel(part.status.values)[:MOST_PANELS],
        total=count,
        names=names,
        x_label="year" if _is_date(x) else _label(x),
        y_label=_label(data),
    )


def _between(x: xr.DataArray) -> xr.DataArray:
    """200 points in the range of x, numbers or times."""
    valid = x.values[~x.isnull().values]
    first, last = valid.min(), valid.max()
    dense = np.array([first + (last - first) * fraction for fraction in np.linspace(0, 1, 200)])
    return xr.DataArray(dense, dims=["dense"], attrs=x.attrs, name=x.name)


def _plotted(x: xr.DataArray) -> xr.DataArray:
    """Times as years, and time differences as days."""
    if not time_units.is_time(x):
        return x
    return time_units.numbers_of(x, "year") + 1970 if _is_date(x) else time_units.numbers_of(x, "day")


def _is_date(x: xr.DataArray) -> bool:
    """Whether x holds times, not differences of times."""
    return time_units.is_time(x) and time_units.calendar_of(x) is not None


def _estimates(fitted: xr.Dataset, param: str) -> None:
    """A param of each data set with its interval, or a histogram if they are many."""
    from jaxreg.faces.plot.estimates import draw_estimates

    one = fitted.sel(param=param)
    units = str(one.units.item()) if "units" in fitted.coords else ""
    label = f"{param} of {fitted.params.attrs.get('y', 'y')}" + (f" ({units})" if units else "")
    low, high = (np.ravel(one[name].values) if name in one else None for name in ("conf_low", "conf_high"))
    draw_estimates(np.ravel(one.params.values), low, high, names=_names_of(one.params), label=label)


def _names_of(values: xr.DataArray) -> list[str]:
    """The values of the coordinates of each data set, or numbers from 0."""
    if values.ndim != 1:
        return [str(k) for k in range(values.size)]
    keys = [a.values for a in values.coords.values() if a.dims == values.dims] or [np.arange(values.size)]
    return [" ".join(map(str, key)) for key in zip(*keys, strict=True)]


def _units_of_slope(fitted: xr.Dataset, param: str) -> tuple[str, int]:
    """The units of a param in a picture, and the number of units of x it is per: a decade for years."""
    units = str(fitted.units.sel(param=param).item()) if "units" in fitted.coords else ""
    numerator, _, denominator = units.rpartition(" ")
    if not denominator.endswith("-1"):
        return units, 1
    denominator = denominator.removesuffix("-1")
    if denominator in YEARS:
        return f"{numerator}/decade", 10
    if denominator in PLURALS:
        denominator = denominator.removesuffix("s")
    return f"{numerator}/{denominator}", 1


def _label(array: xr.DataArray) -> str:
    return DEGREES.get(array.attrs.get("units", "")) or title_of(array, str(array.name))
