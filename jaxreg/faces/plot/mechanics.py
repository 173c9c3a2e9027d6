"""The cost as a landscape, ways through it, and the amplitude that its turning points dominate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes

from jaxreg.faces.plot._axes import CYCLE, ON_DARK, ORANGE, axes
from jaxreg.mechanics.flow import Flow
from jaxreg.mechanics.path_integral import StationaryPhase
from jaxreg.mechanics.phase_space import Trajectory
from jaxreg.numerics.precision import in_own_precision
from jaxreg.solvers.descent import Descent

GRID = 120  # points a side
LEVELS = 16
MAX_POINTS = 400_000
MAX_BENT = 0.3
PAPER = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8}
LABEL = {"fontsize": "small", "bbox": PAPER}
ARROW = {"arrowstyle": "->", "color": ORANGE, "lw": 1.5}


def cost_surface(
    cost: Callable[..., Any],
    *data: Any,
    flows: Trajectory | Sequence[Trajectory] = (),
    steps: Sequence[Any] = (),
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
        limits: (lowest, highest) of either param; around flows and steps without.
        names: of the params, with units.
        label: what the cost is, with units.
        ax: where to draw.

    Returns:
        The axes.
    """
    flows = [flows] if isinstance(flows, Trajectory) else flows
    curves = [np.asarray(flow.params) for flow in flows]
    dots = [np.asarray(step) for step in steps]
    for way in (*curves, *dots):
        if way.ndim != 2 or way.shape[1] != 2:
            raise ValueError(f"cost_surface draws ways of shape (times, 2), got {way.shape}")
    ax = axes(ax, (6.0, 4.5))
    first, second = (np.linspace(*ends, GRID) for ends in limits or _around(curves + dots))
    grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    surface = np.asarray(_costs(cost, grid, data)).reshape(GRID, GRID)
    surface = np.ma.masked_invalid(surface)
    if not surface.count():
        raise ValueError("the cost is nowhere finite between the limits")
    low, high = surface.min(), surface.max()
    levels = low + (high - low or 1.0) * np.linspace(0, 1, LEVELS) ** 2  # denser at the bottom
    filled = ax.contourf(first, second, surface, levels, cmap="cividis")
    ax.contour(first, second, surface, levels, colors="white", linewidths=0.4, alpha=0.6)
    ax.figure.colorbar(filled, ax=ax, label=label)
    for curve in curves:
        ax.plot(*curve.T, color="white", lw=1.5)
    for dot, color in zip(dots, _colors(len(dots), ON_DARK), strict=True):
        ax.plot(*dot.T, ".-", color=color, lw=0.6, markersize=5)
    ax.set(xlabel=names[0], ylabel=names[1], xlim=first[[0, -1]], ylim=second[[0, -1]])
    return ax


