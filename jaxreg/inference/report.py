"""Tables of a fit: summaries of one data set and of a batch, pandas tables and xarray datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxreg import status
from jaxreg.data.labels import Labels
from jaxreg.inference import statistics
from jaxreg.inference.fitted import Fitted

WIDTH = 78
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LONG_NAMES = {
    "nobs": "valid observations",
    "df_resid": "residual degrees of freedom",
    "status": "status of the fit",
    "digits": "correct decimal digits of every param",
    "ssr": "sum of squared residuals",
    "scale": "variance of an observation of weight 1",
    "rsquared": "R²",
    "rsquared_adj": "adjusted R²",
    "fvalue": "F statistic of all params but the constant",
    "f_pvalue": "p-value of the F statistic",
    "llf": "log-likelihood",
    "aic": "Akaike's information criterion",
    "bic": "Schwarz's information criterion",
}
PER_PARAM = {"bse": "standard error", "tvalue": "t statistic", "pvalue": "p-value"}
OF_ESTIMATE = ("nobs", "status", "digits")


def summary_of_one(fitted: Fitted, ansatz: str, names: tuple[str, ...], alpha: float) -> str:
    """The summary of one data set, in the layout of statsmodels."""
    e = fitted.estimate
    left = [
        ("Ansatz", ansatz),
        ("Status", status.Status(int(e.status)).name),
        ("No. observations", int(e.nobs)),
        ("Df residuals", int(fitted.df_resid) if e.alpha is None else _short(fitted.df_resid)),
        ("Df model", fitted.regressors),
        ("Covariance", fitted.cov_type),
    ]
    if fitted.is_least_squares:
        left.append(("Digits", int(e.digits)))
    right = [(name, _short(statistic(fitted))) for name, statistic in _goodness_of_fit(fitted)]
    if e.alpha is not None:
        left.append(("Effective dof", _short(e.effective_dof)))
        right.append(("Ridge alpha", _short(e.alpha)))
    half = WIDTH // 2 - 1
    head = [
        f"{a + ':':<18}{b:>{half - 18}}  {c + ':':<24}{d:>{half - 24}}"
        for (a, b), (c, d) in zip(left, right, strict=True)
    ]
    letter = "t" if fitted.use_t else "z"
    headings = ("coef", "std err", letter, f"P>|{letter}|", f"[{alpha / 2:.3g}", f"{1 - alpha / 2:.3g}]")
    label = max(12, *(len(name) for name in names))
    table = [" " * label + "".join(f"{heading:>11}" for heading in headings)]
    rows = np.column_stack(_coefficient_columns(fitted, alpha))
    table += [
        f"{name:<{label}}" + "".join(f"{_short(v):>11}" for v in row)
        for name, row in zip(names, rows, strict=True)
    ]
    return "\n".join(["=" * WIDTH, *head, "-" * WIDTH, *table, "=" * WIDTH])


def _goodness_of_fit(fitted: Fitted) -> list[tuple[str, Callable[[Fitted], Any]]]:
    """The right column of a summary."""
    uncentered = not (fitted.ansatz.has_intercept or fitted.has_constant_column)
    of_squares = [
        ("R-squared" + (" (uncentered)" if uncentered else ""), statistics.rsquared),
        ("Adj. R-squared", statistics.rsquared_adj),
    ]
    of_test = [("F-statistic", statistics.fvalue), ("Prob (F-statistic)", statistics.f_pvalue)]
    of_likelihood = [("Log-likelihood", statistics.llf), ("AIC", statistics.aic)]
    if fitted.is_least_squares:
        return [*of_squares, *of_test, *of_likelihood, ("BIC", statistics.bic)]
    if fitted.estimate.llf is None:
        return [*of_squares, *of_test, ("Scale", statistics.scale), ("Cost", statistics.cost)]
    of_deviance = [("Deviance", statistics.deviance), ("Pearson chi2", statistics.pearson_chi2)]
    return [*of_deviance, *of_test, *of_likelihood]


def summary_of_batch(fitted: Fitted, ansatz: str, names: tuple[str, ...], alpha: float) -> str:
    """The summary of a batch: status counts, quantiles of statistics, counts of significant params."""
    e = fitted.estimate
    shape = e.status.shape
    rows = {
        **{name: np.asarray(p) for name, p in zip(names, e.params, strict=True)},
        **{f"bse({name})": np.asarray(b) for name, b in zip(names, e.bse, strict=True)},
        **(
            {"R-squared": np.asarray(statistics.rsquared(fitted))}
            if fitted.link == "identity"
            else {"deviance": np.asarray(statistics.deviance(fitted))}
        ),
        "nobs": np.where(np.isfinite(np.asarray(e.params[0])), np.asarray(e.nobs), np.nan),
    }
    label = max(14, *(len(name) for name in rows))
    lines = [
        "=" * WIDTH,
        f"{ansatz} fitted to {' × '.join(map(str, shape))} data sets, covariance {fitted.cov_type}",
        status.describe(e.status),
        "-" * WIDTH,
        f"{'quantile':<{label}}" + "".join(f"{q:>12.0%}" for q in QUANTILES),
    ]
    for name, values in rows.items():
        finite = values[np.isfinite(values)]
        quantiles = np.quantile(finite, QUANTILES) if finite.size else np.full(len(QUANTILES), np.nan)
        lines.append(f"{name:<{label}}" + "".join(f"{_short(q):>12}" for q in quantiles))
    lines.append("-" * WIDTH)
    for name, p in zip(names, np.asarray(statistics.pvalues(fitted)), strict=True):
        tested = np.isfinite(p).sum()
        lines.append(f"{name}: P < {alpha:g} in {(p < alpha).sum()} of {tested} data sets")
    return "\n".join([*lines, "=" * WIDTH])


def to_pandas(fitted: Fitted, names: tuple[str, ...], labels: Labels, index: Any) -> Any:
    """A pandas table with a row per param of one data set, or a row per data set of a batch."""
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise ModuleNotFoundError('to_pandas needs pandas: python -m pip install "jaxreg[frame]"') from None
    shape = fitted.estimate.status.shape
    if not shape:
        headings = ("coef", "std err", "t" if fitted.use_t else "z", "pvalue", "0.025", "0.975")
        table = dict(zip(headings, _coefficient_columns(fitted, 0.05), strict=True))
        return pd.DataFrame(table, index=list(names) if index is None else index)
    columns = {name: np.asarray(values).ravel() for name, values in variables(fitted, names).items()}
    count = len(columns["status"])
    if index is not None and len(index) != count:
        raise ValueError(f"index has {len(index)} labels; the fit has {count} data sets")
    if index is None:
        dims = labels.dims or (None,) * len(shape)
        axes = [_axis_labels(labels, dim, length) for dim, length in zip(dims, shape, strict=True)]
        single = pd.Index(axes[0], name=dims[0])
        index = single if len(axes) == 1 else pd.MultiIndex.from_product(axes, names=dims)
    return pd.DataFrame(columns, index=index)


def to_xarray(
    fitted: Fitted,
    ansatz: str,
    names: tuple[str, ...],
    labels: Labels,
    dims: tuple[str, ...] | str | None,
    coords: Any,
) -> Any:
    """An xarray Dataset with a variable per statistic, whose dimensions are `dims`."""
    try:
        import xarray as xr
    except ModuleNotFoundError:
        raise ModuleNotFoundError('to_xarray needs xarray: python -m pip install "jaxreg[xarray]"') from None
    shape = fitted.estimate.status.shape
    dims = (dims,) if isinstance(dims, str) else dims
    if dims is None and labels.dims is not None:
        dims, coords = labels.dims, labels.coords if coords is None else coords
    dims = tuple(f"dim_{i}" for i in range(len(shape))) if dims is None else tuple(dims)
    if len(dims) != len(shape):
        raise ValueError(f"dims {dims} name {len(dims)} axes, but the data sets have shape {shape}")
    values_of = variables(fitted, names)
    taken = values_of.keys() & {*dims, *(coords or {})}
    if taken:
        raise ValueError(
            f"{', '.join(sorted(taken))} is a dimension or coordinate of the data sets and also a variable: "
            "pass other dims and coords, or rename those of y"
        )
    data = {
        name: (dims, np.asarray(values), _attributes(name) | (flags_of_status() if name == "status" else {}))
        for name, values in values_of.items()
    }
    attrs = {"ansatz": ansatz, "cov_type": fitted.cov_type}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def flags_of_status() -> dict[str, Any]:
    """The attributes by which the CF conventions say the meaning of codes."""
    return {
        "flag_values": np.array([code.value for code in status.Status], np.int8),
        "flag_meanings": " ".join(code.name for code in status.Status),
    }


def _coefficient_columns(fitted: Fitted, alpha: float) -> list[np.ndarray]:
    """Params, standard errors, t, p-values and both limits of the params of one data set, (p,) each."""
    low, high = statistics.conf_int(fitted, alpha)
    e, tvalues, pvalues = fitted.estimate, statistics.tvalues(fitted), statistics.pvalues(fitted)
    return [np.asarray(a) for a in (e.params, e.bse, tvalues, pvalues, low, high)]


def variables(fitted: Fitted, names: tuple[str, ...]) -> dict[str, Any]:
    """name → values for all data sets."""
    e = fitted.estimate
    per_param = {
        "": e.params,
        "_bse": e.bse,
        "_tvalue": statistics.tvalues(fitted),
        "_pvalue": statistics.pvalues(fitted),
    }
    of_params = {
        f"{name}{suffix}": values[k] for k, name in enumerate(names) for suffix, values in per_param.items()
    }
    if len(of_params) < len(names) * len(per_param) or of_params.keys() & LONG_NAMES.keys():
        raise ValueError(
            f"the params {', '.join(names)} have names that columns of the table have too, such as "
            f"{', '.join(LONG_NAMES)} or a name with _bse: rename columns of x, or pass Linear(names=…)"
        )
    return {**of_params, **{name: _statistic(fitted, name) for name in LONG_NAMES}}


def _statistic(fitted: Fitted, name: str) -> Any:
    if name == "df_resid":
        return fitted.df_resid
    return getattr(fitted.estimate, name) if name in OF_ESTIMATE else getattr(statistics, name)(fitted)


def _attributes(name: str) -> dict[str, Any]:
    """`long_name` of a variable."""
    param, _, statistic = name.rpartition("_")
    if name in LONG_NAMES:
        return {"long_name": LONG_NAMES[name]}
    return {"long_name": f"{PER_PARAM[statistic]} of {param}"} if statistic in PER_PARAM else {}


def _axis_labels(labels: Labels, dim: str | None, length: int) -> Any:
    """The coordinate of an axis, or integers if it has none."""
    dims, values = labels.coords.get(dim, (None, None)) if dim is not None else (None, None)
    return values if dims == (dim,) else range(length)


def has_errors(fitted: Fitted) -> bool:
    """Whether the cost has standard errors."""
    e = fitted.estimate
    return (fitted.is_least_squares or e.dispersion is not None) and e.alpha is None


def short_repr(fitted: Fitted, ansatz: str, names: tuple[str, ...]) -> str:
    """Params with standard errors of one data set, or status counts and quartiles of a batch."""
    e = fitted.estimate
    if fitted.is_traced:
        return f"<Fit of {ansatz} to data sets {e.status.shape}, traced>"
    if isinstance(e.params, jax.Array) and not e.params.is_fully_addressable:
        return f"<Fit of {ansatz} to data sets {e.status.shape} of {jax.process_count()} processes>"
    if e.status.shape == ():
        head = f"Fit of {ansatz} to {int(e.nobs)} observations, {status.Status(int(e.status)).name}"
        known = has_errors(fitted)
        if not known:
            head += "; this cost has no standard errors"
        errors = [f" ± {error:.2g}" if known else "" for error in np.asarray(e.bse)]
        rows = zip(names, np.asarray(e.params), errors, strict=True)
        return "\n".join([head, *(f"  {name:<9} {value: .6g}{error}" for name, value, error in rows)])
    counts = ", ".join(f"{n} {code.name}" for code, n in status.counts(e.status).items())
    shape = " × ".join(map(str, e.status.shape))
    lines = [f"Fit of {ansatz} to {shape} data sets: {counts}"]
    for name, values in zip(names, np.asarray(e.params), strict=True):
        finite = values[np.isfinite(values)]
        if finite.size:
            low, median, high = np.quantile(finite, [0.25, 0.5, 0.75])
            lines.append(f"  {name:<9} median {median: .4g}, quartiles {low:.4g} and {high:.4g}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{float(value):.4g}"
