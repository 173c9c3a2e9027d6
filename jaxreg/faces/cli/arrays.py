"""Arrays of netCDF files, Zarr stores, .npz and .npy files: which variables are x and y."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import xarray as xr

from jaxreg.data import datasets, time_units
from jaxreg.data.output import UserError
from jaxreg.faces.cli.formats import NAMES
from jaxreg.faces.cli.options import Names, Reading
from jaxreg.faces.cli.variables import Variable, Variables, missing_numbers

EXAMPLES = {"example:pacific-sst": datasets.pacific_sst}
ENGINES = {"netcdf": "netcdf4", "zarr": "zarr"}
VALID = ("valid_range", "valid_min", "valid_max")


def example(name: str) -> xr.Dataset:
    """A data set that comes with the package."""
    if name not in EXAMPLES:
        raise UserError(f"there is no example {name}; the examples are {', '.join(EXAMPLES)}")
    return EXAMPLES[name]()


def open_labeled(path: Path, kind: str, reading: Reading, **decoding: Any) -> xr.Dataset:
    """A netCDF file or Zarr store, read when values are needed."""
    options: dict[str, Any] = {"engine": ENGINES[kind], "group": reading.group, "decode_timedelta": False}
    if kind == "zarr":
        options["consolidated"] = False
    try:
        try:
            return xr.open_dataset(path, **options, **decoding)
        except ValueError:  # units such as "months since", which no calendar has
            return xr.open_dataset(path, **options, decode_times=False, **decoding)
    except (OSError, KeyError, ValueError) as error:
        if reading.group is not None:
            raise UserError(f"{path} has no --group {reading.group}") from error
        reason = str(error).replace(str(path.resolve()), str(path))
        raise UserError(f"{path} cannot be read as {NAMES[kind]} ({reason})") from error


def groups_of(path: Path, kind: str) -> list[str]:
    """The groups of a netCDF file or Zarr store, also those in groups."""
    if kind == "zarr":
        import zarr

        return _walk(zarr.open_group(path, mode="r"), lambda group: dict(group.groups()))
    import netCDF4

    with netCDF4.Dataset(path) as file:
        return _walk(file, lambda group: group.groups)


def _walk(group: Any, groups_in: Callable[[Any], Mapping[str, Any]], above: str = "") -> list[str]:
    found = []
    for name, inner in groups_in(group).items():
        found += [f"{above}{name}", *_walk(inner, groups_in, f"{above}{name}/")]
    return found


def open_unlabeled(path: Path, kind: str) -> xr.Dataset:
    """The arrays of numbers of an .npz or .npy file, without unpickling."""
    arrays: dict[str, np.ndarray] = {}
    try:
        if kind == "npy":
            arrays = {"y": np.load(path, mmap_mode="r", allow_pickle=False)}
        else:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                for name in file.files:
                    try:
                        arrays[name] = file[name]
                    except ValueError:  # objects, which would be unpickled
                        continue
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read as {NAMES[kind]} of arrays of numbers ({error})") from error
    arrays = {name: a for name, a in arrays.items() if a.dtype.kind in "iufbM" and a.ndim}
    if not arrays:
        raise UserError(f"{path} has no arrays of numbers")
    dims: dict[str, int] = {}
    return xr.Dataset({name: (_axes(name, a, dims), a) for name, a in arrays.items()})


def _axes(name: str, a: np.ndarray, dims: dict[str, int]) -> list[str]:
    """Arrays share an axis of one length; otherwise it has the name of the array."""

    def axis(k: int, length: int) -> str:
        shared = f"dim_{k}"
        return shared if dims.setdefault(shared, length) == length else f"{name}_dim_{k}"

    return [axis(k, length) for k, length in enumerate(a.shape)]


def variables_of(
    dataset: xr.Dataset, stored: xr.Dataset | None, names: Names, reading: Reading, file: str
) -> Variables:
    """x, y and weights by their names, or the only ones there are."""
    for name in (*names.y, *names.x, *((names.weights,) if names.weights else ())):
        if name not in dataset.variables and name not in dataset.dims:
            found = ", ".join(map(str, dataset.variables)) or "no variables"
            raise UserError(f"{file} has no variable {name}; it has {found}")
    y_names = names.y or (_only_response(dataset, names, file),)
    dim = _dimension(dataset, y_names, names, file)
    x_names = names.x or (_only_regressor(dataset, dim, y_names),)
    codes = missing_numbers(reading.missing)

    def variable(name: str) -> Variable:
        array = dataset[name]
        has_range = stored is not None and name in stored and any(a in stored[name].attrs for a in VALID)
        return Variable(array, stored[name] if has_range and stored is not None else None, codes)

    for name in y_names:
        if dataset[name].dtype.kind not in "iufb":
            raise UserError(f"{name} holds {dataset[name].dtype}, not numbers")
        if dim not in dataset[name].dims:
            raise UserError(
                f"{name} has no dimension {dim}; it has {', '.join(map(str, dataset[name].dims))}"
            )
    for name in x_names:
        if dim not in dataset[name].dims:
            raise UserError(f"x {name} has dimensions {dataset[name].dims}, and the fit runs along {dim}")
    weights = None if names.weights is None else variable(names.weights)
    return Variables([variable(y) for y in y_names], [variable(x) for x in x_names], dim, weights)


def responses(dataset: xr.Dataset) -> list[str]:
    """Variables that could be fitted: numbers along a dimension, that describe no other variable."""
    named = {
        word
        for variable in dataset.variables.values()
        for attribute in ("bounds", "ancillary_variables", "cell_measures", "grid_mapping", "coordinates")
        for word in str({**variable.encoding, **variable.attrs}.get(attribute, "")).split()
    }
    return [
        str(name)
        for name, a in dataset.data_vars.items()
        if a.ndim and a.dtype.kind in "iufb" and str(name) not in named
    ]


def _only_response(dataset: xr.Dataset, names: Names, file: str) -> str:
    taken = {*names.x, names.weights}
    found = [name for name in responses(dataset) if name not in taken]
    if len(found) > 1 and "y" in found:
        return "y"
    if len(found) > 1 and len(grids := [name for name in found if dataset[name].ndim > 1]) == 1:
        return grids[0]
    if len(found) != 1:
        listed = "; ".join(f"{name} ({', '.join(map(str, dataset[name].dims))})" for name in found)
        raise UserError(
            f"pass --y: {file} has the variables {listed}" if found else f"{file} has no variable to fit"
        )
    return found[0]


def _dimension(dataset: xr.Dataset, y_names: tuple[str, ...], names: Names, file: str) -> str:
    """That of x; or the only one, that of time, the only one with a coordinate, or the first of none."""
    dims = [str(dim) for dim in dataset[y_names[0]].dims]
    if not dims:
        raise UserError(f"{y_names[0]} is one number; it has no dimension to fit along")
    if names.dim is not None:
        if names.dim not in dims:
            raise UserError(f"{y_names[0]} has no dimension {names.dim}; it has {', '.join(dims)}")
        return names.dim
    for name in names.x:
        of_x = [str(dim) for dim in dataset[name].dims]
        if len(of_x) == 1:
            return of_x[0]
    if len(dims) == 1:
        return dims[0]
    times = [dim for dim in dims if _is_time(dataset, dim)]
    if len(times) == 1:
        return times[0]
    labeled = [dim for dim in dims if dim in dataset.coords]
    if len(labeled) < 2:
        return next(iter(labeled), dims[0])
    option = "--dim" if names.x else "--x"
    raise UserError(f"pass {option}: {y_names[0]} of {file} has the dimensions {', '.join(dims)}")


def _is_time(dataset: xr.Dataset, dim: str) -> bool:
    coordinate = dataset[dim]
    units = str(coordinate.attrs.get("units", dim))
    return time_units.is_time(coordinate) or time_units.unit_of_time(units) is not None


def _only_regressor(dataset: xr.Dataset, dim: str, y_names: tuple[str, ...]) -> str:
    """The coordinate of a dimension; of arrays without coordinates the one called x, or the only one."""
    along = [str(name) for name, a in dataset.data_vars.items() if a.dims == (dim,) and name not in y_names]
    if dim in dataset.coords or not along:
        return dim
    return "x" if "x" in along else along[0] if len(along) == 1 else dim
