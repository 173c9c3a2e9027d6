"""The same fits with other libraries. Python loops take only the first data sets."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LOOP = 300  # data sets in a Python loop
Q = 0.37  # of quantile regressions


def are_installed(*names: str) -> bool:
    """Whether these packages are installed."""
    return all(importlib.util.find_spec(name) for name in names)


def numpy_lines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lines from centered sums; gaps are NaN in y."""
    valid = ~np.isnan(y)
    n = valid.sum(axis=0)
    x = np.where(valid, x if x.ndim == 2 else x[:, None], 0)
    y = np.where(valid, y, 0)
    x_mean, y_mean = x.sum(axis=0) / n, y.sum(axis=0) / n
    x, y = np.where(valid, x - x_mean, 0), np.where(valid, y - y_mean, 0)
    slope = (x * y).sum(axis=0) / (x * x).sum(axis=0)
    return np.stack([y_mean - slope * x_mean, slope])


def numpy_centered(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lines from centered means, without gaps."""
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    slope = ((x - x_mean) * (y - y_mean)).mean(axis=0) / ((x - x_mean) ** 2).mean(axis=0)
    return np.stack([y_mean - slope * x_mean, slope])


def torch_centered(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """`numpy_centered` in torch."""
    import torch

    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def run() -> Any:
        x_mean, y_mean = x.mean(0), y.mean(0)
        slope = ((x - x_mean) * (y - y_mean)).mean(0) / ((x - x_mean) ** 2).mean(0)
        return torch.stack([y_mean - slope * x_mean, slope]).numpy()

    return run


def torch_lstsq(design: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """torch.linalg.lstsq of a batch of designs (m, n, p)."""
    import torch

    A, b = torch.from_numpy(np.ascontiguousarray(design)), torch.from_numpy(np.ascontiguousarray(y.T))
    return lambda: torch.linalg.lstsq(A, b[..., None]).solution[..., 0].numpy().T


def numpy_solve(design: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Normal equations of a batch of designs (m, n, p)."""

    def run() -> Any:
        transposed = design.transpose(0, 2, 1)
        return np.linalg.solve(transposed @ design, transposed @ y.T[..., None])[..., 0].T

    return run


def lineax_qr(design: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """lineax's QR under vmap, designs (m, n, p)."""
    import lineax

    @jax.jit
    def run(design: Any, y: Any) -> Any:
        def one(A: Any, b: Any) -> Any:
            return lineax.linear_solve(lineax.MatrixLinearOperator(A), b, solver=lineax.QR()).value

        return jax.vmap(one, in_axes=(0, 1), out_axes=1)(design, y)

    design, y = jnp.asarray(design), jnp.asarray(y)
    return lambda: run(design, y)


def polars_lines(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Lines by group_by with cov and var on a long table."""
    import polars as pl

    n, m = y.shape
    table = pl.DataFrame({"id": np.tile(np.arange(m, dtype=np.int32), n), "x": x.ravel(), "y": y.ravel()})
    slope = pl.cov("x", "y") / pl.var("x")
    columns = (pl.mean("y") - slope * pl.mean("x")).alias("intercept"), slope.alias("slope")
    return lambda: table.group_by("id").agg(*columns).sort("id").select("intercept", "slope").to_numpy().T


def polars_ols(table: Any) -> np.ndarray:
    """Lines with statistics per group, by polars-ols."""
    import polars as pl
    import polars_ols  # noqa: F401  registers `least_squares`

    ols: Any = pl.col("y").least_squares.ols(  # pyright: ignore
        pl.col("x"), add_intercept=True, mode="statistics"
    )
    found = table.lazy().group_by("id").agg(ols.alias("ols")).sort("id").collect()["ols"].struct
    return np.stack(found.field("coefficients").to_list(), axis=1)[::-1]


def xarray_polyfit(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """xarray's polyfit with skipna."""
    import xarray as xr

    array = xr.DataArray(y, dims=("x", "m"), coords={"x": x})
    return lambda: array.polyfit("x", 1, skipna=True).polyfit_coefficients.to_numpy()[::-1]


def looped(fit_one: Callable[[np.ndarray, np.ndarray], Any], x: np.ndarray, y: np.ndarray) -> Callable:
    """A Python loop of fit_one over the first data sets, each without its gaps."""

    def run() -> Any:
        params = []
        for i in range(min(LOOP, y.shape[1])):
            valid = ~np.isnan(y[:, i])
            x_i = x[..., i] if x.ndim > 1 and x.shape[-1] == y.shape[1] else x
            params.append(fit_one(x_i[valid], y[valid, i]))
        return np.stack(params, axis=1)

    return run


def scipy_line(x: np.ndarray, y: np.ndarray) -> Any:
    """scipy.stats.linregress."""
    from scipy.stats import linregress

    line = linregress(x, y)
    return np.array([line.intercept, line.slope])


def statsmodels_huber(x: np.ndarray, y: np.ndarray) -> Any:
    """statsmodels RLM with Huber's norm, and its standard errors."""
    import statsmodels.api as sm

    results = sm.RLM(y.astype("f8"), sm.add_constant(x.astype("f8"))).fit()
    _ = results.bse
    return results.params


def scipy_peak(x: np.ndarray, y: np.ndarray) -> Any:
    """scipy's curve_fit of a Gaussian peak, from a start near it."""
    from scipy.optimize import curve_fit

    start = (y.min(), np.ptp(y), x[y.argmax()], 1.0)
    params, _ = curve_fit(_peak, x, y, p0=start)
    return params


def _peak(x: np.ndarray, background: Any, height: Any, center: Any, width: Any) -> np.ndarray:
    return background + height * np.exp(-((x - center) ** 2) / (2 * width**2))


def optimistix_peaks(x: np.ndarray) -> Callable:
    """jit(vmap) of optimistix's Levenberg–Marquardt method for Gaussian peaks, from the same start."""
    import optimistix

    def residual(params: Any, y: Any) -> Any:
        background, height, center, width = params
        return y - background - height * jnp.exp(-((x - center) ** 2) / (2 * width**2))

    def one(y: Any) -> Any:
        start = jnp.stack([y.min(), y.max() - y.min(), jnp.asarray(x)[y.argmax()], jnp.ones(())])
        solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)
        return optimistix.least_squares(residual, solver, start, args=y, max_steps=200, throw=False).value

    return jax.jit(jax.vmap(one, in_axes=1, out_axes=1))


def sklearn_ridge(x: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> Any:
    """scikit-learn's RidgeCV, with an alpha for each data set."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas, alpha_per_target=True).fit(x, y)
    return np.concatenate([model.intercept_[None], model.coef_.T])


def statsmodels_quantile(x: np.ndarray, y: np.ndarray) -> Any:
    """statsmodels QuantReg with its standard errors, and the steps that its convergence takes."""
    import statsmodels.api as sm

    results = sm.QuantReg(y, sm.add_constant(x)).fit(q=Q, max_iter=10_000)
    _ = results.bse
    return results.params


def scipy_quantile(x: np.ndarray, y: np.ndarray) -> Any:
    """A quantile regression as a linear program of scipy (HiGHS)."""
    from scipy.optimize import linprog

    psi, one = np.column_stack([np.ones_like(x), x]), np.eye(len(x))
    costs = np.concatenate([np.zeros(4), Q * np.ones(len(x)), (1 - Q) * np.ones(len(x))])
    program = linprog(costs, A_eq=np.hstack([psi, -psi, one, -one]), b_eq=y)
    return program.x[:2] - program.x[2:4]


def statsmodels_logit(x: np.ndarray, y: np.ndarray) -> Any:
    """statsmodels Logit with its standard errors."""
    import statsmodels.api as sm

    results = sm.Logit(y.astype("f8"), sm.add_constant(x.astype("f8"))).fit(disp=0)
    _ = results.bse
    return results.params


def sklearn_logistic(x: np.ndarray, y: np.ndarray) -> Any:
    """scikit-learn's LogisticRegression without a penalty."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, tol=1e-6).fit(x.astype("f8"), y)
    return np.concatenate([model.intercept_, model.coef_[0]])


def statsmodels_line(x: np.ndarray, y: np.ndarray) -> Any:
    """statsmodels OLS with its standard errors."""
    import statsmodels.api as sm

    results = sm.OLS(y, sm.add_constant(x)).fit()
    _ = results.bse
    return results.params


def statsmodels_slopes(x: np.ndarray, y: np.ndarray, covariates: np.ndarray) -> np.ndarray:
    """The slopes (1, m) of each column of y on the column of x with its index, with covariates."""
    import statsmodels.api as sm

    design = np.column_stack([np.ones(len(x)), covariates])
    fits = (sm.OLS(b, np.column_stack([a, design])).fit() for a, b in zip(x.T, y.T, strict=True))
    return np.array([[result.params[0] for result in fits]])


def sklearn_line(x: np.ndarray, y: np.ndarray) -> Any:
    """scikit-learn's LinearRegression."""
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(x[:, None] if x.ndim == 1 else x, y)
    return np.array([model.intercept_, *model.coef_])


def numpy_lstsq(X: np.ndarray, y: np.ndarray) -> Any:
    """np.linalg.lstsq."""
    return np.linalg.lstsq(X, y, rcond=None)[0]


def by_hand(x: Any, y: Any) -> tuple[Any, Any]:
    """Params and standard errors of lines in plain jnp; gaps are NaN in y; computed in the dtype of y."""
    valid = ~jnp.isnan(y)
    n = jnp.sum(valid, axis=0)
    x = jnp.where(valid, x if x.ndim == 2 else x[:, None], 0)
    y = jnp.where(valid, y, 0)
    x_mean, y_mean = jnp.sum(x, axis=0) / n, jnp.sum(y, axis=0) / n
    x, y = jnp.where(valid, x - x_mean, 0), jnp.where(valid, y - y_mean, 0)
    xx = jnp.sum(x * x, axis=0)
    slope = jnp.sum(x * y, axis=0) / xx
    variance = jnp.sum((y - slope * x) ** 2, axis=0) / (n - 2)
    params = jnp.stack([y_mean - slope * x_mean, slope])
    return params, jnp.sqrt(variance * jnp.stack([1 / n + x_mean**2 / xx, 1 / xx]))


def vmapped_descent(cost: Callable, rate: float, steps: int) -> Callable:
    """Gradient descent as jit(vmap(scan(grad)))."""

    def one(x: Any, y: Any) -> Any:
        gradient = jax.grad(cost)
        start = jnp.zeros(2, y.dtype)
        return lax.scan(lambda p, _: (p - rate * gradient(p, x, y), None), start, length=steps)[0]

    return jax.jit(jax.vmap(one, in_axes=1, out_axes=1))


def torch_descent(x: np.ndarray, y: np.ndarray, rate: float, steps: int) -> Callable[[], Any]:
    """Gradient descent of all data sets at once, the gradient by hand."""
    import torch

    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def run() -> Any:
        intercept, slope = torch.zeros(y.shape[1]), torch.zeros(y.shape[1])
        for _ in range(steps):
            r = intercept + slope * x - y
            intercept = intercept - rate * 2 * r.mean(0)
            slope = slope - rate * 2 * (r * x).mean(0)
        return torch.stack([intercept, slope]).numpy()

    return run
