"""Cost surfaces, phase portraits, convergence of descents, and the amplitude ∫ e^{iS/ħ} dθ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from jaxreg.faces.plot._axes import CYCLE, ON_DARK, ORANGE, axes, need, number
from jaxreg.mechanics.flow import Flow
from jaxreg.mechanics.path_integral import StationaryPhase
from jaxreg.mechanics.phase_space import Trajectory
from jaxreg.numerics.precision import in_own_precision
from jaxreg.solvers.descent import Descent, History

GRID = 120  # points a side
COARSE_GRID = 41
MAX_ENLARGEMENTS = 8
MARGIN = 0.25  # of a side, least distance of the minimum from the edge of a cost surface
LEVELS = 16
MAX_POINTS = 400_000
MAX_BENT = 0.3
ARROW = {"arrowstyle": "->", "color": ORANGE, "lw": 1.5}


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
    _check_cost(cost, 2, data, "cost_surface")
    ends = _limits(limits, cost, data, curves + dots)
    first, second = _sides(ends, GRID)
    surface = _surface(cost, data, first, second)
    if not surface.count():
        raise ValueError("the cost is nowhere finite between the limits")
    ax = axes(ax, (6.0, 4.5))
    low, high = surface.min(), surface.max()
    levels = low + (high - low or 1.0) * np.linspace(0, 1, LEVELS) ** 2  # denser at the bottom
    filled = ax.contourf(first, second, surface, levels, cmap="cividis")
    ax.contour(first, second, surface, levels, colors="white", linewidths=0.4, alpha=0.6)
    bar = ax.figure.colorbar(filled, ax=ax, label=label, spacing="proportional", ticks=MaxNLocator(6))
    labels = _with_exits(labels, curves + dots, ends)
    for curve, text in zip(curves, labels[: len(curves)], strict=True):
        ax.plot(*curve.T, color="white", lw=1.5, label=text)
    for dot, text, color in zip(dots, labels[len(curves) :], _colors(len(dots), ON_DARK), strict=True):
        ax.plot(*dot.T, ".-", color=color, lw=0.6, markersize=5, label=text)
    ax.set(xlabel=names[0], ylabel=names[1], xlim=ends[0], ylim=ends[1])
    ax.locator_params(nbins=6)
    for axis in (ax.xaxis, ax.yaxis, bar.ax.yaxis):
        plain = ScalarFormatter(useOffset=False)
        plain.set_scientific(False)
        axis.set_major_formatter(plain)
    if labels:
        dark = {"facecolor": "0.15", "edgecolor": "none", "labelcolor": "white", "framealpha": 0.7}
        ax.legend(loc="best", fontsize="small", **dark)
    return ax


def phase_portrait(
    *paths: Trajectory,
    param: int = 0,
    name: str = "θ",
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One param against its velocity along trajectories; at a turning point the velocity is 0.

    Along the flow the velocity is −p = −∇S; with inertia it is the momentum of a unit mass.

    Args:
        *paths: trajectories of one data set, params (times, p), such as `flow.trajectory(start, times)`.
        param: which one.
        name: of the param, with units.
        labels: of the paths.
        ax: where to draw.

    Returns:
        The axes.
    """
    if not paths or (labels is not None and len(labels) != len(paths)):
        raise ValueError(
            f"phase_portrait draws trajectories with a label each or none; got {len(paths)}"
            + (f" and {len(labels)} labels" if labels is not None else "")
        )
    for path in paths:
        need(
            Trajectory,
            path,
            "phase_portrait draws trajectories, which have a velocity, such as flow.trajectory(start, times) "
            "or, for plain descent, flow.iteration(start, learning_rate, steps)",
        )
        if np.ndim(path.params) != 2:
            shape = np.shape(path.params)
            raise ValueError(f"phase_portrait draws one data set, params (times, p); got {shape}")
        if not -path.params.shape[1] <= param < path.params.shape[1]:
            raise ValueError(f"param is one of {path.params.shape[1]}, counted from 0; got {param}")
    ax = axes(ax)
    ax.axhline(0, color="0.6", lw=1)
    for k, (path, color) in enumerate(zip(paths, _colors(len(paths)), strict=True)):
        theta, velocity = np.asarray(path.params), np.asarray(path.velocity)
        ax.plot(theta[:, param], velocity[:, param], color=color, label=labels[k] if labels else None)
        ax.plot(theta[0, param], velocity[0, param], "o", color=color, markersize=5)
    ax.set(xlabel=name, ylabel=f"velocity of {name}")
    ax.set_title("dots: start", fontsize="medium", loc="left")
    if labels:
        ax.legend(fontsize="small", frameon=False)
    return ax


