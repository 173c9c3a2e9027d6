"""What is printed about results: the params of a few data sets, or quantiles of many; or JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table

from jaxreg.faces.cli.results import table_of
from jaxreg.status import counts

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_ROWS = 12  # of params that are printed one by one


def title_of(fitted: xr.Dataset) -> str:
    """What was fitted to what."""
    y, x, ansatz = (
        fitted.params.attrs.get("y", "y"),
        fitted.attrs.get("x", "x"),
        fitted.attrs.get("ansatz", ""),
    )
    return ansatz if "~" in ansatz else f"{ansatz}: {y} against {x}"


def table_to_print(fitted: xr.Dataset) -> Table:
    """One row for each param if they are few, otherwise counts of each status and quantiles."""
    return _few(fitted) if fitted.params.size <= MAX_ROWS else _many(fitted)


def _few(fitted: xr.Dataset) -> Table:
    level = f"{100 * (1 - fitted.attrs['alpha']):.6g}%"
    table = Table(title=title_of(fitted), title_justify="left")
    for heading in (
        "",
        "estimate",
        "std. error",
        "p-value",
        f"{level} interval",
    ):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for row in _rows(fitted):
        table.add_row(*row)
    at = fitted.params.attrs.get("intercept_at")
    if at and "intercept" in fitted.param.values:
        table.caption, table.caption_justify = f"intercept at {at}", "left"
    return table


def _rows(fitted: xr.Dataset) -> Iterator[tuple[str, ...]]:
    tidy: Any = table_of({"y": fitted})
    keys = [c for c in tidy.columns[: list(tidy.columns).index("term")] if c != "y"]
    for row in tidy.to_dict("records"):
        label = " ".join([*(str(row[key]) for key in keys), row["term"]])
        unit = _fraction(row.get("units") or "")
        if row["status"] != "ok":
            label += f" [{row['status']}]"
        numbers = [_short(row[name]) for name in ("estimate", "std_error", "p_value")]
        has_interval = np.isfinite(row["conf_low"])
        interval = f"{_short(row['conf_low'])} to {_short(row['conf_high'])}" if has_interval else ""
        yield (f"{label} ({unit})" if unit else label).replace("[", r"\["), *numbers, interval


def _many(fitted: xr.Dataset) -> Table:
    """Counts of each status, and quantiles of the last param and of its standard error."""
    table = Table(title=title_of(fitted), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("data sets", str(fitted.status.size))
    for code, number in counts(fitted.status.values).items():
        table.add_row(code.name, str(number))
    names = fitted.param.values.tolist()
    at = fitted.params.attrs.get("intercept_at")
    if at and "intercept" in names:
        table.add_row("intercept at", at)
    last = fitted.isel(param=-1)
    units = _fraction(str(last.units.item())) if "units" in fitted.coords else ""
    for label, values in ((names[-1], last.params), (f"standard error of {names[-1]}", last.bse)):
        for q, value in _quantiles(values.values).items():
            quantile = "median" if q == 0.5 else f"{q:.0%} quantile"
            table.add_row(f"{label}, {quantile}", f"{value:.4g} {units}".rstrip())
    if "pvalue_adjusted" in last and np.isfinite(last.pvalue_adjusted).any():
        label = f"{names[-1]}, significant at a false discovery rate of {fitted.attrs['alpha']:g}"
        table.add_row(label, str(int((last.pvalue_adjusted < fitted.attrs["alpha"]).sum())))
    return table


def as_json(fits: Mapping[str, xr.Dataset], with_results: bool) -> str:
    """A summary of each y, and the rows of `table_of`; NaN is null."""
    summary: dict[str, Any] = {"summary": {name: _summary(fitted) for name, fitted in fits.items()}}
    if with_results:
        records: Any = table_of(fits).to_dict("records")
        summary["results"] = [{key: _json_value(value) for key, value in row.items()} for row in records]
    return json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)


def _json_value(value: Any) -> Any:
    """NaN as None, and what JSON has no word for as text."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int) else str(value)


def _summary(fitted: xr.Dataset) -> dict[str, Any]:
    params = {}
    for name in fitted.param.values.tolist():
        one = fitted.sel(param=name)
        params[name] = {
            "units": str(one.units.item()) if "units" in fitted.coords else "",
            "quantiles": {f"{q:g}": value for q, value in _quantiles(one.params.values).items()},
            "significant": int((one.pvalue_adjusted < fitted.attrs["alpha"]).sum()),
        }
    return {
        "model": title_of(fitted),
        "intercept_at": fitted.params.attrs.get("intercept_at", ""),
        "data_sets": int(fitted.status.size),
        "status": {code.name: int(number) for code, number in counts(fitted.status.values).items()},
        "params": params,
    }


def _quantiles(values: np.ndarray) -> dict[float, float]:
    finite = values[np.isfinite(values)]
    return {q: float(np.quantile(finite, q)) for q in QUANTILES} if finite.size else {}


def _fraction(units: str) -> str:
    """K year-1 as K/year."""
    return re.sub(r" (\S+)-1$", r"/\1", units)


def _short(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"
