"""Results: what is added to the layout of `jaxreg.xarray.fit`, and the tables and files of it.

A result has params, bse, tvalue, pvalue, pvalue_adjusted, conf_low and conf_high along `param`, and nobs and
status, for each data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxreg.data import time_units
from jaxreg.data.output import UserError, check_output, write_whole
from jaxreg.faces.cli.formats import NAMES, format_of
from jaxreg.faces.cli.options import Model, Reading
from jaxreg.faces.xarray.discoveries import false_discovery
from jaxreg.faces.xarray.fits import merged
from jaxreg.inference.report import flags_of_status
from jaxreg.status import Status

COLUMNS = {  # of a table, named as by `jaxreg.frame.fit(tidy=True)`
    "params": "estimate",
    "bse": "std_error",
    "tvalue": "statistic",
    "pvalue": "p_value",
    "pvalue_adjusted": "p_adjusted",
    "conf_low": "conf_low",
    "conf_high": "conf_high",
    "rsquared": "rsquared",
    "nobs": "nobs",
    "status": "status",
}
SUFFIXES = (".nc", ".nc4", ".cdf", ".zarr", ".npz", ".npy", ".csv", ".parquet")


def described(
    fitted: xr.Dataset, y: xr.DataArray, x: list[tuple[xr.DataArray, str]], model: Model
) -> xr.Dataset:
    """With adjusted p-values, and with what a table or a picture says of x and y."""
    (first, origin), *others = x
    at_zero = ", ".join(f"{a.name} = 0" for a, _ in x)
    intercept_at = origin or fitted.attrs.get("zero_of_x", "") or at_zero
    fitted["params"].attrs |= {
        "y": str(y.name),
        "y_long_name": str(y.attrs.get("long_name", y.name)),
        "period": "" if others or first.ndim > 1 else period_of(first),
        "intercept_at": intercept_at,
    }
    return adjusted(fitted, model)


def adjusted(fitted: xr.Dataset, model: Model) -> xr.Dataset:
    """With p-values adjusted over all data sets, and the attributes of a file."""
    adjusted = false_discovery(fitted.pvalue, method=model.false_discovery)
    method = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}[model.false_discovery]
    long_name = f"p-values adjusted for the false discovery rate ({method})"
    fitted = fitted.assign(pvalue_adjusted=adjusted.assign_attrs(long_name=long_name))
    return fitted.assign_attrs(alpha=model.alpha, Conventions="CF-1.11")


def period_of(x: xr.DataArray) -> str:
    """The first and the last x as text: years, dates, or numbers with their units."""
    times = time_units.decoded(x)
    if getattr(x.dt if hasattr(x, "dt") else None, "calendar", None) or (times is not x):
        ends = [times.min().dt.strftime("%Y-%m-%d").item(), times.max().dt.strftime("%Y-%m-%d").item()]
        return " to ".join(map(str, ends))
    if x.dtype.kind not in "iuf":
        return ""
    first, last = (f"{float(limit):.10g}" for limit in (x.min(), x.max()))
    units = x.attrs.get("units")
    return (
        f"{first}–{last}"
        if x.name == "year"
        else f"{x.name}{f' ({units})' if units else ''} {first} to {last}"
    )


def table_of(fits: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """A row for each data set and param."""
    frames = []
    for name, fitted in fits.items():
        kept = fitted[[key for key in COLUMNS if key in fitted]]
        dims = [*(dim for dim in kept.params.dims if dim != "param"), "param"]
        frame: Any = kept.to_dataframe(dim_order=dims).reset_index()
        frame["status"] = [Status(int(code)).name for code in frame["status"]]
        frame = frame.rename(columns={"param": "term", **COLUMNS})
        if len(fits) > 1:
            frame.insert(0, "y", name)
        at = fitted.params.attrs.get("intercept_at", "")
        frame["intercept_at"] = np.where(frame["term"] == "intercept", at, "")
        extra = [c for c in frame if c not in (*COLUMNS.values(), "term", "y", "units", "intercept_at")]
        order = [*(["y"] if "y" in frame else []), *extra, "term", *COLUMNS.values(), "units", "intercept_at"]
        frames.append(frame[[c for c in order if c in frame]])
    return pd.concat(frames, ignore_index=True)


def check(path: Path, source: str) -> None:
    """Raise unless results can be written there."""
    check_output(path, SUFFIXES, source)


def write(path: Path, fits: Mapping[str, xr.Dataset]) -> None:
    """Write results in the format of the name of the file."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".parquet"):
        table = table_of(fits)
        write_table = table.to_csv if suffix == ".csv" else table.to_parquet
        write_whole(path, lambda temporary: write_table(temporary, index=False))
        return
    dataset = next(iter(fits.values())) if len(fits) == 1 else merged(fits)
    if suffix == ".npy":
        if len(fits) > 1:
            raise UserError(f"{path} holds one array, and there are {len(fits)} y: pass an .npz file")
        write_whole(path, lambda temporary: np.save(temporary, dataset.params.values))
    elif suffix == ".npz":
        arrays: dict[str, Any] = {str(name): _plain(a.values) for name, a in dataset.variables.items()}
        write_whole(path, lambda temporary: np.savez(temporary, allow_pickle=False, **arrays))
    elif suffix == ".zarr":
        own = _strings_of_any_length(dataset)  # which Zarr 3 has not specified yet
        write_whole(path, lambda temporary: own.to_zarr(temporary, zarr_format=2))
    else:
        write_whole(path, lambda temporary: dataset.to_netcdf(temporary, engine="netcdf4"))


