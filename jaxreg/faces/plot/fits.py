"""Data with their fitted curves, residuals and p-values."""

from __future__ import annotations

from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from jaxreg.curves.curve import Curve
from jaxreg.data.labels import title_of
from jaxreg.faces.plot._axes import BLUE, ORANGE, axes, color_on, ink, need_fit, numbers, write_status
from jaxreg.inference.result import Fit


def fit(
    result: Fit,
    x: Any,
    y: Any,
    *,
    alpha: float = 0.05,
    x_label: str | None = None,
    y_label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One data set, its fitted curve, the confidence band of the curve and the prediction interval.

    Args:
        result: the fit of one data set, such as `fits[12, 4]`.
        x: (n,).
        y: (n,).
        alpha: 1 − the confidence level of both bands.
        x_label: what x is, with units; from the attributes or the name of x if omitted.
        y_label: what y is, with units; from those of y if omitted.
        ax: where to draw.

    Returns:
        The axes, with the status written into them if it is not `ok`.
    """
    need_fit(result, "fit")
    x_label, y_label = x_label or title_of(x, "x"), y_label or title_of(y, "y")
    x, y = _column(result, x, y)
    dense = dense_in(x)
    ax = axes(ax)
    blue = color_on(ax, BLUE)
    mean, low_new, high_new = _predicted(result, dense, "prediction", alpha)
    _, low, high = _predicted(result, dense, "confidence", alpha)
    level = f"{100 * (1 - alpha):.6g}%"
    interval, band = f"{level} prediction interval", f"{level} confidence band"
    ax.fill_between(dense, low_new, high_new, color=blue, alpha=0.15, lw=0, label=interval)
    ax.fill_between(dense, low, high, color=blue, alpha=0.4, lw=0, label=band)
    ax.plot(dense, mean, color=blue, label="fit")
    ax.plot(x, y, ".", color=ink(ax), alpha=0.8, markersize=5, label="data")
    write_status(ax, result.status)
    ax.set(xlabel=x_label, ylabel=y_label, xlim=_with_margin(dense))
    if np.isfinite(y).any():
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderpad": 0}
        ax.legend(ncols=2, fontsize="small", frameon=False, **above)
    else:
        ax.set_yticks([])
    return ax


def residuals(
    fit: Fit,
    x: Any,
    y: Any,
    *,
    weights: Any = None,
    y_label: str | None = None,
    axs: np.ndarray | None = None,
) -> np.ndarray:
    """Residuals of one data set against fitted values, normal quantiles and leverage, and their spread.

    From the second panel on they are standardized, r = √w ε / (σ √(1 − h)) with the leverage
    h = w φᵀ(ΦᵀWΦ)⁻¹φ.

    Args:
        fit: of one data set, with `cov_type="nonrobust"`.
        x: (n,), or (n, k) where the ansatz takes vectors.
        y: (n,).
        weights: those of the fit, (n,).
        y_label: what y is, with units; from those of y if omitted.
        axs: four axes.

    Returns:
        The four axes.

    Source: J. M. Chambers, Graphical Methods for Data Analysis (1983), as R's `plot.lm` has it.
    """
    need_fit(fit, "residuals")
    if fit.shape:
        raise ValueError(f"residuals draws one data set, such as fits[0]; got data sets {fit.shape}")
    if fit.cov_type != "nonrobust":
        raise ValueError(f'residuals needs the fit with cov_type="nonrobust", got {fit.cov_type!r}')
    given = plt.subplots(2, 2, figsize=(6.4, 5.2), layout="constrained")[1] if axs is None else axs
    four = np.asarray(given).ravel()
    if len(four) != 4:
        raise ValueError(f"residuals draws into four axes, got {len(four)}")
    against_fitted, quantiles, spread, against_leverage = four
    y_label = y_label or title_of(y, "y")
    x, y = numbers(x, "x"), numbers(y, "y")
    w = np.ones(len(y)) if weights is None else numbers(weights, "weights")
    if y.ndim != 1 or w.shape != y.shape or len(x) != len(y):
        raise ValueError(f"x, y and weights have one length, got {x.shape}, {y.shape} and {w.shape}")
    valid = np.isfinite(y) & np.isfinite(x.reshape(len(x), -1)).all(axis=1) & (w > 0)
    x, y, w = x[valid], y[valid], w[valid]
    fitted = np.asarray(fit.predict(x))
    ansatz = fit.ansatz
    phi = np.asarray(ansatz.jacobian(fit.params, x) if isinstance(ansatz, Curve) else ansatz.features(x))
    leverage = w * np.einsum("np,pq,nq->n", phi, np.asarray(fit.cov_params() / fit.scale), phi)
    residual = y - fitted
    standardized = np.sqrt(w) * residual / np.sqrt(float(fit.scale) * np.maximum(1 - leverage, 1e-12))
    size = np.sqrt(np.abs(standardized))

    of_y, of_fit, r = f"residual of {y_label}", f"fitted {y_label}", "standardized residual"
    _scatter(against_fitted, fitted, residual, of_fit, of_y, "systematic deviation?")
    normal = np.asarray(jax.scipy.stats.norm.ppf((np.arange(len(y)) + 0.5) / len(y)))
    quantiles.plot(normal, normal, color="0.6", lw=1)
    _scatter(quantiles, normal, np.sort(standardized), "normal quantile", r, "normal?")
    _scatter(spread, fitted, size, of_fit, f"√|{r}|", "constant variance?")
    _scatter(against_leverage, leverage, standardized, "leverage", r, "influential observations?")
    for ax in (against_fitted, against_leverage):
        ax.axhline(0, color="0.6", lw=1, zorder=0)
    for ax in four:
        write_status(ax, fit.status)
    return four


def pvalues(values: Any, *, bins: int = 20, ax: Axes | None = None) -> Axes:
    """A histogram of p-values and the uniform density that holds if every null hypothesis is true.

    Args:
        values: the p-values, of any shape; NaN is left out.
        bins: how many.
        ax: where to draw.

    Returns:
        The axes.
    """
    if isinstance(values, Fit):
        raise TypeError("pvalues draws numbers, such as fit.pvalues[1]; got Fit")
    p = numbers(values, "values").ravel()
    p = p[~np.isnan(p)]
    if not p.size or p.min() < 0 or p.max() > 1:
        raise ValueError(f"p-values are from 0 to 1, and not all NaN; got {p if p.size else 'none'}")
    ax = axes(ax)
    ax.hist(
        p,
        bins=bins,
        range=(0, 1),
        density=True,
        color=color_on(ax, BLUE),
        alpha=0.7,
        label=f"{p.size:,} p-values",
    )
    ax.axhline(1, color=ORANGE, ls="--", label="uniform: no effects")
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
    x_label: str | None = None,
    y_label: str | None = None,
    most: int = 12,
) -> np.ndarray:
    """The data and the fitted curves of the first data sets, twelve at most, a panel for each.

    Args:
        fit: of any number of data sets.
        x: (n,) shared, where the ansatz takes numbers.
        y: (n,) or (n, *batch).
        names: of the data sets; the coordinates of y, such as columns of a data frame, if omitted.
        x_label: what x is, with units; from the attributes or the name of x if omitted.
        y_label: what y is, with units; from those of y if omitted.
        most: how many panels at most.

    Returns:
        The axes, one per data set, with the status written into those of a data set that is not `ok`.
    """
    need_fit(fit, "lines")
    x_label, y_label = x_label or title_of(x, "x"), y_label or title_of(y, "y")
    x, y = numbers(x, "x"), numbers(y, "y")
    if x.ndim != 1 or y.shape not in ((len(x), *fit.shape), (len(x), fit.status.size)):
        raise ValueError(
            f"lines draws data sets against one x (n,), y (n, *batch) as fitted; got data sets {fit.shape}, "
            f"x {x.shape} and y {y.shape}"
        )
    y = y.reshape(len(x), -1)
    m = min(y.shape[1], most)
    if m < 1:
        raise ValueError(f"there is no panel to draw: {y.shape[1]} data sets, most={most}")
    names = _names(fit) if names is None else names
    if names is not None and len(names) < m:
        raise ValueError(f"names has {len(names)} names for {m} panels")
    drawn = fit[np.unravel_index(np.arange(m), fit.shape)] if fit.shape else fit
    dense = dense_in(x)
    curves = np.asarray(drawn.predict(dense)).reshape(len(dense), -1)
    return draw_panels(
        x,
        y[:, :m],
        dense,
        curves,
        np.ravel(drawn.status),
        total=y.shape[1],
        names=names,
        x_label=x_label,
        y_label=y_label,
    )


def draw_panels(
    x: np.ndarray,
    y: np.ndarray,
    dense: np.ndarray,
    curves: np.ndarray,
    status: np.ndarray,
    *,
    total: int,
    names: list[str] | None,
    x_label: str,
    y_label: str,
) -> np.ndarray:
    """The panels of `lines`: y (n, m) and curves (k, m) at k dense x, of the first m of `total` data sets."""
    m = y.shape[1]
    width = min(m, 4)
    height = -(-m // width)
    figure, axes = plt.subplots(
        height,
        width,
        figsize=(2.1 * width + 0.6, 1.8 * height + 0.5),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    for j, ax in enumerate(axes.flat):
        if j >= m:
            ax.set_visible(False)
            axes[-2, j % width].tick_params(labelbottom=True)  # the lowest visible panel of the column
            continue
        ax.plot(x, y[:, j], ".", color=ink(ax), alpha=0.8, markersize=4)
        ax.plot(dense, curves[:, j], color=ORANGE)
        ax.set_title(names[j] if names else str(j), fontsize="medium")
        ax.set_xlim(_with_margin(dense))
        ax.locator_params(nbins=4)
        write_status(ax, status[j])
        if not np.isfinite(y[:, j]).any():
            ax.set_yticks([])
    if m < total:
        figure.suptitle(f"the first {m} of {total:,} data sets", fontsize="medium")
    figure.supxlabel(x_label, fontsize="medium")
    figure.supylabel(y_label, fontsize="medium")
    return axes.ravel()[:m]


def _names(fit: Fit) -> list[str] | None:
    """The coordinates of the data sets if they have one axis."""
    dims = fit.labels.dims
    own, values = fit.labels.coords.get(dims[0], (None, None)) if dims and len(dims) == 1 else (None, None)
    return None if own != dims or values is None else [str(value) for value in values]


def dense_in(x: np.ndarray) -> np.ndarray:
    """200 points over the range of x, to draw curves without kinks."""
    if not np.isfinite(x).any():
        raise ValueError("x has no finite value to draw against")
    x = x if x.dtype.kind == "f" else x.astype(float)
    return np.linspace(np.nanmin(x), np.nanmax(x), 200, dtype=x.dtype)


def _with_margin(dense: np.ndarray) -> tuple[float, float]:
    """Limits of the x axis, which a data set without valid observations would not set."""
    low, high = dense[[0, -1]].tolist()
    margin = 0.05 * (high - low or 1.0)
    return low - margin, high + margin


def _column(fit: Fit, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = numbers(x, "x"), numbers(y, "y")
    if fit.shape or x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"one data set is drawn against one x, such as fits[0], x, y[:, 0]; got data sets {fit.shape}, "
            f"x {x.shape} and y {y.shape}"
        )
    return x, y


def _predicted(fit: Fit, x: np.ndarray, interval: str, alpha: float) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(a) for a in fit.predict(x, interval=interval, alpha=alpha))


def _scatter(ax: Axes, x: np.ndarray, y: np.ndarray, x_label: str, y_label: str, title: str) -> None:
    ax.plot(x, y, ".", color=color_on(ax, BLUE), markersize=5)
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.set_title(title, fontsize="medium", loc="left")
