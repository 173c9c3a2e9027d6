"""A param of many data sets: each with its interval, or a histogram."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from jaxreg.faces.plot._axes import BLUE, ORANGE, axes

MAX_ROWS = 60  # that can be read one by one


def draw_estimates(
    values: np.ndarray,
    low: np.ndarray | None,
    high: np.ndarray | None,
    *,
    names: list[str],
    label: str,
    ax: Axes | None = None,
) -> Axes:
    """The values from the smallest to the largest, with their intervals; a histogram of more than sixty.

    Args:
        values: of the param, (m,); NaN is left out.
        low: lower limits, (m,).
        high: upper limits, (m,).
        names: of the data sets.
        label: what the param is, with units.
        ax: where to draw.

    Returns:
        The axes.
    """
    order = np.argsort(values)[: int(np.isfinite(values).sum())]  # NaN comes last
    many = len(order) > MAX_ROWS
    ax = axes(ax, (6.0, 4.0 if many else 1.2 + 0.22 * max(len(order), 1)))
    if many:
        ax.hist(values[order], bins="fd" if len(order) > 200 else 20, color=BLUE, alpha=0.7)
        ax.set(ylabel=f"data sets of {len(order):,}")
    else:
        rows = np.arange(len(order))
        if low is not None and high is not None:
            ax.hlines(rows, low[order], high[order], color=BLUE, alpha=0.5, linewidth=2)
        ax.plot(values[order], rows, "o", color=BLUE, markersize=4)
        ax.set_yticks(rows, [names[k] for k in order], fontsize="small")
        ax.set_ylim(-1, len(order))
    ax.axvline(0, color=ORANGE, ls="--", lw=1)
    ax.set(xlabel=label)
    if len(order) < len(values):
        ax.set_title(f"{len(values) - len(order):,} without a fit", fontsize="medium", loc="left")
    return ax
