"""Data, what was fitted to them, and what is left."""

from __future__ import annotations

from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from jaxreg.faces.plot._axes import BLUE, DATA, ORANGE, axes
from jaxreg.inference.result import Fit


def fit(
    found: Fit,
    x: Any,
    y: Any,
    *,
    alpha: float = 0.05,
    x_label: str = "x",
    y_label: str = "y",
    ax: Axes | None = None,
) -> Axes:
    """The data of one data set, the fitted curve, its confidence band and the band of new observations.

    Args:
        found: the fit of one data set, such as `fits[12, 4]`.
        x: (n,).
        y: (n,).
        alpha: the bands hold 1 − alpha.
        x_label: what x is, with units.
        y_label: what y is, with units.
        ax: where to draw.

    Returns:
        The axes.
    """
    x, y = _column(found, x, y)
    ax = axes(ax)
    dense = np.linspace(np.nanmin(x), np.nanmax(x), 200, dtype=x.dtype)
    new, low_new, high_new = _predicted(found, dense, "prediction", alpha)
    _, low, high = _predicted(found, dense, "confidence", alpha)
    share = f"{100 * (1 - alpha):.6g} %"
    ax.fill_between(
        dense, low_new, high_new, color=BLUE, alpha=0.12, lw=0, label=f"{share} of new observations"
    )
    ax.fill_between(dense, low, high, color=BLUE, alpha=0.35, lw=0, label=f"{share} confidence")
    ax.plot(dense, new, color=BLUE, label="fit")
    ax.plot(x, y, ".", color=DATA, markersize=5, label="data")
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.legend(fontsize="small", frameon=False)
    return ax


def residuals(
    fit: Fit,
    x: Any,
    y: Any,
    *,
    weights: Any = None,
    y_label: str = "y",
    axs: np.ndarray | None = None,
) -> np.ndarray:
    """Four looks at what is left of one data set: its mean, its distribution, its spread, its leverage.

    Residuals are in units of their own standard error, r = √w ε / (σ √(1 − h)) with the leverage
    h = w φᵀ(ΦᵀWΦ)⁻¹φ, but for the first panel.

    Args:
        fit: of one data set, with `cov_type="nonrobust"`.
        x: (n,), or (n, k) where the ansatz takes vectors.
        y: (n,).
        weights: those of the fit, (n,).
        y_label: what y is, with units.
        axs: four axes.

    Returns:
        The four axes.

    Source: J. M. Chambers, Graphical Methods for Data Analysis (1983), as R's `plot.lm` has it.
    """
    if fit.shape:
        raise ValueError(f"residuals draws one data set, such as fits[0]; got data sets {fit.shape}")
    if fit.cov_type != "nonrobust":
        raise ValueError(f'residuals needs the fit with cov_type="nonrobust", got {fit.cov_type!r}')
    given = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")[1] if axs is None else axs
    four = np.asarray(given).ravel()
    if len(four) != 4:
        raise ValueError(f"residuals draws into four axes, got {len(four)}")
    flat, quantiles, spread, pull = four
    x, y = np.asarray(x), np.asarray(y)
    w = np.ones(len(y)) if weights is None else np.asarray(weights)
    if y.ndim != 1 or w.shape != y.shape or len(x) != len(y):
        raise ValueError(f"x, y and weights are of one length, got {x.shape}, {y.shape} and {w.shape}")
    there = np.isfinite(y) & np.isfinite(x.reshape(len(x), -1)).all(axis=1) & (w > 0)
    x, y, w = x[there], y[there], w[there]
    fitted = np.asarray(fit.predict(x))
    phi = np.asarray(fit.ansatz.features(x))
    leverage = w * np.einsum("np,pq,nq->n", phi, np.asarray(fit.cov_params() / fit.scale), phi)
    left = y - fitted
    standard = np.sqrt(w) * left / np.sqrt(float(fit.scale) * np.maximum(1 - leverage, 1e-12))

    _scatter(flat, fitted, left, f"fitted {y_label}", f"residual of {y_label}", "no trend left?")
    normal = np.asarray(jax.scipy.stats.norm.ppf((np.arange(len(y)) + 0.5) / len(y)))
    quantiles.plot(normal, normal, color="0.6", lw=1)
    _scatter(quantiles, normal, np.sort(standard), "normal quantile", "standardized residual", "normal?")
    _scatter(
        spread,
        fitted,
        np.sqrt(np.abs(standard)),
        f"fitted {y_label}",
        "√|standardized residual|",
        "one size?",
    )
    _scatter(pull, leverage, standard, "leverage", "standardized residual", "no single one decides?")
    for ax in (flat, pull):
        ax.axhline(0, color="0.6", lw=1, zorder=0)
    return four


def pvalues(values: Any, *, bins: int = 20, ax: Axes | None = None) -> Axes:
    """A histogram of p-values beside the uniform one that there would be with nothing to find.

    Args:
        values: the p-values, of any shape; NaN is left out.
        bins: how many.
        ax: where to draw.

    Returns:
        The axes.
    """
    p = np.ravel(values)
    p = p[~np.isnan(p)]
    if not p.size or p.min() < 0 or p.max() > 1:
        raise ValueError(f"p-values are from 0 to 1, and not all NaN; got {p if p.size else 'none'}")
    ax = axes(ax)
    ax.hist(p, bins=bins, range=(0, 1), density=True, color=BLUE, alpha=0.7, label=f"{p.size:,} p-values")
    ax.axhline(1, color=ORANGE, ls="--", label="nothing to find")
    ax.set(xlabel="p-value", ylabel="density", xlim=(0, 1))
    ax.set_title(f"{np.mean(p < 0.05):.1%} are below 0.05", fontsize="medium", loc="left")
    ax.legend(fontsize="small", frameon=False)
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
        ax.plot(x, y[:, j], ".", color=DATA, markersize=4)
        ax.plot(dense, curves[:, j], color=ORANGE)
        ax.set_title(names[j] if names else str(j), fontsize="medium")
    figure.supxlabel(x_label, fontsize="medium")
    figure.supylabel(y_label, fontsize="medium")
    return axes.ravel()[:m]


def _column(fit: Fit, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype.kind not in "fiu":
        raise TypeError(f"x holds {x.dtype}; pass the numbers that were fitted")
    if fit.shape or x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"one data set is drawn against one x, such as fits[0], x, y[:, 0]; got data sets {fit.shape}, "
            f"x {x.shape} and y {y.shape}"
        )
    return x if x.dtype.kind == "f" else x.astype(float), y


def _predicted(fit: Fit, x: np.ndarray, interval: str, alpha: float) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(a) for a in fit.predict(x, interval=interval, alpha=alpha))


def _scatter(ax: Axes, x: np.ndarray, y: np.ndarray, x_label: str, y_label: str, title: str) -> None:
    ax.plot(x, y, ".", color=BLUE, markersize=5)
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.set_title(title, fontsize="medium", loc="left")
