"""The cost over two params, with flows and descents on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from jaxreg.faces.plot._axes import MARKERS, ON_DARK, axes, need
from jaxreg.faces.plot._costs import check_cost, costs_of
from jaxreg.mechanics.phase_space import Trajectory
from jaxreg.solvers.descent import Descent

GRID = 120  # points a side
COARSE_GRID = 41
MAX_ENLARGEMENTS = 8
MARGIN = 0.25  # of a side, least distance of the minimum from the edge
LEVELS = 16


def cost_surface(
    cost: Callable[..., Any],
    *data: Any,
    flows: Trajectory | Sequence[Trajectory] = (),
    steps: Sequence[Any] = (),
    labels: Sequence[str] | None = None,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    names: tuple[str, str] = ("β₀", "β₁"),
    label: str = "cost S",
    ax: Axes | None = None,
) -> Axes:
    """Contours of S over two params, with flows as curves and the steps of descents as dots on them.

    Args:
        cost: S(params, *data) of two params.
        *data: what the cost reads.
        flows: trajectories, params (times, 2).
        steps: params after each step of a descent, (steps, 2) each, such as `descend(...).history.params`.
        labels: of the flows, then of the steps, for the legend; "flow" and "steps" if omitted.
        limits: (lowest, highest) of either param. If omitted, the ranges of flows and steps, enlarged until
            the minimum is inside; of a path whose cost grows from its start to its end only the first step
            counts, so that a diverging descent does not set the limits.
        names: of the params, with units.
        label: what the cost is, with units.
        ax: where to draw.

    Returns:
        The axes.
    """
    curves, dots = _curves_and_dots(flows, steps)
    labels = _labels(labels, len(curves), len(dots))
    check_cost(cost, 2, data, "cost_surface")
    ends = _limits(limits, cost, data, curves + dots)
    first, second = _sides(ends, GRID)
    surface = _surface(cost, data, first, second)
    if not surface.count():
        raise ValueError("the cost is nowhere finite between the limits")
    ax = axes(ax, (5.0, 4.0))
    low, high = surface.min(), surface.max()
    levels = low + (high - low or 1.0) * np.linspace(0, 1, LEVELS) ** 2  # denser at the bottom
    filled = ax.contourf(first, second, surface, levels, cmap="cividis")
    ax.contour(first, second, surface, levels, colors="white", linewidths=0.4, alpha=0.6)
    bar = ax.figure.colorbar(filled, ax=ax, label=label, spacing="proportional", ticks=MaxNLocator(6))
    labels = _with_exits(labels, curves + dots, ends)
    for curve, text in zip(curves, labels[: len(curves)], strict=True):
        ax.plot(*curve.T, color="white", lw=1.5, label=text)
    for k, (dot, text) in enumerate(zip(dots, labels[len(curves) :], strict=True)):
        color, marker = ON_DARK[k % len(ON_DARK)], MARKERS[k % len(MARKERS)]
        ax.plot(*dot.T, f"{marker}-", color=color, lw=0.8, markersize=3.5, label=text)
    ax.set(xlabel=names[0], ylabel=names[1], xlim=ends[0], ylim=ends[1])
    ax.locator_params(nbins=5)
    for axis in (ax.xaxis, ax.yaxis, bar.ax.yaxis):
        plain = ScalarFormatter(useOffset=False)
        plain.set_scientific(False)
        axis.set_major_formatter(plain)
    if labels:
        dark = {"facecolor": "0.25", "edgecolor": "none", "labelcolor": "white", "framealpha": 1}
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2, "columnspacing": 1}
        ax.legend(fontsize="small", **above, **dark)  # as dark as the surface, for the white flow
    return ax


def _curves_and_dots(flows: Any, steps: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The params of flows and steps, (times, 2) each."""
    curves = []
    for flow in flows if isinstance(flows, Sequence) else [flows]:
        need(Trajectory, flow, "flows are trajectories, such as flow.trajectory(start, times)")
        curves.append(np.asarray(flow.params))
    if any(isinstance(step, Descent) for step in (steps if isinstance(steps, Sequence) else [steps])):
        raise TypeError("steps are arrays, such as [descend(..., history=True).history.params]; got Descent")
    dots = [np.asarray(step) for step in steps]
    for path in (*curves, *dots):
        if path.ndim != 2 or path.shape[1] != 2:
            raise ValueError(
                f"cost_surface draws a list of paths of shape (times, 2); got one of shape {path.shape}"
            )
    return curves, dots