def descent(
    descents: Mapping[float, Descent], flow: Flow, *, label: str = "S − S*", ax: Axes | None = None
) -> Axes:
    """S − S* after each step of descents (solid), and the same predicted without a step (dashed).

    The prediction is `flow.iteration` from the same start: θ_k − θ* = (1 − αH)ᵏ(θ₀ − θ*). It reads no step
    of the descent, and is exact where S is quadratic. Both are drawn down to the rounding of S.

    Args:
        descents: those of one data set by plain gradient descent, `{α: descend(..., history=True)}`.
        flow: that of the same data set, `exact_flow` or `linearized_flow`.
        label: what S − S* is, with units.
        ax: where to draw.

    Returns:
        The axes.
    """
    need(Mapping, descents, "descent draws {learning_rate: descend(..., history=True)}")
    need(Flow, flow, "descent compares with a Flow, such as exact_flow(moments(x, y))")
    if flow.cost.shape:
        raise ValueError(f"descent draws one data set; got the flow of data sets {flow.cost.shape}")
    histories = {alpha: _history(found, flow) for alpha, found in descents.items()}
    ax = axes(ax)
    for (alpha, history), color in zip(histories.items(), _colors(len(histories)), strict=True):
        steps = np.arange(len(history.cost))
        predicted = flow.iteration(history.params[0], alpha, steps)
        eps = max(np.finfo(history.cost.dtype).eps, np.finfo(flow.cost.dtype).eps)
        rounding = 8 * eps * np.abs(float(history.cost[0]))
        measured, exact = (
            _above(rounding, np.asarray(costs, float) - float(flow.cost))
            for costs in (history.cost, predicted.cost)
        )
        ax.semilogy(steps, measured, color=color, lw=4, alpha=0.4, label=f"α = {number(alpha)}")
        ax.semilogy(steps, exact, "--", color=color, lw=1.2)
    ax.set(xlabel="step k", ylabel=label)
    ax.set_title("solid: descent; dashed: θ* + (1 − αH)ᵏ(θ₀ − θ*)", fontsize="medium", loc="left")
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
    """∫ e^{iS/ħ} dθ in the complex plane as its upper limit grows: Cornu's spiral for a quadratic S.

    Where S changes fast the curve winds up; it advances at the stationary points. The arrow from the center
    of the first winding to that of the last is the amplitude.

    Args:
        cost: S(params, *data) of one param.
        *data: what the cost reads.
        hbar: ħ in units of S.
        limits: the first and the last θ, away from the stationary points.
        found: `stationary_phase` of the same cost; its points are marked.
        ax: where to draw.

    Returns:
        The axes.
    """
    if found is not None:
        need(StationaryPhase, found, "found is what stationary_phase(cost, ...) returns")
        if found.points.shape[-1] != 1:
            raise ValueError(
                f"amplitude draws a cost of one param; found.points have {found.points.shape[-1]}"
            )
    if np.ndim(hbar) or not hbar:
        raise ValueError(f"hbar is one number other than 0; got {hbar}")
    _check_cost(cost, 1, data, "amplitude")
    theta = _phase_resolving_grid(cost, data, hbar, limits)
    S, gradient = (np.asarray(a, np.float64) for a in _costs_and_gradients(cost, theta[:, None], data))
    gradient = gradient[:, 0]
    phase = np.exp(1j * S / hbar)
    path = np.append(0, np.cumsum((phase[1:] + phase[:-1]) / 2 * np.diff(theta)))
    re, im = np.real(path), np.imag(path)
    ax = axes(ax, (6.0, 4.5))
    ax.plot(re, im, color=CYCLE[0], lw=0.8)
    title = f"ħ = {number(hbar)}"
    rises = re[-1] * im[-1] >= 0
    if _are_far(theta, gradient, hbar):
        tails = 1j * hbar * phase[[0, -1]] / gradient[[0, -1]]  # of the integral beyond both limits
        start, end = path[0] + tails[0], path[-1] + tails[1]
        ax.annotate("", (end.real, end.imag), (start.real, start.imag), arrowprops=ARROW)
        title += f"; arrow: the amplitude, |A| = {number(abs(end - start))}"
    if found is not None:
        colors = iter(_colors(len(found.points), CYCLE[1:]))
        for point, action in zip(np.asarray(found.points)[:, 0], np.asarray(found.actions), strict=True):
            if theta[0] <= point <= theta[-1]:
                place = np.interp(point, theta, re), np.interp(point, theta, im)
                text = f"θ* = {number(point)}, S = {number(action)}"
                ax.plot(*place, "o", color=next(colors), markersize=6, label=text)
        corner = "upper left" if rises else "upper right"  # the windings are in the two others
        ax.legend(loc=corner, fontsize="small", frameon=False)
    ax.set(xlabel="Re ∫ exp(iS/ħ) dθ", ylabel="Im ∫ exp(iS/ħ) dθ")
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_title(title, fontsize="medium", loc="left")
    return ax


