"""`jaxreg tour`: the seven steps of the seed paper, in numbers and pictures, on a cell of the Pacific."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import optax

from jaxreg import datasets
from jaxreg.cost import mean_squared_error, residuals
from jaxreg.engine.moments import Moments
from jaxreg.fitting import fit, moments
from jaxreg.mechanics.flow import Flow, exact_flow, momentum
from jaxreg.mechanics.path_integral import laplace, stationary_phase
from jaxreg.mechanics.phase_space import Trajectory
from jaxreg.solvers.closed_form import closed_form
from jaxreg.solvers.descent import Descent, descend

LAT, LON = 37.5, 137.5
START = np.array([1.0, -0.8])  # of flow and descents, in K
LEARNING_RATES = (0.02, 0.1, 0.3)
STEPS = 100
INSIDE = 0.8  # quantile of |β₀| and |β₁| shown of lines through two winters
ARROWS = 13  # a side
HBAR = 0.02  # K²
X_LABEL, Y_LABEL = "time, 1963 at −1 and 2012 at 1", "temperature anomaly (K)"
NAMES = ("β₀ (K)", "β₁ (K)")


@dataclass(frozen=True)
class Step:
    """A step of the tour.

    Attributes:
        name: of its picture.
        title: its subject, with the numbers of the equations.
        lines: its results.
        draw: draws its picture as the current figure.
    """

    name: str
    title: str
    lines: list[str]
    draw: Callable[[], Any]


def steps() -> Iterator[Step]:
    """The seven steps, each computed when it is asked for."""
    cell = _Cell()
    for step in (_ansatz, _contradictions, _action, _momenta, _turning_point, _path_integral, _descent):
        yield step(cell)


class _Cell:
    """The data and the results that several steps share."""

    def __init__(self) -> None:
        cell = datasets.pacific_sst().sst.sel(lat=LAT, lon=LON)
        self.years = cell.year.values
        self.x = np.linspace(-1, 1, len(self.years))
        self.y = cell.values.astype(np.float64)

    @cached_property
    def moments(self) -> Moments:
        return moments(self.x, self.y)

    @cached_property
    def flow(self) -> Flow:
        return exact_flow(self.moments)

    @cached_property
    def trajectory(self) -> Trajectory:
        return self.flow.trajectory(START, np.linspace(0, 5 * self.flow.half_lives.max(), 200))

    @cached_property
    def descents(self) -> dict[float, Descent]:
        def at(rate: float) -> Descent:
            data = (mean_squared_error, START, self.x, self.y)
            return descend(*data, optimizer=optax.sgd(rate), steps=STEPS, history=True)

        return {rate: at(rate) for rate in LEARNING_RATES}


def _ansatz(cell: _Cell) -> Step:
    epsilon = np.asarray(residuals(START, cell.x, cell.y))
    return Step(
        "1_ansatz",
        "The ansatz y = β₀ + β₁x + ε (1, 3, 4)",
        [
            f"{len(cell.y)} winters at {LAT}° N, {LON}° E: x is time from −1 ({cell.years[0]}) to 1 "
            f"({cell.years[-1]}), y in K",
            f"at θ = ({START[0]:g}, {START[1]:g}) ε is from {epsilon.min():.2f} to {epsilon.max():.2f} K",
        ],
        lambda: _plot().fit(fit(cell.x, cell.y), cell.x, cell.y, x_label=X_LABEL, y_label=Y_LABEL),
    )


def _contradictions(cell: _Cell) -> Step:
    pairs = pairwise(zip(cell.x, cell.y, strict=True))
    exact = np.array([_through(a, b, c, d) for (a, b), (c, d) in pairs])
    slopes = exact[:, 1]

    def draw() -> None:
        reach = 1.05 * np.quantile(np.abs(exact), INSIDE, axis=0)  # not set by the steepest lines
        outside = int((np.abs(exact) > reach).any(axis=1).sum())
        ax = _plot().axes(None)
        ax.plot(*exact.T, ".", color="0.5", label="through two neighboring winters each")
        ax.plot(*cell.flow.turning_point, "*", markersize=12, label="least squares, all winters")
        ax.set(xlabel=NAMES[0], ylabel=NAMES[1], xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]))
        title = f"lines through the data; {outside} of {len(exact)} lie outside the axes"
        ax.set_title(title, fontsize="medium", loc="left", pad=40)
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderpad": 0}
        ax.legend(fontsize="small", frameon=False, **above)

    return Step(
        "2_contradictions",
        "Why not ε = 0 at every point (5)",
        [
            f"{len(cell.y)} equations for 2 unknowns: the lines through two neighboring winters each",
            f"have slopes from {slopes.min():.1f} to {slopes.max():.1f} K",
        ],
        draw,
    )


def _through(a: float, b: float, c: float, d: float) -> tuple[float, float]:
    slope = (d - b) / (c - a)
    return b - slope * a, slope


def _action(cell: _Cell) -> Step:
    ends = np.asarray(cell.trajectory.params)[[0, -1]]
    first, last = (float(mean_squared_error(theta, cell.x, cell.y)) for theta in ends)
    return Step(
        "3_action",
        "The action S = εᵀε / n (6)",
        [f"S = {first:.4f} K² at the start and {last:.4f} K² after five half-lives of the flow"],
        lambda: _plot().cost_surface(
            mean_squared_error, cell.x, cell.y, flows=[cell.trajectory], names=NAMES, label="S (K²)"
        ),
    )


def _momenta(cell: _Cell) -> Step:
    p = np.asarray(momentum(mean_squared_error, START, cell.x, cell.y))
    (_, mean_x), (_, mean_xx) = np.asarray(cell.moments.gram)
    mean_y, mean_xy = np.asarray(cell.moments.cross)
    by_means = -2 * np.array(
        [mean_y - START[0] - START[1] * mean_x, mean_xy - START[0] * mean_x - START[1] * mean_xx]
    )
    rates, lives = np.asarray(cell.flow.rates), np.asarray(cell.flow.half_lives)

    def draw() -> None:
        point = np.asarray(cell.flow.turning_point)
        reach = 1.25 * np.abs(START - point)
        b0, b1 = (np.linspace(middle - r, middle + r, ARROWS) for middle, r in zip(point, reach, strict=True))
        theta = np.stack(np.meshgrid(b0, b1)).reshape(2, -1)
        velocity = -np.asarray(cell.flow.hessian) @ (theta - point[:, None])
        times = np.linspace(0, 10 * lives.max(), 400)
        ax = _plot().axes(None, (5.5, 5.0))
        ax.quiver(*theta, *velocity, color="0.6", angles="xy", width=0.003)
        for corner in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            start = point + corner * np.abs(START - point)
            ax.plot(*cell.flow.trajectory(start, times).params.T, color="#0072B2")
            ax.plot(*start, "o", color="#0072B2", markersize=5)
        ax.plot(*point, "*", color="#D55E00", markersize=14)
        ax.set(xlabel=NAMES[0], ylabel=NAMES[1], aspect="equal")
        ax.set_title("arrows: −p; curves: the flow θ̇ = −p; star: p = 0", fontsize="medium", loc="left")

    return Step(
        "4_momenta",
        "The momenta p = ∂S and the flow θ̇ = −p (8, 10 to 13)",
        [
            f"p = ({p[0]:.4f}, {p[1]:.4f}) K by automatic differentiation,",
            f"    ({by_means[0]:.4f}, {by_means[1]:.4f}) K from ⟨x⟩, ⟨y⟩, ⟨xy⟩, ⟨x²⟩",
            f"∇²S has the eigenvalues {rates[0]:.3f} and {rates[1]:.3f}: half-lives {lives[0]:.3f} and "
            f"{lives[1]:.3f}",
        ],
        draw,
    )


def _turning_point(cell: _Cell) -> Step:
    theta = np.asarray(closed_form(cell.moments))
    p = float(np.abs(momentum(mean_squared_error, theta, cell.x, cell.y)).max())
    line = fit(cell.x, cell.y)
    return Step(
        "5_turning_point",
        "The turning point p = 0 in closed form (7, 14, 15)",
        [
            f"β₁ = cov(x, y) / var(x) = {theta[1]:.5f} K, β₀ = ⟨y⟩ − β₁⟨x⟩ = {theta[0]:.5f} K",
            f"at this point |p| = {p:.0e} K; the slope is {line.params[1]:.3f} ± {line.bse[1]:.3f} K, "
            f"P = {line.pvalues[1]:.3f}",
        ],
        lambda: _plot().residuals(line, cell.x, cell.y, y_label="anomaly (K)"),
    )


def _path_integral(cell: _Cell) -> Step:
    point = stationary_phase(mean_squared_error, START, cell.x, cell.y, hbar=HBAR)
    line = fit(cell.x, cell.y)
    temperature = float(2 * line.scale / line.nobs)
    gaussian = laplace(mean_squared_error, START, cell.x, cell.y, temperature=temperature)
    spread = np.sqrt(np.diag(gaussian.covariance))
    (b0, b1), action, size = point.points[0], float(point.actions[0]), abs(point.amplitude)

    def along_slope(theta: Any, intercept: Any, x: Any, y: Any) -> Any:
        return mean_squared_error(jax.numpy.stack([intercept, theta[0]]), x, y)

    def draw() -> None:
        data = (np.asarray(cell.flow.turning_point)[0], cell.x, cell.y)
        result = stationary_phase(along_slope, START[1:], *data, hbar=HBAR)
        limits = float(b1) - 1.5, float(b1) + 1.5
        _plot().amplitude(along_slope, *data, hbar=HBAR, limits=limits, stationary=result)

    return Step(
        "6_path_integral",
        "The path integral 𝒜 = ∫dθ exp(iS/ħ) (9)",
        [
            f"one stationary point, ({b0:.5f}, {b1:.5f}) K, S = {action:.4f} K²; for ħ = {HBAR} K² "
            f"|𝒜| = {size:.4f} K², exactly",
            f"with i/ħ → −1/T and T = 2σ²/n = {temperature:.4f} K² it is a Gaussian, ± {spread[0]:.3f} and "
            f"± {spread[1]:.3f} K: the standard errors",
            "the picture of --plots shows the integral over β₁ alone, with β₀ at its turning point",
        ],
        draw,
    )


def _descent(cell: _Cell) -> Step:
    rates = cell.flow.learning_rates
    best = np.asarray(cell.flow.turning_point)
    errors = {alpha: np.abs(np.asarray(end.params) - best).max() for alpha, end in cell.descents.items()}
    ends = [
        f"α = {alpha}: {STEPS} steps end {error:.0e} K from the turning point"
        for alpha, error in errors.items()
    ]
    return Step(
        "7_descent",
        "Gradient descent θ ← θ − α∇S (16)",
        [f"any α below {rates.largest:.3f} converges, {rates.best:.3f} fastest", *ends],
        lambda: _plot().descent(cell.descents, cell.flow, label="S − S* (K²)"),
    )


def _plot() -> Any:
    from jaxreg import plot

    return plot
