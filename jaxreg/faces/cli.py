"""The command line (extra `cli`): `jaxreg fit FILE` fits every data set of a file; `jaxreg tour`."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

try:
    import matplotlib as mpl
    import typer
    import xarray as xr
    from matplotlib.backend_bases import FigureCanvasBase
    from rich.console import Console
    from rich.table import Table

    from jaxreg.data.files import NETCDF_SUFFIXES, read
    from jaxreg.data.output import UserError, check_output, write_whole
    from jaxreg.data.time_units import units_of, units_of_power
    from jaxreg.data.times import from_nearer_origin, zero_of
except ModuleNotFoundError as _error:
    sys.exit(f'jaxreg: the command needs {_error.name}: python -m pip install "jaxreg[cli]"')

from jaxreg.ansatz import Line, Polynomial
from jaxreg.cost import Cost, mean_squared_error
from jaxreg.costs.likelihoods import Gamma, Logistic, Poisson
from jaxreg.costs.robust import Bisquare, Huber, PseudoHuber
from jaxreg.faces.tour import Step, steps
from jaxreg.fitting import fit
from jaxreg.inference.result import Fit
from jaxreg.solvers.gradient_descent import GradientDescent
from jaxreg.status import counts

app: typer.Typer = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
YEARS = ("year", "years", "yr", "a")
PLURALS = ("seconds", "minutes", "hours", "days", "months")
DEGREES = {"degrees_north": "latitude (° N)", "degrees_east": "longitude (° E)"}


class Method(StrEnum):
    """Methods of minimization."""

    closed_form = "closed-form"
    gradient_descent = "gradient-descent"


class CostName(StrEnum):
    """Costs of the command line."""

    mean_squared_error = "mean-squared-error"
    huber = "huber"
    pseudo_huber = "pseudo-huber"
    bisquare = "bisquare"
    logistic = "logistic"
    poisson = "poisson"
    gamma = "gamma"


COSTS: dict[CostName, Cost] = {
    CostName.mean_squared_error: mean_squared_error,
    CostName.huber: Huber(),
    CostName.pseudo_huber: PseudoHuber(),
    CostName.bisquare: Bisquare(),
    CostName.logistic: Logistic(),
    CostName.poisson: Poisson(),
    CostName.gamma: Gamma(),
}


@app.callback()
def jaxreg() -> None:
    """Very many small regressions at once."""


@app.command("fit")
def fit_file(
    file: Annotated[str, typer.Argument(help="netCDF, .npz or .csv, or example:pacific-sst")],
    y: Annotated[str | None, typer.Option(help="name of the variable to fit")] = None,
    x: Annotated[str | None, typer.Option(help="name of its dimension that is x")] = None,
    degree: Annotated[int, typer.Option(min=0, help="degree of the polynomial, 1 for a line")] = 1,
    cost: Annotated[
        CostName, typer.Option(help="what is minimized: robust costs, or likelihoods of shares and counts")
    ] = CostName.mean_squared_error,
    method: Annotated[
        Method, typer.Option(help="method of minimizing the mean squared error")
    ] = Method.closed_form,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="netCDF file of the results")] = None,
    plot: Annotated[Path | None, typer.Option(help="file of a picture, such as trend.png")] = None,
) -> None:
    """Fit every data set of FILE. In a .csv file, column 1 is x and every other column is a data set."""
    if output is not None:
        check_output(output, NETCDF_SUFFIXES, file)
    if plot is not None:
        check_output(plot, _picture_suffixes(), file)
    x_data, y_data = read(file, y, x)
    if y_data.dtype.kind != "f":
        y_data = y_data.astype(np.float64)
    x_data = from_nearer_origin(x_data, y_data.dtype)
    result = _fit(x_data, y_data, degree, COSTS[cost], method)
    Console().print(_table(result, x_data, y_data))
    status_counts = counts(result.status)
    if not any(code.has_params for code in status_counts):
        summary = ", ".join(f"{number} {code.name}" for code, number in status_counts.items())
        raise UserError(f"nothing to fit in {file}: {summary}")
    if output is not None:
        dataset = to_dataset(result, x_data, y_data)
        write_whole(output, lambda path: dataset.to_netcdf(path, engine="netcdf4"))
    if plot is not None:
        write_whole(plot, lambda path: _draw(result, x_data, y_data, path))


@app.command("tour")
def tour_of_paper(
    plots: Annotated[Path | None, typer.Option(help="folder for a picture of each step")] = None,
) -> None:
    """Linear regression as classical mechanics, in seven steps on sea surface temperatures."""
    if plots is not None and plots.exists() and not plots.is_dir():
        raise UserError(f"--plots takes a folder, and {plots} is a file")
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    with console.status("compiling step 1") as progress:
        for number, step in enumerate(steps(), start=1):
            console.print(f"[bold]{number}. {step.title}[/bold]")
            for line in step.lines:
                console.print(f"   {line}", soft_wrap=True, markup=False)
            if plots is not None:
                progress.update(f"drawing {step.name}.png")
                write_whole(plots / f"{step.name}.png", partial(_draw_step, step))
            progress.update(f"compiling step {number + 1}")


def _picture_suffixes() -> list[str]:
    return [f".{name}" for name in sorted(FigureCanvasBase.get_supported_filetypes())]


def _draw_step(step: Step, path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    step.draw()
    plt.savefig(path, dpi=120, format="png")
    plt.close("all")


def main() -> None:
    """The entry point; errors that a user can correct are one sentence on stderr, with exit code 2."""
    try:
        app()
    except (UserError, OSError, ValueError, TypeError) as error:
        print(f"jaxreg: {error}", file=sys.stderr)
        sys.exit(2)


def to_dataset(result: Fit, x: xr.DataArray, y: xr.DataArray) -> xr.Dataset:
    """The fit as a dataset with the coordinates and units of the data."""
    zero, dims = zero_of(x), y.dims[1:]
    coords = {name: y.coords[name] for name in dims if name in y.coords}
    dataset = result.to_xarray(tuple(map(str, dims)), coords)
    for k, name in enumerate(result.names):
        units = _units(x, y, 0 if name == "intercept" else 1 if name == "slope" else k)
        dataset[name].attrs["units"] = dataset[f"{name}_bse"].attrs["units"] = units
        if zero is not None:
            dataset[name].attrs["long_name"] = f"{name}, {x.name} from {zero}"
    return dataset.assign_attrs(
        title=f"{result.ansatz} fitted to {y.name} against {x.name}",
        source="jaxreg",
        Conventions="CF-1.11",
        **({} if zero is None else {"zero_of_x": zero}),
    )


def _fit(x: xr.DataArray, y: xr.DataArray, degree: int, cost: Cost, method: Method) -> Fit:
    ansatz = Line() if degree == 1 else Polynomial(degree)
    solver = GradientDescent() if method is Method.gradient_descent else None
    return fit(x.values, y.values, ansatz=ansatz, cost=cost, solver=solver, progress=sys.stderr.isatty())


def _table(result: Fit, x: xr.DataArray, y: xr.DataArray) -> Table:
    """Counts of each status, and quantiles of the last param and of its standard error."""
    title = f"{result.ansatz}: {y.name} against {x.name}"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("data sets", str(max(1, int(np.prod(result.shape)))))
    for code, number in counts(result.status).items():
        table.add_row(code.name, str(number))
    if (zero := zero_of(x)) is not None:
        table.add_row(f"{result.names[0]} at", zero)
    name = result.names[-1]
    units = re.sub(r" (\S+)-1$", r"/\1", _units(x, y, len(result.names) - 1))
    for label, values in ((name, result.params), (f"standard error of {name}", result.bse)):
        finite = np.asarray(values)[-1]
        finite = finite[np.isfinite(finite)]
        for q in QUANTILES if finite.size else ():
            quantile = "median" if q == 0.5 else f"{q:.0%} quantile"
            value = f"{np.quantile(finite, q):.4g} {units}".rstrip()
            table.add_row(f"{label}, {quantile}", value)
    return table


def _draw(result: Fit, x: xr.DataArray, y: xr.DataArray, path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from jaxreg import plot

    if len(result.shape) == 2 and result.ansatz == Line():
        row, column = (y[dim] for dim in y.dims[1:])
        units, per = _units_of_slope(x, y)
        ax = plot.trend_map(
            result,
            row=row.values,
            column=column.values,
            row_label=_label(row),
            column_label=_label(column),
            label=f"{result.names[1]} of {y.name}" + (f" ({units})" if units else ""),
            per=per,
            title=f"{y.attrs.get('long_name', y.name)}, {_period(x)}",
        )
        if all(axis.attrs.get("units") in DEGREES for axis in (row, column)):
            ax.set_aspect("equal")
    else:
        names = [str(name) for name in y[y.dims[1]].values] if y.ndim == 2 else None
        plot.lines(
            result,
            x.values,
            y.values.reshape(len(x), -1),
            names=names or ([str(y.name)] if y.ndim == 1 else None),
            x_label=_label(x),
            y_label=_label(y),
        )
    plt.savefig(path, dpi=150, format=path.suffix[1:])
    plt.close()


def _units(x: xr.DataArray, y: xr.DataArray, power: int) -> str:
    """The units of the coefficient of a power of x; a calendar variable such as "year" is its own unit."""
    numerator = y.attrs.get("units", "")
    return units_of_power(numerator, units_of(x), power)


def _units_of_slope(x: xr.DataArray, y: xr.DataArray) -> tuple[str, int]:
    """The units of the slope in a picture, and the number of units of x it is per: a decade for years."""
    numerator, units = _units(x, y, 0), _units(x, y, 1)
    if units == numerator:
        return units, 1
    denominator = units.removeprefix(numerator).strip().removesuffix("-1")
    if denominator in YEARS:
        return f"{numerator}/decade", 10
    if denominator in PLURALS:
        denominator = denominator.removesuffix("s")
    return f"{numerator}/{denominator}", 1


def _period(x: xr.DataArray) -> str:
    """The first and the last x as text: years, dates, or numbers with their units."""
    limits = np.array([np.nanmin(x.values), np.nanmax(x.values)])
    try:
        time = {name: x.attrs[name] for name in ("units", "calendar") if name in x.attrs}
        first, last = (
            xr.decode_cf(xr.Dataset({"time": ("time", limits, time)})).time.dt.strftime("%Y-%m-%d").values
        )
        return f"{first} to {last}"
    except (AttributeError, TypeError, ValueError, OverflowError):  # the units are not those of a time
        first, last = (f"{limit:.10g}" for limit in limits)
        return f"{first}–{last}" if x.name == "year" else f"{_label(x)} {first} to {last}"


def _label(array: xr.DataArray) -> str:
    units = array.attrs.get("units", "")
    if units in DEGREES:
        return DEGREES[units]
    return f"{array.name} ({units})" if units else str(array.name)