def _history(found: Any, flow: Flow) -> History:
    """The history of a descent in the params of the flow."""
    need(Descent, found, "descent draws {learning_rate: descend(..., history=True)}")
    if found.history is None:
        raise ValueError("descent draws histories: descend(..., history=True)")
    shape, p = np.shape(found.history.params), len(flow.turning_point)
    if shape[1:] != (p,):
        raise ValueError(f"descent draws params of shape (steps, {p}), as the flow has them; got {shape}")
    return found.history


def _above(least: float, values: np.ndarray) -> np.ndarray:
    return np.where(values > least, values, np.nan)


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
    costs = np.asarray(_costs(cost, path, data), float)
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
    return np.ma.masked_invalid(np.asarray(_costs(cost, grid, data)).reshape(len(second), len(first)))


def _check_cost(cost: Any, count: int, data: tuple, function: str) -> None:
    """Raise unless the cost of so many params is a number."""
    if not callable(cost):
        raise TypeError(f"{function} draws a function S(params, *data); got {type(cost).__name__}")
    params = f"{count} params" if count > 1 else "one param"
    expected = f"{function} draws a cost S(params, *data) of {params}, shape ({count},)"
    try:
        shape = _shape(cost, np.zeros(count), data)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{expected}; this one raised {type(error).__name__}: {error}. If it has more params, pass a "
            "function that holds the others fixed"
        ) from error
    if shape:
        raise ValueError(f"{expected}, which returns a number; got an array of shape {shape}")


def _are_far(theta: np.ndarray, gradient: np.ndarray, hbar: float) -> bool:
    """Whether ħ S″ ≪ S′² at both limits: then the integral beyond them is known."""
    curvature = np.gradient(gradient, theta)[[0, -1]]
    return bool((np.abs(hbar * curvature) < MAX_BENT * gradient[[0, -1]] ** 2).all())


def _phase_resolving_grid(cost: Callable[..., Any], data: tuple, hbar: float, limits: Any) -> np.ndarray:
    """θ so dense that the phase turns by 1/20 from one to the next."""
    if np.shape(limits) != (2,) or not limits[0] < limits[1]:
        raise ValueError(f"limits are the first and the last θ, rising; got {limits}")
    coarse = np.linspace(limits[0], limits[1], 2001)
    turned = np.abs(np.diff(np.asarray(_costs(cost, coarse[:, None], data), float))).sum() / abs(hbar)
    if not 20 * turned <= MAX_POINTS:
        raise ValueError(
            f"the phase turns by {turned:.0f} between the limits; pass narrower ones or more hbar"
        )
    return np.linspace(limits[0], limits[1], max(2001, int(20 * turned)))


def _colors(count: int, cycle: tuple[str, ...] = CYCLE) -> list[str]:
    return [cycle[k % len(cycle)] for k in range(count)]


@in_own_precision
def _shape(cost: Callable[..., Any], params: np.ndarray, data: tuple) -> tuple[int, ...]:
    """That of the cost, which is traced and not computed."""
    return jax.eval_shape(lambda theta: jnp.asarray(cost(theta, *data)), params).shape


@in_own_precision
def _costs(cost: Callable[..., Any], params: np.ndarray, data: tuple) -> Any:
    return jax.vmap(lambda theta: cost(theta, *data))(params)


@in_own_precision
def _costs_and_gradients(cost: Callable[..., Any], params: np.ndarray, data: tuple) -> Any:
    return jax.vmap(jax.value_and_grad(lambda theta: cost(theta, *data)))(params)
