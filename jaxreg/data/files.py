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
    """Read x (n,) and y (n, *batch), with coordinates and units, from an example or a file.

    Args:
        file: an example of `EXAMPLES`, or the path of a file whose extension is in `FORMATS`; others are
            read as netCDF.
        y: the name of the variable to fit.
        x: the name of its dimension that is x.

    Raises:
        UserError: if the file cannot be read, or has no such variables.
    """
    if file in EXAMPLES:
        load, default_y, default_x = EXAMPLES[file]
        return _from_dataset(load(), y or default_y, x or default_x, file)
    path = Path(file)
    if file.startswith("example:"):
        raise UserError(f"there is no example {file}; the examples are {', '.join(EXAMPLES)}")
    if not path.is_file():
        raise UserError(f"there is no file {file}")
    return FORMATS.get(path.suffix.lower(), _from_netcdf)(path, y, x)


def _required_names(path: Path, y: str | None, x: str | None) -> tuple[str, str]:
    if y is None or x is None:
        raise UserError(f"name the variables of {path}: --y VAR --x DIM")
    return y, x


def _from_netcdf(path: Path, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    y, x = _required_names(path, y, x)
    try:
        dataset = xr.load_dataset(path, engine="netcdf4", decode_times=False)
        stored = xr.load_dataset(path, engine="netcdf4", decode_cf=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a netCDF, .npz or .csv file ({error})") from error
    x_data, y_data = _from_dataset(dataset, y, x, str(path))
    return _mask_invalid(x_data, stored), _mask_invalid(y_data, stored)


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
    return _checked_numeric(response[x], x), _checked_numeric(response, y)


def _mask_invalid(decoded: xr.DataArray, stored: xr.Dataset) -> xr.DataArray:
    """NaN where a value lies outside `valid_range`, `valid_min` or `valid_max`, which xarray ignores.

    These attributes are in packed units if they have the type of the packed values, and in unpacked units
    otherwise (NetCDF Users Guide, appendix A).
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

    def violates(limit: Any, compare: Callable) -> Any:
        if limit is None:
            return False
        is_unpacked = np.asarray(limit).dtype.kind == "f" and values.dtype.kind != "f"
        return compare(decoded.values if is_unpacked else values, limit)

    invalid = np.logical_or(violates(low, np.less), violates(high, np.greater))
    return decoded.where(~invalid) if invalid.any() else decoded


def _from_npz(path: Path, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    y, x = _required_names(path, y, x)
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in (y, x):
                if name not in file:
                    raise UserError(f"{path} has no array {name}; it has {', '.join(file)}")
                arrays[name] = _read_array(file, name, path)
    except (OSError, ValueError, BadZipFile) as error:
        raise UserError(f"{path} is not an .npz file of arrays ({error})") from error
    if arrays[x].ndim != 1 or arrays[y].ndim == 0 or len(arrays[x]) != len(arrays[y]):
        raise UserError(
            f"{x} has shape {arrays[x].shape} and {y} {arrays[y].shape}: x takes (n,) and y (n, …)"
        )
    dims = [x, *(f"dim_{i}" for i in range(1, arrays[y].ndim))]
    return (
        _checked_numeric(xr.DataArray(arrays[x], dims=[x], name=x), x),
        _checked_numeric(xr.DataArray(arrays[y], dims=dims, name=y), y),
    )


def _read_array(file: Any, name: str, path: Path) -> np.ndarray:
    """One array of a file; arrays of objects beside it are not read."""
    try:
        return file[name]
    except ValueError as error:
        raise UserError(f"{name} of {path} is not an array of numbers ({error})") from error


def _from_csv(path: Path, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    _check_row_lengths(path)
    try:
        table = pd.read_csv(path, skipinitialspace=True, index_col=False, skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path} is not a table of comma-separated values ({error})") from error
    if table.shape[1] < 2:
        raise UserError(f"{path} has one column; it needs x in the first and a data set in every other one")
    names = [str(name) for name in table.columns]
    if all(_is_number(name) for name in names):
        raise UserError(f"the first row of {path} holds numbers; it must hold the names of the columns")
    if x not in (None, names[0]) or y not in (None, *names[1:]):
        raise UserError(
            f"in {path} x is {names[0]}, and y is one of {', '.join(names[1:])}, or all if omitted"
        )
    for j, name in enumerate(table.columns):
        numbers = np.asarray(pd.to_numeric(table[name], errors="coerce"), np.float64)
        not_numeric = np.flatnonzero(np.isnan(numbers) & table[name].notna())
        if not_numeric.size:  # row 1 is the header
            value = table[name].iloc[not_numeric[0]]
            raise UserError(f"not a number in column {j + 1} row {not_numeric[0] + 2}: {value!r}")
        table[name] = numbers
    values = table.to_numpy(np.float64)
    columns = slice(1, None) if y is None else slice(names.index(y), names.index(y) + 1)
    return (
        xr.DataArray(values[:, 0], dims=[names[0]], name=names[0]),
        xr.DataArray(
            values[:, columns],
            dims=[names[0], "data_set"],
            coords={"data_set": names[columns]},
            name=y or "y",
        ),
    )


def _check_row_lengths(path: Path) -> None:
    """Raise if a row has more fields than the header; pandas would drop or shift them silently."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file, skipinitialspace=True)
        try:
            width = len(next(rows, []))
            for number, row in enumerate(rows, start=2):
                if any(field.strip() for field in row[width:]):
                    raise UserError(
                        f"row {number} of {path} has {len(row)} fields and the header {width}; a number with "
                        "a decimal comma counts as two fields unless it is quoted"
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a table of comma-separated values ({error})") from error


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _checked_numeric(array: xr.DataArray, name: str) -> xr.DataArray:
    if array.dtype.kind not in "iufb":
        raise UserError(f"{name} holds {array.dtype}, not numbers")
    return array


# The reader of each format, a function (path, y, x) that returns x and y with names and units.
FORMATS = {
    ".csv": _from_csv,
    ".npz": _from_npz,
    ".nc": _from_netcdf,
    ".nc4": _from_netcdf,
    ".cdf": _from_netcdf,
}
