"""What the commands do: check → open → fit → print → write → draw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import platformdirs
import xarray as xr
from rich.console import Console

from jaxreg.data import time_units
from jaxreg.data.output import UserError
from jaxreg.faces.cli import describe, options, pictures, results, summary
from jaxreg.faces.cli.along import fit_along
from jaxreg.faces.cli.files import open_file
from jaxreg.faces.cli.grouped import fit_groups
from jaxreg.faces.cli.options import Model, Names, Reading
from jaxreg.faces.cli.variables import Variables
from jaxreg.status import Status, counts


@dataclass(frozen=True)
class Outputs:
    """Where results go.

    Attributes:
        results: the file, or None.
        picture: the file, or None.
        as_json: whether JSON is printed in place of tables.
        progress: whether a progress bar is shown.
    """

    results: Path | None
    picture: Path | None
    as_json: bool
    progress: bool

    def check(self, source: str) -> None:
        """Raise, before any work is done, unless they can be written."""
        if self.results is not None:
            results.check(self.results, source)
        if self.picture is not None:
            pictures.check(self.picture, source)


def model_of(
    degree: int,
    cost: str,
    cov_type: str,
    method: str | None,
    alpha: float,
    false_discovery: str,
    per: str | None,
) -> Model:
    """The model of the options, after a check of each."""
    if not 0 < alpha < 1:
        raise UserError(f"--alpha is between 0 and 1, such as 0.05; got {alpha:g}")
    if false_discovery not in ("bh", "by"):
        raise UserError(f"--false-discovery is bh or by; got {false_discovery}")
    covariance, clusters = options.covariance_of(cov_type)
    unit = None if per is None else time_units.checked_unit(per)
    return Model(
        degree,
        options.cost_of(cost),
        options.solver_of(method),
        covariance,
        clusters,
        alpha,
        false_discovery,
        unit,
    )


def fit_file(
    file: str,
    names: Names,
    reading: Reading,
    model: Model,
    outputs: Outputs,
    device: str | None,
    block_size: int | None,
) -> None:
    """`jaxreg fit`."""
    outputs.check(file)
    _keep_compiled_programs()
    opened = open_file(file, reading)
    variables = None
    with options.on_device(device):
        if names.by or names.formula:
            option = "by" if names.by else "formula"
            fits = fit_groups(opened.table(option), names, model, reading, opened.file)
        else:
            variables = opened.variables(names, reading)
            fits = fit_along(variables, model, block_size, outputs.progress)
        _print(fits, outputs)
        _check_fitted(fits, opened.file)
        if outputs.results is not None:
            results.write(outputs.results, fits)
        if outputs.picture is not None:
            _draw_each(fits, outputs.picture, variables)


def show(file: str, reading: Reading) -> None:
    """`jaxreg info`."""
    opened = open_file(file, reading)
    console = Console(highlight=False)
    console.print(describe.contents(opened, reading))
    commands = describe.suggestions(opened, reading)
    print("To fit or draw it:" if commands else "It has no two columns of numbers to fit.")
    for command in commands:
        print(f"  {command}")


def plot_result(file: str, output: Path | None, y: str | None, param: str | None) -> None:
    """`jaxreg plot`."""
    path = output or Path(Path(file).with_suffix(".png").name)
    pictures.check(path, file)
    fits = results.read(file)
    if y is None and len(fits) > 1:
        raise UserError(f"pass --y: {file} has results of {', '.join(fits)}")
    if y is not None and y not in fits:
        raise UserError(f"{file} has no results of {y}; it has those of {', '.join(fits)}")
    pictures.draw(fits[y or next(iter(fits))], path, param=param)
    print(path)


def _draw_each(fits: dict[str, xr.Dataset], path: Path, variables: Variables | None) -> None:
    """One picture, or one for each y with its name in the name of the file."""
    for name, fitted in fits.items():
        own = path if len(fits) == 1 else path.with_stem(f"{path.stem}_{name.replace('/', '_')}")
        pictures.draw(fitted, own, variables)


def _print(fits: dict[str, xr.Dataset], outputs: Outputs) -> None:
    if outputs.as_json:
        print(summary.as_json(fits, with_results=outputs.results is None))
        return
    console = Console()
    for fitted in fits.values():
        console.print(summary.table_to_print(fitted))


def _check_fitted(fits: dict[str, xr.Dataset], file: str) -> None:
    """Raise if not one data set has params."""
    status: Any = [counts(fitted.status.values) for fitted in fits.values()]
    if any(Status(code).has_params for each in status for code in each):
        return
    found = ", ".join(f"{number} {code.name}" for each in status for code, number in each.items())
    raise UserError(f"nothing to fit in {file}: {found}")


def _keep_compiled_programs() -> None:
    """Find programs compiled by earlier commands in the user's cache folder, or JAX_COMPILATION_CACHE_DIR."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("jaxreg", appauthor=False))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
