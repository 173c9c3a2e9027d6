"""NIST's certified linear sets, their exact solutions, and how many digits of them a solver gets right."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import scipy.linalg
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression

from jaxreg import GradientDescent, Line, Linear, Polynomial, fit

SETS = json.loads((Path(__file__).parent / "nist_linear.json").read_text())
NAMES = tuple(name for name in SETS if name != "source")
DTYPES = ("float64", "float32")
MOST = 16.0  # digits: an answer that is right to the last bit counts as this many


class Regression(NamedTuple):
    """A set in some dtype, and params and standard errors that solve exactly what is stored."""

    ansatz: Line | Polynomial | Linear
    x: np.ndarray
    y: np.ndarray
    params: list
    bse: list


def ansatz_of(name: str) -> Line | Polynomial | Linear:
    kind = SETS[name]["ansatz"]
    if kind == "Linear":
        return Linear(intercept=SETS[name]["intercept"])
    return Polynomial(SETS[name]["degree"]) if kind == "Polynomial" else Line()


@cache
def regression(name: str, dtype: str) -> Regression:
    ansatz = ansatz_of(name)
    x, y = (np.array(SETS[name][axis], dtype) for axis in ("x", "y"))
    x = x if ansatz.x_is_vector else x[:, 0]
    return Regression(ansatz, x, y, *exact(ansatz, x, y))


def exact(ansatz, x, y, digits=80) -> tuple[list, list]:
    """Least squares of the numbers as they are stored, in `digits` digits."""
    with mpmath.workdps(digits):
        X = mpmath.matrix([_features(ansatz, row) for row in x.tolist()])
        b = mpmath.matrix(y.tolist())
        inverse = (X.T * X) ** -1
        params = inverse * (X.T * b)
        residuals = b - X * params
        n, p = X.rows, X.cols
        variance = sum(r * r for r in residuals) / (n - p) if n > p else mpmath.mpf(0)
        return list(params), [mpmath.sqrt(abs(variance * inverse[k, k])) for k in range(p)]


def _features(ansatz, x) -> list:
    if ansatz.x_is_vector:
        return [mpmath.mpf(1)] * ansatz.has_intercept + [mpmath.mpf(v) for v in x]
    degree = len(ansatz.param_names(1)) - 1
    return [mpmath.mpf(x) ** k for k in range(degree + 1)]


def digits(found, exact) -> float:
    """−log₁₀ of the largest relative error; where 0 is right, of what is there instead of it."""
    errors = [
        abs(mpmath.mpf(float(a)) - e) / (abs(e) if abs(e) > mpmath.mpf(10) ** -30 else 1)
        for a, e in zip(np.asarray(found), exact, strict=True)
    ]
    worst = max(errors)
    if not mpmath.isfinite(worst):
        return 0.0
    return MOST if worst == 0 else max(0.0, min(MOST, float(-mpmath.log10(worst))))


def _powers(r: Regression) -> np.ndarray:
    if r.ansatz.x_is_vector:
        return np.column_stack([np.ones_like(r.y), r.x]) if r.ansatz.has_intercept else r.x
    return np.vander(r.x, len(r.params), increasing=True).astype(r.x.dtype)


def _sklearn(r: Regression) -> np.ndarray:
    X = _powers(r)
    intercept = r.ansatz.has_intercept
    model = LinearRegression(fit_intercept=intercept).fit(X[:, 1:] if intercept else X, r.y)
    return np.append(model.intercept_, model.coef_) if intercept else model.coef_


SOLVERS = {
    "jaxreg": lambda r: fit(r.x, r.y, ansatz=r.ansatz).params,
    "jaxreg descent": lambda r: fit(r.x, r.y, ansatz=r.ansatz, solver=GradientDescent()).params,
    "jnp lstsq": lambda r: _jnp_lstsq(_powers(r), r.y),
    "numpy": lambda r: np.linalg.lstsq(_powers(r), r.y)[0],
    "scipy": lambda r: scipy.linalg.lstsq(_powers(r), r.y)[0],
    "statsmodels": lambda r: sm.OLS(r.y, _powers(r)).fit().params,
    "scikit-learn": _sklearn,
}


def _jnp_lstsq(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    with jax.enable_x64(X.dtype == np.float64):
        return np.asarray(jnp.linalg.lstsq(jnp.asarray(X), jnp.asarray(y))[0])


def table() -> str:
    """Digits of the worst param, by set, dtype and solver, in Markdown."""
    lines = ["| set | dtype | " + " | ".join(SOLVERS) + " |", "|---|---|" + "---:|" * len(SOLVERS)]
    for dtype in DTYPES:
        for name in NAMES:
            r = regression(name, dtype)
            counts = [f"{digits(solve(r), r.params):.1f}" for solve in SOLVERS.values()]
            lines.append(f"| {name} | {dtype} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
