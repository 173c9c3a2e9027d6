"""`python -m bench`: run all cases or selected ones, print tables, write JSON."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from bench.cases import CASES
from bench.compilation import Compiled
from bench.devices import Launched
from bench.measure import Ratio, Row

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "statsmodels", "scikit-learn", "xarray", "torch", "lineax")
CPU_ONLY = ("memmap", "data_arrays", "stores", "groups", "ragged", "windows", "start", "compile", "devices")
CHOSEN = ("devices",)  # run if they are named: they need another extra


def main(
    case: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}; may be repeated.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the tables as JSON.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, gpu or tpu.")] = "cpu",
    scale: Annotated[float, typer.Option(help="Factor on the number of data sets.")] = 1.0,
) -> None:
    """Time jaxreg, other libraries, and one read of the same arrays."""
    unknown = set(case or ()) - set(CASES)
    if unknown:
        raise typer.BadParameter(
            f"unknown case {', '.join(sorted(unknown))}; the cases are {', '.join(CASES)}"
        )
    on_cpu = device == "cpu"
    selected = case or [name for name in CASES if name not in CHOSEN and (on_cpu or name not in CPU_ONLY)]
    console, rows = Console(width=140), []
    with jax.default_device(jax.devices(device)[0]):
        for name in selected:
            console.print(f"{name}: {CASES[name].__doc__}", style="dim")
            rows += CASES[name](scale, on_cpu)
    by_kind = {kind: [row for row in rows if isinstance(row, kind)] for kind in TABLES}
    for kind, rows_of_kind in by_kind.items():
        if rows_of_kind:
            console.print(TABLES[kind](rows_of_kind))
    console.print(_machine(device))
    if json_file is not None:
        tables = {NAMES[kind]: [row.as_dict() for row in of_kind] for kind, of_kind in by_kind.items()}
        json_file.write_text(json.dumps({"machine": _machine(device), **tables}))


def _times(rows: list[Row]) -> Table:
    table = Table("case", "method", box=MARKDOWN)
    for column in ("µs a fit", "× limit", "× jaxreg", "error", "compile s"):
        table.add_column(column, justify="right")
    previous = ""
    for row in rows:
        table.add_row(
            "" if row.case == previous else row.case,
            row.method,
            f"{row.us_per_fit:.3g}" if row.us_per_fit else "",
            _number(row.over_limit, ".2f"),
            _number(row.over_ours, ".3g"),
            _number(row.error, ".0e"),
            f"{row.compile_s:.2f}",
        )
        previous = row.case
    return table


def _ratios(ratios: list[Ratio]) -> Table:
    table = Table("case", "ours", "reference", box=MARKDOWN)
    for column in ("ratio", "target", "met"):
        table.add_column(column, justify="right")
    for r in ratios:
        table.add_row(
            r.case,
            f"{r.method}: {r.ours:.3g} {r.unit}",
            f"{r.reference_method}: {r.reference:.3g} {r.unit}",
            f"{r.ratio:.3g}",
            f"≤ {r.target:.3g}",
            _yes_or_no(r.is_met),
        )
    return table


def _compilations(programs: list[Compiled]) -> Table:
    table = Table("case", box=MARKDOWN)
    for column in ("CPU s", "target", "× by hand", "operations", "programs", "shapes", "met"):
        table.add_column(column, justify="right")
    for p in programs:
        table.add_row(
            p.case,
            f"{p.cpu_s:.2f}",
            p.target,
            f"{p.over_by_hand:.1f}",
            _number(p.operations, "d"),
            f"{p.programs}",
            _number(p.shapes, "d"),
            "" if p.is_met is None else _yes_or_no(p.is_met),
        )
    return table


def _launches(programs: list[Launched]) -> Table:
    table = Table("chip", "path", box=MARKDOWN)
    for column in ("launches", "moved / data", "temporaries / data", "share", "target", "met"):
        table.add_column(column, justify="right")
    for p in programs:
        table.add_row(
            p.chip,
            p.path,
            _number(p.launches, "d"),
            _number(p.moved, ".2f"),
            f"{p.temporaries:.2f}",
            _number(p.share, ".2f"),
            p.target,
            "" if p.is_met is None else _yes_or_no(p.is_met),
        )
    return table


def _yes_or_no(is_met: bool) -> str:
    return "yes" if is_met else "no"


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _machine(device: str) -> str:
    kind = jax.devices(device)[0].device_kind
    return f"{device} ({kind}, {platform.machine()}), " + ", ".join(filter(None, map(_version, PACKAGES)))


def _version(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None


TABLES = {Row: _times, Ratio: _ratios, Compiled: _compilations, Launched: _launches}
NAMES = {Row: "rows", Ratio: "ratios", Compiled: "programs", Launched: "devices"}


if __name__ == "__main__":
    typer.run(main)
