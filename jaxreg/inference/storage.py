"""Save, load and concatenate fits.

The file is an .npz archive of arrays with a JSON header. It is read without pickle, so that loading never
executes code from it.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.ansatz import Ansatz, Features, Line, Linear, Polynomial, compiled_ansatz
from jaxreg.curves.curve import Curve
from jaxreg.data.labels import Labels
from jaxreg.data.output import write_whole
from jaxreg.engine.estimate import Estimate
from jaxreg.inference.fitted import Fitted
from jaxreg.numerics.precision import in_own_precision

FORMAT, VERSION = "jaxreg.Fit", 1
OPTIONS = ("cov_type", "use_t", "constant", "link")  # of `Fitted`
ANSAETZE = {ansatz.__name__: ansatz for ansatz in (Line, Polynomial, Linear)}


def save(path: Path, fitted: Fitted, ansatz: Ansatz | Features | Curve, labels: Labels) -> None:
    """Write a fit as an .npz file."""
    if path.suffix != ".npz":
        raise ValueError(f"a fit is saved as an .npz file, got {path}; pass {path.with_suffix('.npz')}")
    is_built_in = ANSAETZE.get(type(ansatz).__name__) is type(ansatz)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "ansatz": {"name": type(ansatz).__name__, "options": _options(ansatz) if is_built_in else None},
        "names": ansatz.param_names(fitted.p - fitted.ansatz.has_intercept),
        **{name: getattr(fitted, name) for name in OPTIONS},
        "dims": labels.dims,
        "coords": {name: dims for name, (dims, _) in labels.coords.items()},
        "columns": labels.columns,
    }
    arrays = {
        f"estimate.{field.name}": np.asarray(value)
        for field in fields(Estimate)
        if (value := getattr(fitted.estimate, field.name)) is not None
    }
    arrays |= {f"coord.{name}": _storable(values) for name, (_, values) in labels.coords.items()}

    def write(temporary: Path) -> None:
        np.savez(temporary, header=np.array(json.dumps(header, default=_plain)), allow_pickle=False, **arrays)

    write_whole(path, write)


def load(
    path: Path, given_ansatz: Ansatz | Features | Curve | None
) -> tuple[Fitted, Ansatz | Features | Curve, Labels]:
    """Read a file written by `save`."""
    header, arrays = _read(path)
    try:
        estimate, labels = _estimate(arrays), _labels(header, arrays)
        stored = (header["ansatz"]["name"], header["ansatz"]["options"])
        names, options = header["names"], [header[name] for name in OPTIONS if name in header]
    except KeyError as error:
        raise ValueError(f"{path} is not a file written by Fit.save: {error} is missing") from error
    ansatz = _ansatz(path, stored, given_ansatz)
    compiled = compiled_ansatz(ansatz)
    _check_params(ansatz, names, len(estimate.params) - compiled.has_intercept)
    return Fitted(estimate, compiled, *options), ansatz, labels


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file, after a check of its format and version."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(str(arrays["header"]))
        file_format, version = header["format"], int(header["version"])
    except (ValueError, KeyError, TypeError, BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a file written by Fit.save") from error
    if file_format != FORMAT:
        raise ValueError(f"{path} is not a file written by Fit.save: its format is {file_format!r}")
    if version > VERSION:
        raise ValueError(
            f"{path} has version {version} of the format; this jaxreg reads up to {VERSION}: update jaxreg"
        )
    return header, arrays


def concatenate(fits: list[Fitted], axes: int, axis: int) -> Fitted:
    """Concatenate fits along one of their batch axes."""
    if not axes:
        raise ValueError(
            "concatenate takes fits of batches; these are fits of a single data set: stack them with "
            "jax.tree.map"
        )
    if not -axes <= axis < axes:
        raise ValueError(f"axis {axis} is not one of the {axes} axes of the data sets")
    fits = _with_origins(fits)
    structures = {jax.tree.structure(fitted) for fitted in fits}
    if len(structures) > 1:
        raise ValueError(
            "concatenate takes fits of one ansatz and covariance, all with weights or all without"
        )
    dtypes = {fitted.dtype for fitted in fits}
    if len(dtypes) > 1:
        raise ValueError(f"concatenate takes fits of one dtype, got {', '.join(sorted(map(str, dtypes)))}")

    axis_from_end = axis if axis < 0 else axis - axes  # batch axes come last in every array

    def concatenated(*leaves: Any) -> Any:
        xp: Any = np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp
        return xp.concatenate(leaves, axis=axis_from_end)

    return in_own_precision(partial(jax.tree.map, concatenated))(*fits)


def _with_origins(fits: list[Fitted]) -> list[Fitted]:
    """The fits with an origin of 0 where others have one that was subtracted from integers."""
    estimates = [fitted.estimate for fitted in fits]
    for name, like in (("x_origin", "x_center"), ("y_origin", "residual")):
        dtypes = [getattr(e, name).dtype for e in estimates if getattr(e, name) is not None]
        if dtypes:
            estimates = [
                replace(e, **{name: np.zeros(getattr(e, like).shape, dtypes[0])})
                if getattr(e, name) is None
                else e
                for e in estimates
            ]
    return [replace(fitted, estimate=e) for fitted, e in zip(fits, estimates, strict=True)]


def _options(ansatz: Any) -> dict[str, Any]:
    return asdict(ansatz) if is_dataclass(ansatz) and not isinstance(ansatz, type) else {}


def _estimate(arrays: dict[str, np.ndarray]) -> Estimate:
    values: dict[str, Any] = {
        field.name: arrays[f"estimate.{field.name}"]
        for field in fields(Estimate)
        if field.default is MISSING or f"estimate.{field.name}" in arrays
    }
    return Estimate(**values)


def _labels(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Labels:
    coords = {name: (tuple(dims), arrays[f"coord.{name}"]) for name, dims in header["coords"].items()}
    return Labels(_tuple(header["dims"]), coords, _tuple(header["columns"]))


def _ansatz(
    path: Path, stored: tuple[str, dict[str, Any] | None], given: Ansatz | Features | Curve | None
) -> Ansatz | Features | Curve:
    """The ansatz of the header, or the given one if its code is not part of jaxreg."""
    name, options = stored
    if options is None or name not in ANSAETZE:
        if given is None:
            raise ValueError(
                f"{path} does not contain the code of its ansatz: pass load(path, ansatz={name}(…)), the one "
                "that was fitted"
            )
        if isinstance(given, type):
            raise TypeError(f"ansatz is an object such as {given.__name__}(…), not the class")
        return given
    ansatz_type: Any = ANSAETZE[name]
    return ansatz_type(**{key: tuple(a) if isinstance(a, list) else a for key, a in options.items()})


def _check_params(ansatz: Ansatz | Features | Curve, names: list[str], x_columns: int) -> None:
    """Raise where the ansatz that was passed has other params than the fit."""
    expected = ansatz.param_names(x_columns)
    if list(expected) != names:
        raise ValueError(
            f"the file holds a fit with the params {', '.join(names)}; those of {ansatz} are "
            f"{', '.join(expected)}"
        )


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, for JSON."""
    return value.item()


def _storable(values: np.ndarray) -> np.ndarray:
    """Coordinates as an array that is stored without pickle: objects become strings."""
    values = np.asarray(values)
    return values.astype(str) if values.dtype == object else values


def _tuple(values: list | None) -> tuple | None:
    return None if values is None else tuple(values)
