"""Times (datetime64, timedelta64, cftime) as numbers in a unit since 1970-01-01; units of params."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

ORIGIN = "1970-01-01 00:00:00"
CALENDAR_NAMES = ("year", "month", "day", "hour")  # of coordinates in the unit of their name
DAYS = {"week": 7.0, "day": 1.0, "hour": 1 / 24, "minute": 1 / 1440, "second": 1 / 86400}
YEARS = {"century": 100.0, "decade": 10.0, "year": 1.0, "month": 1 / 12}
ABBREVIATIONS = {
    **{"yr": "year", "a": "year", "centuries": "century", "d": "day", "h": "hour", "hr": "hour"},
    **{"min": "minute", "s": "second", "sec": "second"},
}
DAYS_PER_YEAR = {
    **dict.fromkeys(("standard", "gregorian", "proleptic_gregorian"), 365.2425),
    **{"julian": 365.25, "noleap": 365.0, "365_day": 365.0, "all_leap": 366.0, "366_day": 366.0},
    "360_day": 360.0,
}


def checked_unit(unit: str) -> str:
    """The name of a unit of time in the singular, of its name, plural or abbreviation."""
    name = unit_of_time(unit)
    if name is None:
        raise ValueError(f"a unit of time is one of {', '.join([*YEARS, *DAYS])}; got {unit!r}")
    return name


def unit_of_time(units: Any) -> str | None:
    """The unit of time that an attribute `units` or a name stands for, such as "days since …"; or None."""
    text = str(units).partition(" since ")[0].strip().lower()
    for name in (ABBREVIATIONS.get(text, text), text.removesuffix("s")):
        if name in YEARS or name in DAYS:
            return name
    return None


def days_in(unit: str, calendar: str | None) -> float:
    """The length of a unit in days; years, decades and months are those of a mean year of the calendar."""
    return DAYS[unit] if unit in DAYS else YEARS[unit] * days_per_year(calendar)


def days_per_year(calendar: str | None) -> float:
    """The mean year of a calendar in days, 365.2425 for the Gregorian one."""
    return DAYS_PER_YEAR[calendar or "standard"]


def ratio(unit: str, other: str, calendar: str | None) -> float:
    """How many of the other unit are in a unit; exact between years and decades."""
    if unit in YEARS and other in YEARS:
        return YEARS[unit] / YEARS[other]
    return days_in(unit, calendar) / days_in(other, calendar)


def are_same(calendar: str, other: str) -> bool:
    """Whether two calendars are one; the Gregorian one has three names."""
    names = ("standard", "gregorian", "proleptic_gregorian")
    return calendar == other or (calendar in names and other in names)


def decoded(x: xr.DataArray) -> xr.DataArray:
    """Numbers with units such as "days since 2000-01-01" as times; others as they are."""
    if " since " not in str(x.attrs.get("units", "")) or x.dtype.kind not in "fiu":
        return x
    try:
        return xr.decode_cf(x.rename("decoded").reset_coords(drop=True).to_dataset()).decoded.rename(x.name)
    except (ValueError, OverflowError):  # the units are not those of a time
        return x


def is_time(x: xr.DataArray) -> bool:
    """Whether it holds datetime64, timedelta64 or cftime."""
    return hasattr(x, "dt")


def calendar_of(x: xr.DataArray) -> str | None:
    """The calendar of times; None of time differences."""
    return getattr(x.dt, "calendar", None)


def numbers_of(x: xr.DataArray, unit: str) -> xr.DataArray:
    """Times in a unit since 1970-01-01 in their calendar, or differences in the unit; NaN if missing."""
    calendar = calendar_of(x)
    convert = partial(_numbers, calendar, days_in(unit, calendar))
    return xr.apply_ufunc(convert, x, dask="parallelized", output_dtypes=[np.float64])


def _numbers(calendar: str | None, days: float, times: np.ndarray) -> np.ndarray:
    if times.dtype.kind == "M":
        times = times - np.datetime64(ORIGIN.partition(" ")[0])
    if times.dtype.kind == "m":
        return np.asarray(times / np.timedelta64(1, "D") / days)
    import cftime

    return np.asarray(cftime.date2num(times, f"days since {ORIGIN}", calendar), np.float64) / days


def units_of(x: xr.DataArray) -> str:
    """The units of numbers, without the zero of times; a calendar variable such as "year" is its own unit."""
    name = str(x.name)
    return str(x.attrs.get("units", name if name in CALENDAR_NAMES else "")).partition(" since ")[0]


def units_of_power(y_units: str, x_units: str, power: int) -> str:
    """Units of y / units of x to a power, such as "K year-1"; those of y without units of x."""
    if power == 0 or not y_units or x_units in ("", "1"):
        return y_units
    x_units = f"({x_units})" if " " in x_units or "/" in x_units else x_units
    return f"{x_units}-{power}" if y_units == "1" else f"{y_units} {x_units}-{power}"