def read(file: str) -> dict[str, xr.Dataset]:
    """Results of this program or of `jaxreg.xarray.fit`, by the name of y."""
    from jaxreg.faces.cli.files import open_file

    path = Path(file)
    if not file.startswith("example:") and format_of(path) in ("npz", "npy"):
        raise UserError(
            f"{file} is {NAMES[format_of(path)]}, which keeps no units: plot results from .nc, .zarr or .csv"
        )
    data = open_file(file, Reading()).data
    if isinstance(data, pd.DataFrame):
        return _from_table(data, file)
    names = [str(name).removesuffix("_params") for name in data if str(name).endswith("_params")]
    if "params" in data and "bse" in data:
        return {str(data.params.attrs.get("y", "y")): data.load()}
    if not names:
        raise UserError(f"{file} is not a result of jaxreg fit: it has no params")
    renamed = [
        data[[key for key in data if str(key).startswith(f"{name}_")]].rename(
            {
                key: str(key).removeprefix(f"{name}_")
                for key in (*data, *data.coords)
                if str(key).startswith(f"{name}_")
            }
        )
        for name in names
    ]
    return dict(zip(names, (a.load() for a in renamed), strict=True))


def _from_table(table: pd.DataFrame, file: str) -> dict[str, xr.Dataset]:
    if not {"term", "estimate", "p_value"} <= set(table.columns):
        raise UserError(f"{file} is not a result of jaxreg fit: it has no columns term, estimate and p_value")
    keys = [c for c in table.columns[: list(table.columns).index("term")] if c != "y"]
    by_y = table.groupby("y", sort=False) if "y" in table else [("y", table)]
    return {str(name): dataset_of_tidy(rows, keys) for name, rows in by_y}


def dataset_of_tidy(rows: Any, keys: list[str]) -> xr.Dataset:
    """The rows of one response, those of a data set together, in the layout of a result."""
    terms = list(dict.fromkeys(rows["term"]))
    p, count = len(terms), len(rows) // len(rows["term"].unique())
    dim = keys[0] if len(keys) == 1 else "group"
    names = {column: name for name, column in COLUMNS.items() if column in rows}
    codes = np.array([Status[name].value for name in rows["status"]], np.int8)

    def reshaped(column: str) -> np.ndarray:
        values = codes if column == "status" else rows[column].to_numpy()
        return (
            values.reshape(count, p).T if names[column] not in ("nobs", "status", "rsquared") else values[::p]
        )

    arrays = {name: reshaped(column) for column, name in names.items()}
    dataset = xr.Dataset({name: ((*(["param"] if a.ndim > 1 else []), dim), a) for name, a in arrays.items()})
    coords: dict[str, Any] = {"param": terms, **{key: (dim, rows[key].to_numpy()[::p]) for key in keys}}
    if "units" in rows:
        coords["units"] = ("param", list(rows["units"].fillna("")[:p]))
    dataset = dataset.assign_coords(coords)
    dataset["status"].attrs |= flags_of_status()
    return dataset if keys else dataset.isel({dim: 0})


def _plain(values: np.ndarray) -> np.ndarray:
    """Texts of a fixed length, which need no pickle; dates as datetime64."""
    if values.dtype.kind == "O":
        return np.array([str(value) for value in values.ravel()], "U").reshape(values.shape)
    return values


def _strings_of_any_length(dataset: xr.Dataset) -> xr.Dataset:
    """Zarr has no standard for texts of a fixed length."""
    texts = {name: a.astype(object) for name, a in dataset.coords.items() if a.dtype.kind == "U"}
    return dataset.assign_coords(texts)