def phase_portrait(
    *paths: Trajectory,
    param: int = 0,
    name: str = "θ",
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One param against its velocity along trajectories; where all is at rest, ∇S = 0.

    Along the flow the velocity is −p = −∇S; with inertia it is the momentum of a unit mass.

    Args:
        *paths: trajectories of one data set, params (times, p).
        param: which one.
        name: of the param, with units.
        labels: of the paths.
        ax: where to draw.

    Returns:
        The axes.
    """
    if not paths or (labels is not None and len(labels) != len(paths)):
        raise ValueError(f"phase_portrait draws trajectories with a label each or none; got {len(paths)}")
    ax = axes(ax)
    ax.axhline(0, color="0.6", lw=1)
    for k, (path, color) in enumerate(zip(paths, _colors(len(paths)), strict=True)):
        theta, velocity = np.asarray(path.params), np.asarray(path.velocity)
        if theta.ndim != 2:
            raise ValueError(f"phase_portrait draws one data set, params (times, p); got {theta.shape}")
        ax.plot(theta[:, param], velocity[:, param], color=color, label=labels[k] if labels else None)
        ax.plot(theta[0, param], velocity[0, param], "o", color=color, markersize=5)
    ax.set(xlabel=name, ylabel=f"velocity of {name}")
    ax.set_title("dots: where they start", fontsize="medium", loc="left")
    if labels:
        ax.legend(fontsize="small", frameon=False)
    return ax


def descent(
    descents: Mapping[float, Descent], flow: Flow, *, label: str = "S − S*", ax: Axes | None = None
) -> Axes:
    """What is left of the cost against the step, for several learning rates, with the rates of theory dashed.

    Late on each step multiplies S − S* by max (1 − αλ)² over the eigenvalues λ of ∇²S.

    Args:
        descents: those of one data set by plain gradient descent, `{α: descend(..., history=True)}`.
        flow: that of the same data set, `exact_flow` or `linearized_flow`.
        label: what is left, with units.
        ax: where to draw.

    Returns:
        The axes.
    """
    ax = axes(ax)
    if flow.cost.shape:
        raise ValueError(f"descent draws one data set; got the flow of data sets {flow.cost.shape}")
    least, rates = float(flow.cost), np.asarray(flow.rates)
    for (alpha, found), color in zip(descents.items(), _colors(len(descents)), strict=True):
        if found.history is None:
            raise ValueError("descent draws histories: descend(..., history=True)")
        left = np.asarray(found.history.cost, float) - least
        noise = 8 * np.finfo(np.asarray(found.cost).dtype).eps * np.abs(found.history.cost[0])
        ax.semilogy(np.where(left > noise, left, np.nan), color=color, label=f"α = {alpha:.3g}")
        seen = np.flatnonzero((left > noise) & np.isfinite(left))
        if not len(seen):
            continue
        factor = np.max((1 - alpha * rates) ** 2)
        middle = seen[len(seen) // 2]
        theory = left[middle] * factor ** (seen - middle)
        ax.semilogy(seen, theory, "--", color=color, lw=1, alpha=0.8)
    ax.set(xlabel="step k", ylabel=label)
    ax.set_title("dashed: |1 − αλ|²ᵏ of the slowest direction", fontsize="medium", loc="left")
    ax.legend(fontsize="small", frameon=False)
    return ax


def amplitude(
    cost: Callable[..., Any],
    *data: Any,
    hbar: float,
    limits: tuple[float, float],
    found: StationaryPhase | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The path ∫ e^{iS/ħ} dθ takes through the complex plane as θ grows: Cornu's spiral for a quadratic S.

    It winds up where S changes fast, and gets ahead where S does not: at the stationary points. The arrow
    between the eyes of the spiral is the amplitude.

    Args:
        cost: S(params, *data) of one param.
        *data: what the cost reads.
        hbar: ħ in units of S.
        limits: the first and the last θ, away from the stationary points.
        found: `stationary_phase` of the same, whose points are marked.
        ax: where to draw.

    Returns:
        The axes.
    """
    theta = _resolving(cost, data, hbar, limits)
    S, slope = (np.asarray(a, np.float64) for a in _costs_and_slopes(cost, theta[:, None], data))
    slope = slope[:, 0]
    phase = np.exp(1j * S / hbar)
    path = np.append(0, np.cumsum((phase[1:] + phase[:-1]) / 2 * np.diff(theta)))
    re, im = np.real(path), np.imag(path)
    ax = axes(ax, (5.5, 5.0))
    ax.plot(re, im, color=CYCLE[0], lw=0.8)
    title = f"ħ = {hbar:.3g}"
    if _are_far(theta, slope, hbar):
        rest = 1j * hbar * phase[[0, -1]] / slope[[0, -1]]  # to where endless limits would lead
        start, end = path[0] + rest[0], path[-1] + rest[1]
        ax.annotate("", (end.real, end.imag), (start.real, start.imag), arrowprops=ARROW)
        title += f"; arrow: the amplitude, |A| = {abs(end - start):.3g}"
    if found is not None:
        for point, action in zip(np.asarray(found.points)[:, 0], np.asarray(found.actions), strict=True):
            if theta[0] <= point <= theta[-1]:
                here = np.interp(point, theta, re), np.interp(point, theta, im)
                ax.plot(*here, "o", color=ORANGE, markersize=6)
                text = f"θ* = {point:.3g}, S = {action:.3g}"
                ax.annotate(
                    text, here, xytext=(8, -12), textcoords="offset points", fontsize="small", bbox=PAPER
                )
    ax.set(xlabel="Re ∫ exp(iS/ħ) dθ", ylabel="Im ∫ exp(iS/ħ) dθ", aspect="equal")
    ax.set_title(title, fontsize="medium", loc="left")
    return ax


def _are_far(theta: np.ndarray, slope: np.ndarray, hbar: float) -> bool:
    """Whether S changes so evenly at both ends that what lies behind them is known: ħ S″ ≪ S′²."""
    curvature = np.gradient(slope, theta)[[0, -1]]
    return bool((hbar * np.abs(curvature) < MAX_BENT * slope[[0, -1]] ** 2).all())


def _resolving(cost: Callable[..., Any], data: tuple, hbar: float, limits: tuple[float, float]) -> np.ndarray:
    """So many θ that the phase turns by 1/20 from one to the next."""
    if not limits[0] < limits[1]:
        raise ValueError(f"limits are the first and the last θ, rising; got {limits}")
    coarse = np.linspace(*limits, 2001)
    turned = np.abs(np.diff(np.asarray(_costs(cost, coarse[:, None], data), float))).sum() / hbar
    if 20 * turned > MAX_POINTS:
        raise ValueError(
            f"the phase turns by {turned:.0f} between the limits; pass narrower ones or more hbar"
        )
    return np.linspace(*limits, max(2001, int(20 * turned)))


def _around(ways: list[np.ndarray]) -> list[tuple[float, float]]:
    """The ranges of both params with a margin."""
    if not ways:
        raise ValueError("with neither flows nor steps say between which limits to draw: limits=")
    points = np.concatenate(ways)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise ValueError("no point of flows and steps is finite: say between which limits to draw, limits=")
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.where(high > low, 0.15 * (high - low), 1.0)
    return list(zip(low - room, high + room, strict=True))


def _colors(count: int, cycle: tuple[str, ...] = CYCLE) -> list[str]:
    return [cycle[k % len(cycle)] for k in range(count)]


@in_own_precision
def _costs(cost: Callable[..., Any], params: np.ndarray, data: tuple) -> Any:
    return jax.vmap(lambda theta: cost(theta, *data))(params)


@in_own_precision
def _costs_and_slopes(cost: Callable[..., Any], params: np.ndarray, data: tuple) -> Any:
    return jax.vmap(jax.value_and_grad(lambda theta: cost(theta, *data)))(params)
