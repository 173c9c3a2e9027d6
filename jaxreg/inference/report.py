"""What a fit says of itself: tables of one data set or of many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxreg import status

if TYPE_CHECKING:
    from jaxreg.inference.result import Fit

WIDTH = 78
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PER_DATA_SET = (
    "nobs", "df_resid", "status", "digits", "ssr", "scale", "rsquared", "rsquared_adj", "fvalue", "f_pvalue",
    "llf", "aic", "bic",
)  # fmt: skip
PER_PARAM = {"": "params", "_bse": "bse", "_tvalue": "tvalues", "_pvalue": "pvalues"}


def of_one(fit: Fit, alpha: float) -> str:
    """The table that statsmodels prints for one regression."""
    left = [
        ("Ansatz", str(fit.ansatz)),
        ("Status", status.Status(int(fit.status)).name),
        ("No. observations", int(fit.nobs)),
        ("Df residuals", int(fit.df_resid)),
        ("Df model", int(fit.df_model)),
        ("Covariance", fit.cov_type),
        ("Digits", int(fit.digits)),
    ]
    right = [
        ("R-squared" + ("" if fit.ansatz.has_intercept else " (uncentered)"), _short(fit.rsquared)),
        ("Adj. R-squared", _short(fit.rsquared_adj)),
        ("F-statistic", _short(fit.fvalue)),
        ("Prob (F-statistic)", _short(fit.f_pvalue)),
        ("Log-likelihood", _short(fit.llf)),
        ("AIC", _short(fit.aic)),
        ("BIC", _short(fit.bic)),
    ]
    half = WIDTH // 2 - 1
    head = [
        f"{a + ':':<18}{b:>{half - 18}}  {c + ':':<24}{d:>{half - 24}}"
        for (a, b), (c, d) in zip(left, right, strict=True)
    ]
    letter = "t" if fit.use_t else "z"
    limits = (f"[{alpha / 2:.3g}", f"{1 - alpha / 2:.3g}]")
    columns = ("coef", "std err", letter, f"P>|{letter}|", *limits)
    values = np.column_stack(
        [np.asarray(a) for a in (fit.params, fit.bse, fit.tvalues, fit.pvalues, *fit.conf_int(alpha))]
    )
    label = max(12, *(len(name) for name in fit.names))
    table = [" " * label + "".join(f"{c:>11}" for c in columns)]
    table += [
        f"{name:<{label}}" + "".join(f"{_short(v):>11}" for v in row)
        for name, row in zip(fit.names, values, strict=True)
    ]
    return "\n".join(["=" * WIDTH, *head, "-" * WIDTH, *table, "=" * WIDTH])


def of_many(fit: Fit, alpha: float) -> str:
    """How the data sets ended, quantiles of what is known of them, and how many params stand out."""
    known = {
        **{name: np.asarray(p) for name, p in zip(fit.names, fit.params, strict=True)},
        **{f"bse({name})": np.asarray(e) for name, e in zip(fit.names, fit.bse, strict=True)},
        "R-squared": np.asarray(fit.rsquared),
        "nobs": np.asarray(fit.nobs, float),
    }
    label = max(14, *(len(name) for name in known))
    lines = [
        "=" * WIDTH,
        f"{fit.ansatz} fitted to {' × '.join(map(str, fit.shape))} data sets, covariance {fit.cov_type}",
        fit.describe(),
        "-" * WIDTH,
        f"{'quantile':<{label}}" + "".join(f"{q:>12.0%}" for q in QUANTILES),
    ]
    for name, values in known.items():
        there = values[np.isfinite(values)]
        quantiles = np.quantile(there, QUANTILES) if there.size else np.full(len(QUANTILES), np.nan)
        lines.append(f"{name:<{label}}" + "".join(f"{_short(q):>12}" for q in quantiles))
    lines.append("-" * WIDTH)
    for name, p in zip(fit.names, np.asarray(fit.pvalues), strict=True):
        tested = np.isfinite(p).sum()
        lines.append(f"{name}: P < {alpha:g} in {(p < alpha).sum()} of {tested} data sets")
    return "\n".join([*lines, "=" * WIDTH])


def to_pandas(fit: Fit) -> Any:
    """One data set: a row per param; many: a row per data set."""
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise ModuleNotFoundError('to_pandas needs pandas: python -m pip install "jaxreg[frame]"') from None
    if not fit.shape:
        low, high = fit.conf_int()
        columns = {
            "coef": fit.params, "std err": fit.bse, "t" if fit.use_t else "z": fit.tvalues,
            "pvalue": fit.pvalues, "0.025": low, "0.975": high,
        }  # fmt: skip
        return pd.DataFrame({k: np.asarray(v) for k, v in columns.items()}, index=list(fit.names))
    columns = {k: np.asarray(v).ravel() for k, v in _columns(fit).items()}
    axes = [range(length) for length in fit.shape]
    index = pd.MultiIndex.from_product(axes) if len(axes) > 1 else pd.RangeIndex(fit.shape[0])
    return pd.DataFrame(columns, index=index)


def to_xarray(fit: Fit, dims: tuple[str, ...] | None, coords: Any) -> Any:
    """A variable per statistic, with the data sets along `dims`."""
    try:
        import xarray as xr
    except ModuleNotFoundError:
        raise ModuleNotFoundError('to_xarray needs xarray: python -m pip install "jaxreg[xarray]"') from None
    if isinstance(dims, str):
        dims = (dims,)
    dims = tuple(f"dim_{i}" for i in range(len(fit.shape))) if dims is None else tuple(dims)
    if len(dims) != len(fit.shape):
        raise ValueError(f"dims {dims} name {len(dims)} axes; the data sets have shape {fit.shape}")
    meanings = {
        "flag_values": [s.value for s in status.Status],
        "flag_meanings": " ".join(s.name for s in status.Status),
    }
    variables = {
        name: (dims, np.asarray(values), meanings if name == "status" else {})
        for name, values in _columns(fit).items()
    }
    return xr.Dataset(variables, coords=coords, attrs={"ansatz": str(fit.ansatz), "cov_type": fit.cov_type})


def _columns(fit: Fit) -> dict[str, Any]:
    """name → values of every data set."""
    of_params = {
        f"{name}{suffix}": getattr(fit, attribute)[k]
        for k, name in enumerate(fit.names)
        for suffix, attribute in PER_PARAM.items()
    }
    return {**of_params, **{name: getattr(fit, name) for name in PER_DATA_SET}}


def _short(value: Any) -> str:
    return f"{float(value):.4g}"
