"""Fits along a dimension, block by block of the data sets, by `jaxreg.xarray`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from jaxreg.data.output import UserError
from jaxreg.data.rounding import MAX_ROUNDING
from jaxreg.faces.cli.options import Model
from jaxreg.faces.cli.results import described
from jaxreg.faces.cli.variables import Variable, Variables
from jaxreg.faces.xarray.fits import fit

BLOCK_BYTES = 2**29  # of a block, in float64: of a file in chunks of time, each block reads all of it


def fit_along(
    variables: Variables, model: Model, block_size: int | None, progress: bool
) -> dict[str, xr.Dataset]:
    """The fit of each response, in the layout of `jaxreg.xarray.fit`, with what `described` adds."""
    if model.clusters is not None:
        raise UserError("--cov-type cluster:COLUMN is for tables with --by or --formula")
    x = [from_nearer_origin(variable) for variable in variables.x]
    names = [str(a.name) for a, _ in x]
    if len(set(names)) < len(names):
        raise UserError(f"--x names a variable twice: {', '.join(names)}")
    points = variables.y[0].decoded.sizes[variables.dim]
    options: dict[str, Any] = {
        "ansatz": model.ansatz(len(x), points),
        "cost": model.cost,
        "solver": model.solver,
        "cov_type": model.cov_type,
        "per": model.per,
        "alpha": model.alpha,
    }
    fits = {}
    for y in variables.y:
        parts = {"y": y, **{f"x{k}": Variable(a, None, variables.x[k].missing) for k, (a, _) in enumerate(x)}}
        if variables.weights is not None:
            parts["weights"] = variables.weights
        size = block_size or max(1, BLOCK_BYTES // (8 * points))
        total = y.decoded.size // points
        with tqdm(total=total, unit=" data sets", disable=not progress or total <= size) as bar:
            fitted = _fit_blocks(partial(_fit_block, variables.dim, options, bar), parts, variables.dim, size)
        fits[str(y.decoded.name)] = described(fitted, y.decoded, x, model)
    return fits


def _fit_blocks(fit_block: Any, parts: dict[str, Variable], dim: str, size: int) -> xr.Dataset:
    """Halves along the first dimensions of the data sets, until a part has `size` of them at most."""
    sizes = {name: length for name, length in parts["y"].decoded.sizes.items() if name != dim and length > 1}
    total = int(np.prod(list(sizes.values()), dtype=np.int64))
    if total <= size or not sizes:
        return fit_block(parts)
    name, length = next(iter(sizes.items()))
    step = max(1, size * length // total)
    cuts = [{name: slice(first, first + step)} for first in range(0, length, step)]
    fits = [
        _fit_blocks(fit_block, {key: part.cut(cut) for key, part in parts.items()}, dim, size) for cut in cuts
    ]
    return xr.concat(fits, name, data_vars="minimal", coords="minimal", compat="override", join="override")


def _fit_block(dim: str, options: dict[str, Any], bar: Any, parts: dict[str, Variable]) -> xr.Dataset:
    arrays = {name: part.load() for name, part in parts.items()}
    y, weights = arrays.pop("y"), arrays.pop("weights", None)
    x = list(arrays.values())
    fitted = fit(y, dim, x if len(x) > 1 else x[0], weights=weights, **options)
    bar.update(y.size // y.sizes[dim])
    return fitted


def from_nearer_origin(variable: Variable) -> tuple[xr.DataArray, str]:
    """x, and "" or the date from which it is counted, where a float would round times since 1970."""
    if variable.decoded.ndim > 1:
        return variable.decoded, ""
    x = variable.load()
    if x.dtype.kind != "M":
        return x, ""
    nanoseconds = x.values.astype("M8[ns]").astype(np.int64)
    nanoseconds = nanoseconds[~np.isnat(x.values)]
    if not nanoseconds.size or np.spacing(float(nanoseconds[0])) <= MAX_ROUNDING * np.ptp(nanoseconds):
        return x, ""
    first = x.values[~np.isnat(x.values)].min()
    return x.copy(data=x.values - first).drop_vars(str(x.name), errors="ignore"), _date(first)


def _date(time: np.datetime64) -> str:
    return str(time).replace("T", " ").rstrip("0").rstrip(".")
