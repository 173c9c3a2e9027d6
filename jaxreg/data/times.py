"""Times of files: x counted from a nearer origin where a float would round it, and the date of its zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxreg.data.rounding import rounded_away


def from_nearer_origin(x: xr.DataArray, dtype: np.dtype) -> xr.DataArray:
    """x as it is or, where `dtype` would round its spacing away, counted from its first value.

    `units` of a time then name the new origin, and the attribute `origin` says it in words.
    """
    if rounded_away(x.values, dtype) is None:
        return x
    origin = x.values[np.isfinite(x.values)][0]
    away = x.values - origin  # of whole numbers exact; of unsigned ones two's complement
    moved = x.copy(data=(away.astype(np.int64) if away.dtype.kind == "u" else away).astype(np.float64))
    units = str(x.attrs.get("units", ""))
    date = _date(origin, x.attrs)
    if date is None:
        return moved.assign_attrs(origin=f"{origin} {units}".rstrip())
    return moved.assign_attrs(units=f"{units.partition(' since ')[0]} since {date}", origin=date)


def zero_of(x: xr.DataArray) -> str | None:
    """Where the x of a file is 0, if that is not plain: a date, or the origin it was counted from."""
    return x.attrs.get("origin") or _date(np.int64(0), x.attrs)


def _date(number: Any, attributes: dict) -> str | None:
    """The date that so many units since their origin are, in the calendar of the file."""
    if " since " not in str(attributes.get("units", "")):
        return None
    time = {name: attributes[name] for name in ("units", "calendar") if name in attributes}
    try:
        date = xr.decode_cf(xr.Dataset({"time": ((), number, time)})).time.values[()]
    except (ValueError, OverflowError):  # of units that are no time
        return None
    return (pd.Timestamp(date) if isinstance(date, np.datetime64) else date).isoformat(sep=" ")
