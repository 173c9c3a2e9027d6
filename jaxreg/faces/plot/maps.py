"""Maps of many fits."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, ListedColormap
from matplotlib.patches import Patch

from jaxreg.data.labels import title_of
from jaxreg.faces.plot._axes import axes, need_fit
from jaxreg.inference.multiple_testing import false_discovery
from jaxreg.inference.result import Fit

FALSE_DISCOVERY_RATE = 0.05  # at which a slope counts as significant
NO_FIT = "0.7"
HATCHES: dict[str, Any] = {"hatch": "////", "edgecolor": "0.45", "linewidth": 0}


def trend_map(
    fit: Fit,
    *,
    row: Any = None,
    column: Any = None,
    row_label: str | None = None,
    column_label: str | None = None,
    label: str = "slope",
    per: float | int = 1,
    title: str | None = None,
    significant: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """The slopes of a grid of data sets as a map, hatched where they are not significant.

    Args:
        fit: of data sets (rows, columns), its second param is drawn.
        row: coordinates of the rows, upwards; those of y in the fit if omitted.
        column: coordinates of the columns, likewise.
        row_label: what the rows are, with units; from the attributes or the name of row if omitted.
        column_label: what the columns are, with units, likewise.
        label: what the slope is, with units.
        per: the interval of x the drawn slope refers to, such as 10 for slopes per decade of an x in years.
        title: of the map, such as the period.
        significant: which slopes are not hatched, (rows, columns) of booleans; if omitted those of the
            discoveries at a rate of 0.05, `false_discovery(fit.pvalues[1]) < 0.05`.
        ax: where to draw.

    Returns:
        The axes.
    """
    need_fit(fit, "trend_map")
    if len(fit.shape) != 2:
        raise ValueError(f"trend_map draws data sets of shape (rows, columns), got {fit.shape}")
    if len(fit.params) < 2:
        raise ValueError(f"trend_map draws the second param, and {fit.ansatz} has one")
    row, row_label = _coordinates(row, fit, 0, row_label)
    column, column_label = _coordinates(column, fit, 1, column_label)
    if significant is None:
        hatched = f"not significant (false discovery rate {FALSE_DISCOVERY_RATE})"
        significant = np.asarray(false_discovery(fit.pvalues[1])) < FALSE_DISCOVERY_RATE
    else:
        hatched = "not significant"
        significant = _mask(significant, fit.shape)
    return draw_slopes(
        per * np.asarray(fit.params)[1],
        significant,
        hatched=hatched,
        row=row,
        column=column,
        row_label=row_label,
        column_label=column_label,
        label=label,
        title=title,
        ax=ax,
    )


def draw_slopes(
    slope: np.ndarray,
    significant: np.ndarray,
    *,
    hatched: str,
    row: Any,
    column: Any,
    row_label: str,
    column_label: str,
    label: str,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The map of `trend_map`, of arrays (rows, columns); `hatched` says what hatches mean."""
    ax = axes(ax, (6.4, 4.2))
    finite = np.isfinite(slope)
    insignificant = finite & ~significant
    ax.set_facecolor(NO_FIT)
    mesh = ax.pcolormesh(
        column,
        row,
        np.ma.masked_invalid(slope),
        cmap="RdBu_r",
        norm=CenteredNorm(halfrange=_limit(slope)),
        shading="nearest",
    )
    ax.pcolor(
        column,
        row,
        np.ma.masked_where(~insignificant, np.ones_like(slope)),
        cmap=ListedColormap(["none"]),
        shading="nearest",
        **HATCHES,
    )
    ax.figure.colorbar(mesh, ax=ax, label=label, extend="both", shrink=0.8)
    ax.set(xlabel=column_label, ylabel=row_label)
    keys = [Patch(facecolor="none", label=hatched, **HATCHES)] if insignificant.any() else []
    keys += [] if finite.all() else [Patch(color=NO_FIT, label="no fit")]
    if keys:
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
        ax.legend(handles=keys, ncols=2, fontsize="small", frameon=False, **above)
    if title:
        ax.set_title(title, loc="left", pad=24 if keys else None, wrap=True)
    return ax


def _coordinates(given: Any, fit: Fit, axis: int, label: str | None) -> tuple[np.ndarray, str]:
    """The coordinates of an axis and what they are: given, those of y, or numbers from 0."""
    name, count = ("row", "column")[axis], fit.shape[axis]
    dim = name if fit.labels.dims is None else fit.labels.dims[axis]
    label = label or title_of(given, dim)
    if given is None:
        own, values = fit.labels.coords.get(dim, (None, None))
        is_drawn = own == (dim,) and np.asarray(values).dtype.kind in "fiuM"
        return (np.asarray(values) if is_drawn else np.arange(count)), label
    values = np.asarray(given)
    if values.shape != (count,):
        raise ValueError(f"{name} is ({count},), the coordinates of the {name}s; got {values.shape}")
    return values, label


def _mask(significant: Any, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.asarray(significant)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"significant is booleans of shape {shape}, such as false_discovery(fit.pvalues[1]) < 0.05; "
            f"got {mask.dtype} of shape {mask.shape}"
        )
    return mask


def _limit(slope: np.ndarray) -> float:
    """The range of the colors: a quantile, so that one extreme cell does not fade all others."""
    finite = np.abs(slope[np.isfinite(slope)])
    limit = float(np.quantile(finite, 0.98)) if finite.size else 1.0
    return limit if limit > 0 else 1.0