def _labels(given: Sequence[str] | None, curves: int, dots: int) -> list[str]:
    if given is not None:
        if len(given) != curves + dots:
            raise ValueError(f"labels are one for each of {curves} flows and {dots} steps; got {len(given)}")
        return list(given)

    def numbered(name: str, count: int) -> list[str]:
        return [name] if count == 1 else [f"{name} {k + 1}" for k in range(count)]

    return numbered("flow", curves) + numbered("steps", dots)


def _with_exits(labels: list[str], paths: list[np.ndarray], ends: np.ndarray) -> list[str]:
    """The labels, with a note on every path that leaves the axes."""
    leaves = [not ((path >= ends[:, 0]) & (path <= ends[:, 1])).all() for path in paths]
    return [f"{label} (partly outside)" if out else label for label, out in zip(labels, leaves, strict=True)]


def _limits(given: Any, cost: Callable[..., Any], data: tuple, paths: list[np.ndarray]) -> np.ndarray:
    """The lowest and the highest of either param, (2, 2)."""
    if given is None:
        return _with_minimum_inside(cost, data, _around(cost, data, paths))
    ends = np.asarray(given, float)
    if ends.shape != (2, 2) or not (ends[:, 0] < ends[:, 1]).all():
        raise ValueError(f"limits are ((lowest, highest), (lowest, highest)) of both params; got {given}")
    return ends


def _around(cost: Callable[..., Any], data: tuple, paths: list[np.ndarray]) -> np.ndarray:
    """The ranges of both params with a margin; of a rising path its first step alone counts."""
    if not paths:
        raise ValueError("with neither flows nor steps say between which limits to draw: limits=")
    points = np.concatenate([path[:2] if _rises(cost, data, path) else path for path in paths])
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise ValueError("no point of flows and steps is finite: say between which limits to draw, limits=")
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.where(high > low, 0.15 * (high - low), 1.0)
    return np.stack([low - room, high + room], axis=1)


def _rises(cost: Callable[..., Any], data: tuple, path: np.ndarray) -> bool:
    """Whether the cost along the last quarter of a path is above all of its first quarter."""
    costs = np.asarray(costs_of(cost, path, data), float)
    costs = np.where(np.isfinite(costs), costs, np.inf)
    quarter = -(-len(costs) // 4)
    return bool(costs[-quarter:].min() > costs[:quarter].max())


def _with_minimum_inside(cost: Callable[..., Any], data: tuple, ends: np.ndarray) -> np.ndarray:
    """The limits, moved outwards until the minimum has a margin; as they are if none is near."""
    wider = ends
    for _ in range(MAX_ENLARGEMENTS):
        first, second = _sides(wider, COARSE_GRID)
        surface = _surface(cost, data, first, second)
        if not surface.count():
            return ends
        row, column = np.unravel_index(surface.argmin(), surface.shape)
        lowest = np.array([first[column], second[row]])
        low, high = wider.T
        moved = np.stack(
            [
                np.minimum(low, (lowest - MARGIN * high) / (1 - MARGIN)),
                np.maximum(high, (lowest - MARGIN * low) / (1 - MARGIN)),
            ],
            axis=1,
        )
        if np.allclose(moved, wider):
            return wider
        wider = moved
    return ends


def _sides(ends: np.ndarray, count: int) -> np.ndarray:
    """So many values of either param between its limits, (2, count)."""
    return np.linspace(ends[:, 0], ends[:, 1], count, axis=1)


def _surface(
    cost: Callable[..., Any], data: tuple, first: np.ndarray, second: np.ndarray
) -> np.ma.MaskedArray:
    """S on a grid, (second, first), masked where it is not finite."""
    grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    return np.ma.masked_invalid(np.asarray(costs_of(cost, grid, data)).reshape(len(second), len(first)))
