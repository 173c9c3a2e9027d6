"""The x of a fit along a dimension: coordinates and DataArrays as numbers with names and units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from jaxreg.data import time_units


@dataclass(frozen=True)
class Regressor:
    """A column of x.

    Attributes:
        values: numbers, along the dimension of the fit and maybe others.
        name: of the coordinate or DataArray.
        units: of the numbers; "" if unknown.
        zero: the date at which the numbers are 0, or "".
        calendar: of the times, or "".
    """

    values: xr.DataArray
    name: str
    units: str
    zero: str = ""
    calendar: str = ""


def regressors_of(
    y: xr.DataArray | xr.Dataset, dim: str, x: Any, time_unit: str, per: str | None
) -> tuple[list[Regressor], bool]:
    """The columns of x, and whether they were given as several."""
    unit = time_units.checked_unit(time_unit if per is None else per)
    if isinstance(x, Mapping):
        columns = [_regressor(y, dim, a, unit, per, str(name)) for name, a in x.items()]
    elif isinstance(x, list | tuple):
        columns = [_regressor(y, dim, a, unit, per) for a in x]
    else:
        return [_regressor(y, dim, dim if x is None else x, unit, per)], False
    names = [column.name for column in columns]
    if not names or len(set(names)) < len(names) or "intercept" in names:
        raise ValueError(f'several x need a name each, other than "intercept"; got {names}')
    return columns, True


def _regressor(
    y: xr.DataArray | xr.Dataset, dim: str, x: Any, unit: str, per: str | None, name: str | None = None
) -> Regressor:
    if isinstance(x, str):
        if x not in y.coords and x not in y.dims:
            raise ValueError(f"there is no coordinate {x!r}; there are {', '.join(map(str, y.coords))}")
        x = y[x]
    if not isinstance(x, xr.DataArray):
        raise TypeError(
            f"x is the name of a coordinate, a DataArray, or several of them; got {type(x).__name__}: pass "
            f'xr.DataArray(x, dims="{dim}")'
        )
    if dim not in x.dims:
        raise ValueError(f"x has dimensions {x.dims}, and the fit runs along {dim!r}")
    return as_numbers(x, unit, per, name)


def as_numbers(x: xr.DataArray, unit: str, per: str | None, name: str | None = None) -> Regressor:
    """Times in a unit since 1970, or numbers, which `per` converts if they are in a unit of time."""
    name, times = str(x.name if name is None else name), time_units.decoded(x)
    if time_units.is_time(times):
        calendar = time_units.calendar_of(times)
        zero = "" if calendar is None else time_units.ORIGIN
        numbers = x.copy(data=time_units.numbers_of(times, unit).data)  # with the coordinates of x
        return Regressor(numbers, name, unit, zero, calendar or "")
    if x.dtype.kind not in "fiub":
        raise TypeError(f"x holds {x.dtype}; pass numbers, datetime64, timedelta64 or cftime")
    units = time_units.units_of(x)
    if per is None:
        return Regressor(x, name, units)
    own_unit = time_units.unit_of_time(units)
    if own_unit is None:
        raise ValueError(f'per="{per}" needs an x in a unit of time; {name} has units "{units}"')
    return Regressor(x.astype(np.float64) * time_units.ratio(own_unit, unit, None), name, unit)
