"""Tables and grids from files, and results into files that are whole or not there (extra `cli`)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import xarray as xr

from jaxreg import datasets

EXAMPLES = {"example:pacific-sst": (datasets.pacific_sst, "sst", "year")}


class UserError(Exception):
    """What a user can do something about, in one sentence."""


def read(file: str, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    """x (n,) and y (n, …) with their coordinates and units, from an example, netCDF, .npz or CSV.

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
    if path.suffix.lower() == ".csv":
        return _from_csv(path, y, x)
    if y is None or x is None:
        raise UserError(f"name the variables of {file}: --y VAR --x DIM")
    if path.suffix.lower() == ".npz":
        return _from_npz(path, y, x)
    try:
        dataset = xr.load_dataset(path, engine="netcdf4", decode_times=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not a netCDF, .npz or .csv file ({error})") from error
    return _from_dataset(dataset, y, x, file)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside the path and move into place, so that the file is whole or not there."""
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} into")
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(temporary))
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _from_dataset(dataset: xr.Dataset, y: str, x: str, file: str) -> tuple[xr.DataArray, xr.DataArray]:
    for name in (y, x):
        if name not in dataset.variables and name not in dataset.dims:
            known = ", ".join(map(str, dataset.variables))
            raise UserError(f"{file} has no variable {name}; it has {known}")
    response = dataset[y]
    if x not in response.dims:
        dims = ", ".join(map(str, response.dims))
        raise UserError(f"{y} has no dimension {x}; it has {dims}")
    response = response.transpose(x, ...)
    return _numbers(response[x], x), _numbers(response, y)


def _from_npz(path: Path, y: str, x: str) -> tuple[xr.DataArray, xr.DataArray]:
    try:
        arrays = dict(np.load(path, allow_pickle=False))
    except (OSError, ValueError, BadZipFile) as error:
        raise UserError(f"{path} is not an .npz file of numbers ({error})") from error
    for name in (y, x):
        if name not in arrays:
            raise UserError(f"{path} has no array {name}; it has {', '.join(arrays)}")
    if arrays[x].ndim != 1 or arrays[y].ndim == 0 or len(arrays[x]) != len(arrays[y]):
        raise UserError(f"{y} {arrays[y].shape} and {x} {arrays[x].shape} do not match: x is (n,), y (n, …)")
    dims = [x, *(f"dim_{i}" for i in range(1, arrays[y].ndim))]
    return (
        _numbers(xr.DataArray(arrays[x], dims=[x], name=x), x),
        _numbers(xr.DataArray(arrays[y], dims=dims, name=y), y),
    )


def _from_csv(path: Path, y: str | None, x: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    try:
        table = pd.read_csv(path, skipinitialspace=True, index_col=False, skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
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
