"""The commands and their options; what they need is imported when they run, so that --help is quick."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

app: typer.Typer = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
FileArgument = Annotated[
    str,
    typer.Argument(
        help="netCDF, Zarr, .npz, .npy, CSV, Parquet, example:pacific-sst, or - for a table from a pipe"
    ),
]
Missing = Annotated[
    list[str] | None, typer.Option(help="a value that stands for a gap, such as -999.9; repeatable")
]
Delimiter = Annotated[str | None, typer.Option(help="between the fields of a CSV file; found if omitted")]
Decimal = Annotated[str | None, typer.Option(help="the decimal . or , of a CSV file; found if omitted")]
Encoding = Annotated[str | None, typer.Option(help="of a CSV file, such as latin-1; UTF-8 if omitted")]
DateFormat = Annotated[
    str | None, typer.Option(help="of dates in a CSV file, such as %d/%m/%Y; found if omitted")
]
Group = Annotated[str | None, typer.Option(help="the group of a netCDF file or Zarr store")]


def _show_version(asked: bool) -> bool:
    if asked:
        print(f"jaxreg {version_of('jaxreg')}")
        raise typer.Exit
    return asked


@app.callback()
def jaxreg(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit."),
    ] = False,
) -> None:
    """Very many small regressions at once.

    \b
    Examples:
      jaxreg info example:pacific-sst
      jaxreg fit example:pacific-sst -o trend.nc --plot trend.png
      jaxreg plot trend.nc -o map.png

    Exit codes: 0, done; 1, a fault of the program; 2, an error in the arguments or the file, which is one
    sentence on stderr; 130, interrupted by Ctrl-C.
    """


@app.command("fit")
def fit_command(
    file: FileArgument,
    y: Annotated[list[str] | None, typer.Option(help="variable or column to fit; repeatable")] = None,
    x: Annotated[
        list[str] | None, typer.Option(help="variable or column that is x, of numbers or dates; repeatable")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="column whose values make the groups of a long table; repeatable")
    ] = None,
    formula: Annotated[
        str | None, typer.Option(help='for tables, in place of --y and --x: "y ~ x + C(z)"')
    ] = None,
    weights: Annotated[str | None, typer.Option(help="variable or column of inverse variances")] = None,
    dim: Annotated[str | None, typer.Option(help="dimension of the observations, if x has several")] = None,
    degree: Annotated[int, typer.Option(min=0, help="degree of the polynomial, 1 for a line")] = 1,
    per: Annotated[str | None, typer.Option(help="unit of time of the slope, such as decade")] = None,
    cost: Annotated[
        str,
        typer.Option(
            help="mean-squared-error, huber, pseudo-huber, bisquare, quantile:0.9, logistic, poisson, "
            "negative-binomial:1, gamma or ridge:1"
        ),
    ] = "mean-squared-error",
    cov_type: Annotated[
        str, typer.Option(help="errors: nonrobust, HC0 to HC3, HAC:3 (lags), cluster:COLUMN with --by")
    ] = "nonrobust",
    method: Annotated[
        str | None,
        typer.Option(
            help="closed-form, gradient-descent, newton, reweighted or interior-point; by the cost if omitted"
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="1 − the confidence of intervals, and the rate of false discoveries")
    ] = 0.05,
    false_discovery: Annotated[
        str, typer.Option(help="adjustment of p-values: bh (Benjamini-Hochberg) or by (any dependence)")
    ] = "bh",
    missing: Missing = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    encoding: Encoding = None,
    date_format: DateFormat = None,
    group: Group = None,
    device: Annotated[str | None, typer.Option(help="cpu, gpu, tpu, or one of several such as gpu:1")] = None,
    block_size: Annotated[int | None, typer.Option(min=1, help="data sets in memory at once")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="results: .nc, .zarr, .csv, .parquet, .npz, .npy (params)"),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="a picture, such as trend.png")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON; without -o with all results")] = False,
) -> None:
    """Fit every data set of FILE.

    Arrays are fitted along the dimension of x; of a table, the rows of each group (--by), or every column
    against the first or --x. Dates become years. --y and --x may be omitted if there is only one of each.

    \b
    Examples:
      jaxreg fit example:pacific-sst -o trend.nc --plot trend.png
      jaxreg fit example:pacific-sst --per decade --cov-type HAC:3 --json
      jaxreg fit example:pacific-sst --degree 0 -o mean.csv
      jaxreg fit mean.csv --by lat --y estimate --x lon --plot gradients.png
    """
    from jaxreg.faces.cli import work
    from jaxreg.faces.cli.options import Names, Reading

    names = Names(tuple(y or ()), tuple(x or ()), weights, dim, tuple(by or ()), formula)
    reading = Reading(tuple(missing or ()), delimiter, decimal, encoding, date_format, group)
    model = work.model_of(degree, cost, cov_type, method, alpha, false_discovery, per)
    outputs = work.Outputs(output, plot, as_json, sys.stderr.isatty())
    work.fit_file(file, names, reading, model, outputs, device, block_size)


@app.command("info")
def info_command(
    file: FileArgument,
    missing: Missing = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    encoding: Encoding = None,
    date_format: DateFormat = None,
    group: Group = None,
) -> None:
    """Show what FILE holds, and how it could be fitted.

    \b
    Examples:
      jaxreg info example:pacific-sst
    """
    from jaxreg.faces.cli import work
    from jaxreg.faces.cli.options import Reading

    work.show(file, Reading(tuple(missing or ()), delimiter, decimal, encoding, date_format, group))


@app.command("plot")
def plot_command(
    result: Annotated[str, typer.Argument(help="results of jaxreg fit: .nc, .zarr, .csv or .parquet")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="the picture; that of RESULT with .png if omitted")
    ] = None,
    y: Annotated[str | None, typer.Option(help="which y, if there are several")] = None,
    param: Annotated[str | None, typer.Option(help="which param; the slope if omitted")] = None,
) -> None:
    """Draw results: a map of a grid, otherwise each param with its interval.

    \b
    Examples:
      jaxreg fit example:pacific-sst -o trend.nc
      jaxreg plot trend.nc -o map.png
    """
    from jaxreg.faces.cli import work

    work.plot_result(result, output, y, param)


@app.command("tour")
def tour_command(
    plots: Annotated[Path | None, typer.Option(help="folder for a picture of each step")] = None,
) -> None:
    """Linear regression as classical mechanics, in seven steps on sea surface temperatures."""
    from jaxreg.faces.cli.guide import tour

    tour(plots)
