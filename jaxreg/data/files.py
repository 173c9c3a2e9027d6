"""Tables and grids from files, one reader per format (extra `cli`)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import xarray as xr

from jaxreg.data import datasets
from jaxreg.data.output import UserError

EXAMPLES = {"example:pacific-sst": (datasets.pacific_sst, "sst", "year")}
NETCDF_SUFFIXES = (".nc", ".nc4", ".cdf")


def read(file: str, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    """x (n,) and y (n, …) with their coordinates and units, from an example or a file of one of `FORMATS`.

    Raises:
        UserError: for everything that can be wrong with the file or the names in it.
    """
    if file in EXAMPLES:
        load, default_y, default_x = EXAMPLES[file]
        return _from_dataset(load(), y or default_y, x or default_x, file)
    path = Path(file)
    if file.startswith("example:"):
        raise UserError(f"there is no {file}; the examples are {', '.join(EXAMPLES)}")
    if not path.is_file():
        raise UserError(f"there is no file {file}")
    return FORMATS.get(path.suffix.lower(), _from_netcdf)(path, y, x)


def _names(path: Path, y: str | None, x: str | None) -> tuple[str, str]:
    if y is None or x is None:
        raise UserError(f"name the variables of {path}: --y VAR --x DIM")
    return y, x


def _from_netcdf(path: Path, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    y, x = _names(path, y, x)
    try:
        dataset = xr.load_dataset(path, engine="netcdf4", decode_times=False)
        stored = xr.load_dataset(path, engine="netcdf4", decode_cf=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a netCDF, .npz or .csv file ({error})") from error
    x_data, y_data = _from_dataset(dataset, y, x, str(path))
    return _in_valid_range(x_data, stored), _in_valid_range(y_data, stored)


def _from_dataset(dataset: xr.Dataset, y: str, x: str, file: str) -> tuple[xr.DataArray, xr.DataArray]:
    for name in (y, x):
        if name not in dataset.variables and name not in dataset.dims:
            variables = ", ".join(map(str, dataset.variables))
            raise UserError(f"{file} has no variable {name}; it has {variables}")
    response = dataset[y]
    if x not in response.dims:
        dims = ", ".join(map(str, response.dims))
        raise UserError(f"{y} has no dimension {x}; it has {dims}")
    response = response.transpose(x, ...)
    return _numbers(response[x], x), _numbers(response, y)


def _in_valid_range(decoded: xr.DataArray, stored: xr.Dataset) -> xr.DataArray:
    """NaN where the stored number lies outside of `valid_range`, `valid_min` or `valid_max`.

    xarray does not look at these. They are in the units of what is stored, or of what is decoded if they have
    its type (NetCDF Users Guide, appendix A).
    """
    if decoded.name not in stored:
        return decoded
    packed = stored[decoded.name].transpose(*decoded.dims)
    low, high = packed.attrs.get("valid_range", (None, None))
    low, high = packed.attrs.get("valid_min", low), packed.attrs.get("valid_max", high)
    values = packed.values
    if packed.attrs.get("_Unsigned") == "true":
        values = values.view(f"u{values.dtype.itemsize}")
        low, high = (
            a if a is None else np.asarray(a).view(f"u{np.asarray(a).itemsize}") for a in (low, high)
        )

    def beyond(limit: Any, compare: Callable) -> Any:
        if limit is None:
            return False
        in_decoded_units = np.asarray(limit).dtype.kind == "f" and values.dtype.kind != "f"
        return compare(decoded.values if in_decoded_units else values, limit)

    invalid = np.logical_or(beyond(low, np.less), beyond(high, np.greater))
    return decoded.where(~invalid) if invalid.any() else decoded


def _from_npz(path: Path, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    y, x = _names(path, y, x)
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in (y, x):
                if name not in file:
                    raise UserError(f"{path} has no array {name}; it has {', '.join(file)}")
                arrays[name] = _array_of(file, name, path)
    except (OSError, ValueError, BadZipFile) as error:
        raise UserError(f"{path} is not an .npz file of arrays ({error})") from error
    if arrays[x].ndim != 1 or arrays[y].ndim == 0 or len(arrays[x]) != len(arrays[y]):
        raise UserError(f"{y} {arrays[y].shape} and {x} {arrays[x].shape} do not match: x is (n,), y (n, …)")
    dims = [x, *(f"dim_{i}" for i in range(1, arrays[y].ndim))]
    return (
        _numbers(xr.DataArray(arrays[x], dims=[x], name=x), x),
        _numbers(xr.DataArray(arrays[y], dims=dims, name=y), y),
    )


def _array_of(file: Any, name: str, path: Path) -> np.ndarray:
    """One array of a file, of which others may hold objects, which are not read."""
    try:
        return file[name]
    except ValueError as error:
        raise UserError(f"{name} of {path} holds no numbers ({error})") from error


def _from_csv(path: Path, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    _check_row_lengths(path)
    try:
        table = pd.read_csv(path, skipinitialspace=True, index_col=False, skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path} is not a table of comma-separated values ({error})") from error
    if table.shape[1] < 2:
        raise UserError(f"{path} has one column; the first is x, every other one a data set")
    names = [str(name) for name in table.columns]
    if all(_is_number(name) for name in names):
        raise UserError(f"the first row of {path} holds numbers; it is for the names of the columns")
    if x not in (None, names[0]) or y not in (None, *names[1:]):
        raise UserError(f"in {path} x is {names[0]} and y one or all of {', '.join(names[1:])}")
    for j, name in enumerate(table.columns):
        numbers = np.asarray(pd.to_numeric(table[name], errors="coerce"), np.float64)
        wrong = np.flatnonzero(np.isnan(numbers) & table[name].notna())
        if wrong.size:  # row 1 is the header
            value = table[name].iloc[wrong[0]]
            raise UserError(f"not a number in column {j + 1} row {wrong[0] + 2}: {value!r}")
        table[name] = numbers
    values = table.to_numpy(np.float64)
    chosen = slice(1, None) if y is None else slice(names.index(y), names.index(y) + 1)
    return (
        xr.DataArray(values[:, 0], dims=[names[0]], name=names[0]),
        xr.DataArray(
            values[:, chosen],
            dims=[names[0], "data_set"],
            coords={"data_set": names[chosen]},
            name=y or "y",
        ),
    )


def _check_row_lengths(path: Path) -> None:
    """Raise on a row of more fields than the header has; pandas would drop the last ones or move all."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file, skipinitialspace=True)
        try:
            width = len(next(rows, []))
            for number, row in enumerate(rows, start=2):
                if any(field.strip() for field in row[width:]):
                    raise UserError(
                        f"row {number} of {path} has {len(row)} fields and the header {width}; a decimal "
                        "comma makes two fields of one number, unless it is quoted"
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a table of comma-separated values ({error})") from error


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _numbers(array: xr.DataArray, name: str) -> xr.DataArray:
    if array.dtype.kind not in "iufb":
        raise UserError(f"{name} holds {array.dtype}, not numbers")
    return array


# A format is one entry: the function (path, y, x) that reads x and y, with their names and units.
FORMATS = {
    ".csv": _from_csv,
    ".npz": _from_npz,
    ".nc": _from_netcdf,
    ".nc4": _from_netcdf,
    ".cdf": _from_netcdf,
}
