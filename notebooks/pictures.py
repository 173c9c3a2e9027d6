"""The pictures of the sixteen equations, with the points of their pages; drawn while the site is built."""

import os
from pathlib import Path

import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxreg
from jaxreg import mean_squared_error, plot

X, Y = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 4.0, 8.0])
GUESS = np.array([0.0, 2.0])
DENSE = np.linspace(-0.5, 3.5, 50)
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "0.35"
NAMES = ("intercept β₀", "slope β₁")
LIMITS = ((-2.5, 4.0), (0.5, 4.0))


def draw(folder: Path) -> None:
    """Write 01.svg to 16.svg into a folder."""
    folder.mkdir(exist_ok=True)
    style = {"svg.hashsalt": "jaxreg", "svg.fonttype": "path", "font.size": 11, "axes.spines.top": False}
    with matplotlib.rc_context({**style, "axes.spines.right": False, "backend": "agg"}):
        for number, picture in enumerate(PICTURES, start=1):
            figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
            picture(ax)
            written = folder / f"{number:02}.{os.getpid()}.svg"
            figure.savefig(written, metadata={"Date": None})
            written.replace(folder / f"{number:02}.svg")  # whole, also while another build reads it
            plt.close(figure)


def lines(ax):
    for intercept, slope, color in ((0, 2, BLUE), (2, 1, ORANGE), (7, -1, GREEN)):
        label = f"β₀ = {intercept}, β₁ = {slope}".replace("-", "−")
        ax.plot(DENSE, intercept + slope * DENSE, color=color, label=label)
        ax.plot(0, intercept, "o", color=color)
    ax.axvline(0, color="0.8", lw=1, zorder=0)
    ax.set(xlabel="x", ylabel="β₀ + β₁x", title="dots: the intercepts")
    ax.legend(frameon=False)


def columns(ax):
    sst = jaxreg.datasets.pacific_sst().sst
    table = sst.values[:, 8:12].reshape(len(sst), -1)
    image = ax.pcolormesh(
        np.arange(table.shape[1]), sst.year, table, cmap="RdBu_r", vmin=-2.5, vmax=2.5, rasterized=True
    )
    ax.set_facecolor("0.8")
    ax.figure.colorbar(image, label="temperature anomaly (K)")
    ax.set(xlabel="data set (a cell of the Pacific)", ylabel="observation (a winter)")
    ax.set_title(f"n = {len(sst)} rows, m = {table.shape[1]} columns; gray: no data", fontsize="medium")


def _points(ax, theta, label):
    ax.plot(DENSE, theta[0] + theta[1] * DENSE, color=BLUE, label=label)
    ax.plot(X, Y, "o", color=GRAY, label="data")
    ax.set(xlabel="x", ylabel="y")


def errors(ax):
    _points(ax, GUESS, "β₀ + β₁x at θ = (0, 2)")
    ax.vlines(X, GUESS[0] + GUESS[1] * X, Y, color=ORANGE, lw=2, label="ε")
    ax.legend(frameon=False)


def residuals(ax):
    best = jaxreg.fit(X, Y).params
    for theta, color, shift, name in ((GUESS, ORANGE, -0.04, "(0, 2)"), (best, BLUE, 0.04, "(0.7, 2.2)")):
        epsilon = np.asarray(jaxreg.residuals(theta, X, Y))
        ax.vlines(X + shift, 0, epsilon, color=color, lw=2)
        ax.plot(X + shift, epsilon, "o", color=color, label=f"θ = {name}")
    ax.axhline(0, color=GRAY, lw=1)
    ax.set(xlabel="x", ylabel="ε(θ) = y − (β₀ + β₁x)", xticks=X)
    ax.legend(frameon=False)


def contradictions(ax):
    slopes = np.linspace(*LIMITS[1], 2)
    for a, b, color in zip(X, Y, (BLUE, ORANGE, GREEN, PURPLE), strict=True):
        ax.plot(b - slopes * a, slopes, color=color, label=f"through ({a:g}, {b:g})")
    ax.set(xlabel=NAMES[0], ylabel=NAMES[1], xlim=LIMITS[0], ylim=LIMITS[1])
    ax.set_title("ε = 0 at one point each: no θ is on all four", fontsize="medium")
    ax.legend(frameon=False, loc="upper right")


def action(ax):
    plot.cost_surface(mean_squared_error, X, Y, limits=LIMITS, names=NAMES, ax=ax)
    ax.plot(*jaxreg.fit(X, Y).params, "*", color="white", markersize=12)
    ax.set_title("star: the minimum", fontsize="medium")


def two_conditions(ax):
    (_, mean_x), (_, mean_xx) = np.asarray(jaxreg.moments(X, Y).gram)
    mean_y, mean_xy = np.asarray(jaxreg.moments(X, Y).cross)
    slopes = np.linspace(*LIMITS[1], 2)
    ax.plot(mean_y - mean_x * slopes, slopes, color=BLUE, label="∂S/∂β₀ = 0")
    ax.plot((mean_xy - mean_xx * slopes) / mean_x, slopes, color=ORANGE, label="∂S/∂β₁ = 0")
    ax.plot(*jaxreg.fit(X, Y).params, "*", color=GRAY, markersize=14, label="both")
    ax.set(xlabel=NAMES[0], ylabel=NAMES[1], xlim=LIMITS[0], ylim=LIMITS[1])
    ax.legend(frameon=False)


