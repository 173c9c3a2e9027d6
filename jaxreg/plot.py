"""Pictures of fits; each function draws into the axes it is given and returns them (extra `plot`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxreg.result import Fit

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.colors import CenteredNorm, ListedColormap
except ModuleNotFoundError:
    raise ModuleNotFoundError('jaxreg.plot needs matplotlib: python -m pip install "jaxreg[plot]"') from None

SIGNIFICANT = 2  # |t| above which a trend is not hatched


def trend_map(
    fit: Fit,
    *,
    row: Any = None,
    column: Any = None,
    row_label: str = "row",
    column_label: str = "column",
    label: str = "slope",
    ax: Axes | None = None,
) -> Axes:
    """The slopes of a grid of data sets as a map, hatched where |t| = |slope / bse| < 2.

    Args:
        fit: of data sets (rows, columns), its second param is drawn.
        row: coordinates of the rows, upwards.
        column: coordinates of the columns.
        row_label: what the rows are, with units.
        column_label: what the columns are, with units.
        label: what the slope is, with units.
        ax: where to draw.

    Returns:
        The axes.
    """
    if len(fit.shape) != 2:
        raise ValueError(f"trend_map draws data sets of shape (rows, columns), got {fit.shape}")
    ax = ax or plt.subplots(figsize=(8, 4.5), layout="constrained")[1]
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
    unsure = np.ma.masked_where(~(np.abs(slope) < SIGNIFICANT * error), np.ones_like(slope))
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
    ax.set_title(f"gray: no fit; hatched: |t| < {SIGNIFICANT}", fontsize="medium", loc="left")
    return ax


def lines(
    fit: Fit,
    x: Any,
    y: Any,
    *,
    names: list[str] | None = None,
    x_label: str = "x",
    y_label: str = "y",
    most: int = 12,
) -> np.ndarray:
    """The data and the fitted curves of up to twelve data sets, a panel for each.

    Args:
        fit: of one data set or of a row of them.
        x: (n,) shared, where the ansatz takes numbers.
        y: (n,) or (n, m).
        names: what the data sets are called.
        x_label: what x is, with units.
        y_label: what y is, with units.
        most: how many panels at most.

    Returns:
        The axes, one per data set.
    """
    x, y = np.asarray(x), np.asarray(y).reshape(len(x), -1)
    m = min(y.shape[1], most)
    drawn = fit[np.unravel_index(np.arange(m), fit.shape)] if fit.shape else fit
    width = min(m, 4)
    height = -(-m // width)
    figure, axes = plt.subplots(
        height,
        width,
        figsize=(3 * width + 1, 2.4 * height + 0.6),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    dense = np.linspace(np.nanmin(x), np.nanmax(x), 200)
    curves = np.asarray(drawn.predict(dense)).reshape(200, -1)
    for j, ax in enumerate(axes.flat):
        if j >= m:
            ax.set_visible(False)
            continue
        ax.plot(x, y[:, j], ".", color="0.4", markersize=4)
        ax.plot(dense, curves[:, j], color="C1")
        ax.set_title(names[j] if names else str(j), fontsize="medium")
    figure.supxlabel(x_label, fontsize="medium")
    figure.supylabel(y_label, fontsize="medium")
    return axes.ravel()[:m]


def _limit(slope: np.ndarray) -> float:
    """A half range for colors that one wild cell does not set."""
    known = np.abs(slope[np.isfinite(slope)])
    limit = float(np.quantile(known, 0.98)) if known.size else 1.0
    return limit if limit > 0 else 1.0
