"""Maps of many fits."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, ListedColormap

from jaxreg.faces.plot._axes import axes
from jaxreg.inference.result import Fit

SIGNIFICANT = 2  # |t| above which a trend is not hatched


def trend_map(
    fit: Fit,
    *,
    row: Any = None,
    column: Any = None,
    row_label: str = "row",
    column_label: str = "column",
    label: str = "slope",
    significant: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """The slopes of a grid of data sets as a map, hatched where they may be nothing.

    Args:
        fit: of data sets (rows, columns), its second param is drawn.
        row: coordinates of the rows, upwards.
        column: coordinates of the columns.
        row_label: what the rows are, with units.
        column_label: what the columns are, with units.
        label: what the slope is, with units.
        significant: which slopes are not hatched, (rows, columns), such as
            `false_discovery(fit.pvalues[1]) < 0.05`; |t| = |slope / bse| ≥ 2 without.
        ax: where to draw.

    Returns:
        The axes.
    """
    if len(fit.shape) != 2:
        raise ValueError(f"trend_map draws data sets of shape (rows, columns), got {fit.shape}")
    if len(fit.params) < 2:
        raise ValueError(f"trend_map draws the second param, and {fit.ansatz} has one")
    ax = axes(ax, (8.0, 4.5))
    row = np.arange(fit.shape[0]) if row is None else np.asarray(row)
    column = np.arange(fit.shape[1]) if column is None else np.asarray(column)
    slope, error = np.asarray(fit.params)[1], np.asarray(fit.bse)[1]
    ax.set_facecolor("0.8")
    mesh = ax.pcolormesh(
        column,
        row,
        np.ma.masked_invalid(slope),
        cmap="RdBu_r",
        norm=CenteredNorm(halfrange=_limit(slope)),
        shading="nearest",
    )
    unsure = np.abs(slope) < SIGNIFICANT * error if significant is None else ~np.asarray(significant)
    unsure = np.ma.masked_where(~(unsure & np.isfinite(slope)), np.ones_like(slope))
    ax.pcolor(
        column,
        row,
        unsure,
        cmap=ListedColormap(["none"]),
        hatch="////",
        edgecolor="0.45",
        linewidth=0,
        shading="nearest",
    )
    ax.figure.colorbar(mesh, ax=ax, label=label, extend="both", shrink=0.9)
    ax.set(xlabel=column_label, ylabel=row_label)
    why = f"|t| < {SIGNIFICANT}" if significant is None else "not significant"
    ax.set_title(f"gray: no fit; hatched: {why}", fontsize="medium", loc="left")
    return ax


def _limit(slope: np.ndarray) -> float:
    """A half range for colors that one wild cell does not set."""
    known = np.abs(slope[np.isfinite(slope)])
    limit = float(np.quantile(known, 0.98)) if known.size else 1.0
    return limit if limit > 0 else 1.0