def momenta(ax):
    flow = jaxreg.exact_flow(jaxreg.moments(X, Y))
    b0, b1 = np.meshgrid(np.linspace(-2.2, 3.7, 12), np.linspace(0.8, 3.7, 9))
    p = np.einsum(
        "ij,jab->iab", flow.hessian, np.stack([b0, b1]) - np.asarray(flow.turning_point)[:, None, None]
    )
    ax.quiver(b0, b1, *-p, color="0.6", angles="xy", width=0.003)
    for start in ((-2, 3.7), (0, 2), (3.5, 3), (3, 0.8)):
        path = flow.trajectory(np.array(start, float), np.geomspace(1e-3, 60, 300)).params
        ax.plot(*np.vstack([start, path]).T, color=BLUE)
        ax.plot(*start, "o", color=BLUE)
    ax.plot(*flow.turning_point, "*", color=ORANGE, markersize=14)
    ax.set(xlabel=NAMES[0], ylabel=NAMES[1], xlim=LIMITS[0], ylim=LIMITS[1])
    ax.set_title("arrows: −p; curves: θ̇ = −p; star: p = 0", fontsize="medium")


def spiral(ax):
    def along_slope(theta, x, y):
        return mean_squared_error(jnp.stack([jnp.asarray(0.7), theta[0]]), x, y)

    options = {"hbar": 0.2, "limits": (-0.3, 4.7)}
    point = jaxreg.stationary_phase(along_slope, np.array([2.0]), X, Y, hbar=0.2)
    plot.amplitude(along_slope, X, Y, **options, stationary=point, ax=ax)


def _terms(ax, terms, name):
    total = terms.sum()
    ax.bar(X, terms, width=0.5, color=BLUE, label="term of each observation")
    ax.axhline(total, color=ORANGE, label=f"sum: {name} = {total:g}".replace("-", "−"))
    ax.axhline(0, color=GRAY, lw=1)
    ax.set(xlabel="x", ylabel=f"{name} at θ = (0, 2)", xticks=X, ylim=(-4, 0.8))
    ax.legend(frameon=False, loc="lower left")


def sum_of_residuals(ax):
    _terms(ax, -2 / 4 * np.asarray(jaxreg.residuals(GUESS, X, Y)), "∂S/∂β₀")


def sum_of_products(ax):
    _terms(ax, -2 / 4 * X * np.asarray(jaxreg.residuals(GUESS, X, Y)), "∂S/∂β₁")


def _of_time(ax, param):
    flow = jaxreg.exact_flow(jaxreg.moments(X, Y))
    times = np.linspace(0, 8, 200)
    path = np.asarray(flow.trajectory(GUESS, times).params)[:, param]
    ax.plot(times, path, color=BLUE, label="the flow from θ = (0, 2)")
    ax.axhline(flow.turning_point[param], color=ORANGE, ls="--", label="turning point")
    ax.set(xlabel="time t", ylabel=NAMES[param])
    ax.legend(frameon=False, loc="lower right" if param == 0 else "upper right")


def intercept_of_time(ax):
    _of_time(ax, 0)


def slope_of_time(ax):
    _of_time(ax, 1)


def covariance(ax):
    u, v = X - X.mean(), Y - Y.mean()
    for a, b in zip(u, v, strict=True):
        ax.fill_between([0, a], 0, b, color=BLUE, alpha=0.25, lw=0)
    ax.plot(u, v, "o", color=GRAY)
    ax.plot(u, 2.2 * u, color=BLUE, label="slope 2.2 = 2.75 / 1.25")
    ax.axhline(0, color=GRAY, lw=1)
    ax.axvline(0, color=GRAY, lw=1)
    ax.set(xlabel="x − ⟨x⟩", ylabel="y − ⟨y⟩")
    ax.set_title("rectangles: the products whose mean is the covariance", fontsize="medium")
    ax.legend(frameon=False)


def center(ax):
    _points(ax, (0.7, 2.2), "0.7 + 2.2 x")
    ax.plot(X.mean(), Y.mean(), "s", color=ORANGE, label="(⟨x⟩, ⟨y⟩) = (1.5, 4)")
    ax.plot(0, 0.7, "D", color=GREEN, label="β₀ = 0.7")
    ax.axvline(0, color="0.8", lw=1, zorder=0)
    ax.legend(frameon=False)


def descent(ax):
    def of(rate):
        step = optax.sgd(rate)
        return jaxreg.descend(mean_squared_error, GUESS, X, Y, optimizer=step, steps=60, history=True)

    descents = {rate: of(rate) for rate in (0.01, 0.1, 0.22, 0.24)}
    plot.descent(descents, jaxreg.exact_flow(jaxreg.moments(X, Y)), ax=ax)


PICTURES = (
    lines,
    columns,
    errors,
    residuals,
    contradictions,
    action,
    two_conditions,
    momenta,
    spiral,
    sum_of_residuals,
    sum_of_products,
    intercept_of_time,
    slope_of_time,
    covariance,
    center,
    descent,
)
