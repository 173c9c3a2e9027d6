"""Times of files: x from a nearer origin where a float would round it, and the date at which x is 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxreg.data.rounding import noticeable_rounding


def from_nearer_origin(x: xr.DataArray, dtype: np.dtype) -> xr.DataArray:
    """x, or x minus its first value if `dtype` would round x noticeably.

    The attribute `origin` is then the first value as text, and `units` of a time contain it.
    """
    if noticeable_rounding(x.values, dtype) is None:
        return x
    origin = x.values[np.isfinite(x.values)][0]
    difference = x.values - origin  # exact for integers; two's complement for unsigned ones
    if difference.dtype.kind == "u":
        difference = difference.astype(np.int64)
    shifted = x.copy(data=difference.astype(np.float64))
    units = str(x.attrs.get("units", ""))
    date = _date(origin, x.attrs)
    if date is None:
        return shifted.assign_attrs(origin=f"{origin} {units}".rstrip())
    return shifted.assign_attrs(units=f"{units.partition(' since ')[0]} since {date}", origin=date)


def zero_of(x: xr.DataArray) -> str | None:
    """The date or the stored value at which x is 0; None if x is neither a time nor shifted."""
    return x.attrs.get("origin") or _date(np.int64(0), x.attrs)


def _date(number: Any, attributes: dict) -> str | None:
    """The date of a number of time units since their origin, in the calendar of the file; None if no time."""
    if " since " not in str(attributes.get("units", "")):
        return None
    time = {name: attributes[name] for name in ("units", "calendar") if name in attributes}
    try:
        date = xr.decode_cf(xr.Dataset({"time": ((), number, time)})).time.values[()]
    except (ValueError, OverflowError):  # the units are not those of a time
        return None
    return (pd.Timestamp(date) if isinstance(date, np.datetime64) else date).isoformat(sep=" ")
