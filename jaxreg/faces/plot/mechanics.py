"""Phase portraits, convergence of descents, and the amplitude ∫ e^{iS/ħ} dθ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxreg.faces.plot._axes import CYCLE, MARKERS, ORANGE, STYLES, axes, colors, need, number
from jaxreg.faces.plot._costs import check_cost, costs_and_gradients, costs_of
from jaxreg.mechanics.flow import Flow
from jaxreg.mechanics.path_integral import StationaryPhase
from jaxreg.mechanics.phase_space import Trajectory
from jaxreg.solvers.descent import Descent, History

MAX_POINTS = 400_000
MAX_BENT = 0.3  # of ħ S″ / S′² where the integral beyond a limit is known
ARROW: dict[str, Any] = {"arrowstyle": "->", "color": ORANGE, "lw": 1.5}


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
    for k, (path, color) in enumerate(zip(paths, colors(ax, len(paths)), strict=True)):
        style = STYLES[k % len(STYLES)]
        theta, velocity = np.asarray(path.params), np.asarray(path.velocity)
        label = labels[k] if labels else None
        ax.plot(theta[:, param], velocity[:, param], style, color=color, label=label)
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
    expected = "descent draws {learning_rate: descend(..., history=True)}"
    need(Mapping, descents, expected)
    if not descents or not all(np.isreal(alpha) for alpha in descents):
        raise ValueError(f"{expected}; got the learning rates {list(descents)}")
    need(Flow, flow, "descent compares with a Flow, such as exact_flow(moments(x, y))")
    if flow.cost.shape:
        raise ValueError(f"descent draws one data set; got the flow of data sets {flow.cost.shape}")
    histories = {alpha: _history(descent, flow) for alpha, descent in descents.items()}
    ax = axes(ax)
    for k, ((alpha, history), color) in enumerate(
        zip(histories.items(), colors(ax, len(histories)), strict=True)
    ):
        steps = np.arange(len(history.cost))
        predicted = flow.iteration(history.params[0], alpha, steps)
        eps = max(np.finfo(history.cost.dtype).eps, np.finfo(flow.cost.dtype).eps)
        rounding = 8 * eps * np.abs(float(history.cost[0]))
        measured, exact = (
            _above(rounding, np.asarray(costs, float) - float(flow.cost))
            for costs in (history.cost, predicted.cost)
        )
        mark = {"marker": MARKERS[k % len(MARKERS)], "markevery": max(1, len(steps) // 8), "markersize": 7}
        label_of_rate = f"α = {number(alpha)}"
        ax.semilogy(steps, measured, color=color, lw=4, alpha=0.5, label=label_of_rate, **mark)
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
    stationary: StationaryPhase | None = None,
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
        stationary: `stationary_phase` of the same cost; its points are marked.
        ax: where to draw.

    Returns:
        The axes.
    """
    if stationary is not None:
        need(StationaryPhase, stationary, "stationary is what stationary_phase(cost, ...) returns")
        if stationary.points.shape[-1] != 1:
            raise ValueError(
                f"amplitude draws a cost of one param; stationary.points have {stationary.points.shape[-1]}"
            )
    if np.ndim(hbar) or not hbar:
        raise ValueError(f"hbar is one number other than 0; got {hbar}")
    check_cost(cost, 1, data, "amplitude")
    theta = _phase_resolving_grid(cost, data, hbar, limits)
    S, gradient = (np.asarray(a, np.float64) for a in costs_and_gradients(cost, theta[:, None], data))
    gradient = gradient[:, 0]
    phase = np.exp(1j * S / hbar)
    path = np.append(0, np.cumsum((phase[1:] + phase[:-1]) / 2 * np.diff(theta)))
    re, im = np.real(path), np.imag(path)
    ax = axes(ax, (5.0, 4.0))
    ax.plot(re, im, color=colors(ax, 1)[0], lw=0.8)
    title = f"ħ = {number(hbar)}"
    rises = re[-1] * im[-1] >= 0
    if _are_far(theta, gradient, hbar):
        tails = 1j * hbar * phase[[0, -1]] / gradient[[0, -1]]  # of the integral beyond both limits
        start, end = path[0] + tails[0], path[-1] + tails[1]
        ax.annotate("", (end.real, end.imag), (start.real, start.imag), arrowprops=ARROW)
        title += f"; arrow: the amplitude, |A| = {number(abs(end - start))}"
    if stationary is not None:
        points, actions = np.asarray(stationary.points)[:, 0], np.asarray(stationary.actions)
        drawn = (theta[0] <= points) & (points <= theta[-1])
        palette = colors(ax, int(drawn.sum()), CYCLE[2:])  # neither the curve's color nor the arrow's
        for k, (point, action, color) in enumerate(zip(points[drawn], actions[drawn], palette, strict=True)):
            place = np.interp(point, theta, re), np.interp(point, theta, im)
            text = f"θ* = {number(point)}, S = {number(action)}"
            ax.plot(*place, MARKERS[k % len(MARKERS)], color=color, markersize=6, label=text)
        if drawn.any():
            corner = "upper left" if rises else "upper right"  # the windings fill the other two corners
            ax.legend(loc=corner, fontsize="small", frameon=False)
    ax.set(xlabel="Re ∫ exp(iS/ħ) dθ", ylabel="Im ∫ exp(iS/ħ) dθ")
    ax.set_aspect("equal", adjustable="datalim")
    ax.xaxis.set_major_locator(MaxNLocator(6, prune="both"))  # equal scales move the limits after the layout
    ax.set_title(title, fontsize="medium", loc="left")
    return ax


def _history(descent: Any, flow: Flow) -> History:
    """The history of a descent in the params of the flow."""
    need(Descent, descent, "descent draws {learning_rate: descend(..., history=True)}")
    if descent.history is None:
        raise ValueError("descent draws histories: descend(..., history=True)")
    shape, p = np.shape(descent.history.params), len(flow.turning_point)
    if shape[1:] != (p,):
        raise ValueError(f"descent draws params of shape (steps, {p}), as the flow has them; got {shape}")
    return descent.history


def _above(least: float, values: np.ndarray) -> np.ndarray:
    return np.where(values > least, values, np.nan)


def _are_far(theta: np.ndarray, gradient: np.ndarray, hbar: float) -> bool:
    """Whether ħ S″ ≪ S′² at both limits: then the integral beyond them is known."""
    curvature = np.gradient(gradient, theta)[[0, -1]]
    return bool((np.abs(hbar * curvature) < MAX_BENT * gradient[[0, -1]] ** 2).all())


def _phase_resolving_grid(cost: Callable[..., Any], data: tuple, hbar: float, limits: Any) -> np.ndarray:
    """θ so dense that the phase turns by 1/20 from one to the next."""
    if np.shape(limits) != (2,) or not limits[0] < limits[1]:
        raise ValueError(f"limits are the first and the last θ, rising; got {limits}")
    coarse = np.linspace(limits[0], limits[1], 2001)
    turned = np.abs(np.diff(np.asarray(costs_of(cost, coarse[:, None], data), float))).sum() / abs(hbar)
    if not 20 * turned <= MAX_POINTS:
        raise ValueError(
            f"the phase turns by {turned:.0f} between the limits; pass narrower ones or more hbar"
        )
    return np.linspace(limits[0], limits[1], max(2001, int(20 * turned)))
