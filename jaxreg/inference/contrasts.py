"""Tests of linear combinations of the params, all data sets at once.

They are computed from the coefs of the centered basis instead of the params: offsets of x, which make params
strongly correlated, then cost no digits.
"""

from __future__ import annotations

import re
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular

from jaxreg._typing import Array
from jaxreg.engine.features import Row, deviation, params_of
from jaxreg.inference.differentiable import differentiable
from jaxreg.inference.distributions import f, t
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.intervals import around, quantiles
from jaxreg.numerics import small
from jaxreg.numerics.precision import float64, promoting
from jaxreg.numerics.short_repr import short_repr
from jaxreg.numerics.vectors import triangle

# The smallest share of the variance of a contrast that is independent of the others, above the rounding of
# stored covariances.
MIN_PIVOT = {"float32": 2.0**-20, "float64": 2.0**-40}
ROUNDING = 256  # in units of the last digit: tolerance for sums over the same data by different methods


class TTest(NamedTuple):
    """Tests of linear combinations of the params.

    Attributes:
        effect: cᵀθ, (*batch), or (q, *batch) for q combinations, as are all other fields.
        sd: its standard error.
        tvalue: (cᵀθ − value) / sd.
        pvalue: two-sided p-value.
        df_denom: degrees of freedom of Student's t, infinite for the normal distribution.
    """

    effect: Array
    sd: Array
    tvalue: Array
    pvalue: Array
    df_denom: Array

    def __repr__(self) -> str:
        return short_repr(self)

    def conf_int(self, alpha: Any = 0.05) -> Array:
        """(lower, upper) limits of cᵀθ with confidence 1 − alpha, (2, *batch) or (2, q, *batch)."""
        return around(self.effect, self.sd, quantiles(self.df_denom, alpha))


class FTest(NamedTuple):
    """A joint test of several linear combinations of the params.

    Attributes:
        fvalue: the F statistic, (*batch).
        pvalue: P(F > fvalue), (*batch).
        df_num: number of combinations.
        df_denom: degrees of freedom of the denominator, (*batch).
    """

    fvalue: Array
    pvalue: Array
    df_num: int
    df_denom: Array

    def __repr__(self) -> str:
        return short_repr(self)


def t_test(fitted: Fitted, names: tuple[str, ...], contrast: Any, value: Any) -> TTest:
    """Test cᵀθ = value, for one c or for each row of a matrix."""
    contrast, value = _parsed(contrast, value, names)
    C = contrast_matrix(contrast, fitted.p)
    tests = _t_tests(fitted, np.atleast_2d(C), contrast_values(value, C))
    return TTest(*(tests if C.ndim == 2 else (a[0] for a in tests)))


def f_test(fitted: Fitted, names: tuple[str, ...], contrasts: Any, value: Any) -> FTest:
    """Test C θ = value for all rows jointly."""
    contrasts, value = _parsed(contrasts, value, names)
    C = np.atleast_2d(contrast_matrix(contrasts, fitted.p))
    q = C.shape[0]
    if _rank(C) < q:
        raise ValueError(f"the {q} rows of the contrasts are linearly dependent; omit the redundant ones")
    fvalue, pvalue = f_of(fitted, C, contrast_values(value, C))
    return FTest(fvalue, pvalue, q, fitted.df_denominator)


def _parsed(contrast: Any, value: Any, names: tuple[str, ...]) -> tuple[Any, Any]:
    """The matrix and the values of contrasts as text, such as "x1 = x2" or "x1 = x2, x3 = 1"."""
    if not isinstance(contrast, str):
        return contrast, value
    try:
        from formulaic.errors import FormulaicError
        from formulaic.utils.constraints import LinearConstraints
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'contrasts as text need formulaic: python -m pip install "jaxreg[frame]"'
        ) from None
    if value != 0.0:
        raise ValueError(
            f'a contrast as text contains its value, as in "{names[-1]} = 1"; got value={value!r} too'
        )
    if any(part.count("=") > 1 for part in contrast.split(",")):
        raise ValueError(f'{contrast!r} has two "=" in one contrast; separate them, as in "x1 = x2, x2 = 0"')
    try:
        parsed = LinearConstraints.from_spec(_with_plain_numbers(contrast), variable_names=list(names))
    except KeyError as error:
        raise ValueError(f"{contrast!r} names {error}, but the params are {', '.join(names)}") from None
    except (FormulaicError, RuntimeError, ValueError, SyntaxError) as error:
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()[0]
        raise ValueError(
            f"{contrast!r} is not a linear contrast of {', '.join(names)}: {reason} Put names "
            "that are not Python identifiers in backticks."
        ) from None
    C, values = np.asarray(parsed.constraint_matrix, float), np.asarray(parsed.constraint_values, float)
    return (C[0], values[0]) if len(C) == 1 else (C, values)


def _with_plain_numbers(contrast: str) -> str:
    """Negative right-hand sides in parentheses and numbers without exponents, as formulaic reads them."""
    outside = re.split(r"(`[^`]*`)", contrast)
    for i in range(0, len(outside), 2):  # the parts that are not names in backticks
        outside[i] = re.sub(
            r"(?<![\w.])(\d+\.?\d*|\.\d+)[eE][+-]?\d+",
            lambda number: np.format_float_positional(float(number[0]), trim="-"),
            outside[i],
        )
    return re.sub(r"=\s*(-[^,]+)", r"= (\1)", "".join(outside))


def contrast_matrix(contrasts: Any, p: int) -> np.ndarray:
    """The checked contrasts C, (p,) or (q, p)."""
    try:
        C = np.asarray(contrasts, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"contrasts are numbers of shape ({p},) or (q, {p}), got {contrasts!r}") from None
    if C.ndim not in (1, 2) or C.shape[-1] != p or not C.size:
        raise ValueError(f"contrasts are numbers of shape ({p},) or (q, {p}), got shape {C.shape}")
    if not np.isfinite(C).all() or (C == 0).all(axis=-1).any():
        raise ValueError(f"contrasts are finite numbers, not all 0 in a row; got {C.tolist()}")
    return C


def contrast_values(value: Any, C: np.ndarray) -> Any:
    """The checked values that the contrasts have under the null hypothesis, () or (q,)."""
    value = value if isinstance(value, jax.Array) else np.asarray(value, np.float64)
    if value.shape not in ((), (np.atleast_2d(C).shape[0],)):
        raise ValueError(
            f"value is the same for all data sets: a number, or one for each of the {len(np.atleast_2d(C))} "
            f"contrasts; got shape {value.shape}"
        )
    return value


@differentiable
def _t_tests(fitted: Fitted, C: Any, value: Any) -> tuple[Array, Array, Array, Array, Array]:
    """Cθ, standard error, t, p-value and degrees of freedom for every row of C, (q, *batch) each."""
    with float64():
        rows = _rows_of(fitted, C)
        V = fitted.cov_of_coefs()
        effect = _effect(fitted, C, rows)
        sd = jnp.stack([deviation(row, V) for row in rows])
        difference = effect - _per_row(value, effect)
        effect, sd, tvalue = (a.astype(fitted.estimate.params.dtype) for a in (effect, sd, difference / sd))
    df = jnp.broadcast_to(fitted.df_t, sd.shape)
    return effect, sd, tvalue, jnp.exp(t.log_p(tvalue, df)), df


@differentiable
def f_of(fitted: Fitted, C: Any, value: Any) -> tuple[Array, Array]:
    """F of all rows of C jointly, and its p-value."""
    with float64():
        rows = _rows_of(fitted, C)
        effect = _effect(fitted, C, rows)
        difference = effect - _per_row(value, effect)
        p, unit = fitted.p, fitted.unit_of_cov()
        dense = jnp.stack(
            [jnp.stack([jnp.broadcast_to(row.get(k, 0.0), unit.shape) for k in range(p)]) for row in rows]
        )
        unit_cov = jnp.asarray(fitted.estimate.unit_cov)[triangle(p)].astype(jnp.float64)
        min_pivot = MIN_PIVOT[fitted.estimate.params.dtype.name]
        scaled = difference / jnp.where(unit == 0, 1, unit)
        fvalue = _mahalanobis(scaled, dense, jnp.where(unit == 0, 0 * unit_cov, unit_cov), min_pivot)
        fvalue = (fvalue / C.shape[0]).astype(fitted.estimate.params.dtype)
    return fvalue, _tail_of_f(fitted, fvalue, C.shape[0])


def tail_of_f(fitted: Fitted, fvalue: Array, q: int) -> Array:
    """P(F > fvalue) for q combinations."""
    return _tail(fitted, fvalue, jnp.zeros(q))


@differentiable
def _tail(fitted: Fitted, fvalue: Array, q: Array) -> Array:
    return _tail_of_f(fitted, fvalue, len(q))


def _tail_of_f(fitted: Fitted, fvalue: Array, q: int) -> Array:
    df = fitted.as_float(fitted.df_denominator)
    if q == 1:  # F is T²
        return jnp.exp(t.log_p(jnp.sqrt(fvalue), df))
    return f.sf(fvalue, q, df)


def _rows_of(fitted: Fitted, C: Array) -> list[Row]:
    """Every combination of params as a combination of coefs, a sparse row in float64."""
    features = fitted.feature_rows()
    rows: list[Row] = []
    for weights in C:
        row: Row = {}
        for weight, feature in zip(weights, features, strict=True):
            for k, m in feature.items():
                row[k] = row.get(k, 0.0) + weight.astype(jnp.float64) * m
        rows.append(row)
    return rows


def _effect(fitted: Fitted, C: Array, rows: list[Row]) -> Array:
    """Cθ, (q, *batch), in float64."""
    e = fitted.estimate
    coefs = jnp.asarray(e.coefs).astype(jnp.float64)
    effect = jnp.stack(params_of(rows, coefs))
    if e.y_origin is None:
        return effect
    return effect + _per_row(C[:, 0], effect) * e.y_origin.astype(jnp.float64)


def _per_row(value: Array, effect: Array) -> Array:
    """The value of each row, reshaped to broadcast against (q, *batch)."""
    value = jnp.asarray(value).astype(jnp.float64)
    return value.reshape(*value.shape, *(1,) * (effect.ndim - 1)) if value.ndim else value


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _mahalanobis(effect: Array, rows: Array, V: Array, min_pivot: float) -> Array:
    """`_squared_length` with a derivative that JAX can transpose.

    JAX cannot transpose a float64 matrix product while its 64-bit switch is off; the derivative here is a sum
    of elementwise products instead.
    """
    return _squared_length(effect, rows, V, min_pivot)


@_mahalanobis.defjvp
@promoting
def _mahalanobis_jvp(min_pivot: float, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    effect, rows, V = primals
    with float64():
        value = _mahalanobis(effect, rows, V, min_pivot)

        def total(effect: Array, rows: Array, V: Array) -> Array:
            return jnp.sum(_squared_length(effect, rows, V, min_pivot))

        gradients = jax.grad(total, (0, 1, 2))(effect, rows, V)
        gradients = [jnp.where(jnp.isfinite(gradient), gradient, 0) for gradient in gradients]
        changes = [
            jnp.sum(gradient * tangent, axis=tuple(range(gradient.ndim - value.ndim)))
            for gradient, tangent in zip(gradients, tangents, strict=True)
        ]
        return value, reduce(jnp.add, changes)


def _squared_length(effect: Array, rows: Array, V: Array, min_pivot: float) -> Array:
    """eᵀ (G V Gᵀ)⁻¹ e as |L⁻¹R⁻ᵀe|² with Gᵀ = Q R and QᵀVQ = L Lᵀ, which does not square the condition of G.

    V itself may be singular, only QᵀVQ is inverted. NaN if QᵀVQ is singular to rounding: if no more than
    `min_pivot` of the variance of a contrast is independent of those before it.
    """
    if rows.shape[0] == 1:
        return jnp.square(effect[0]) / small.dot(rows[0], small.matvec(V, rows[0]))
    e = jnp.moveaxis(effect, 0, -1)[..., None]
    V, rows = (jnp.moveaxis(a, (0, 1), (-2, -1)) for a in (V, rows))
    Q, R = jnp.linalg.qr(jnp.swapaxes(rows, -2, -1))
    block = jnp.swapaxes(Q, -2, -1) @ V @ Q
    finite, exact = jnp.isfinite(block).all(axis=(-2, -1)), (block == 0).all(axis=(-2, -1))
    identity = jnp.eye(block.shape[-1])
    L = jnp.linalg.cholesky(jnp.where((finite & ~exact)[..., None, None], lax.stop_gradient(block), identity))
    pivots, variances = (jnp.diagonal(a, axis1=-2, axis2=-1) for a in (jnp.square(L), block))
    regular = finite & (pivots > min_pivot * variances).all(axis=-1)  # False for NaN of a failed Cholesky
    L = jnp.linalg.cholesky(jnp.where(regular[..., None, None], block, identity))
    whitened = solve_triangular(R, jnp.where(regular[..., None, None], e, 0), trans=1)
    whitened = solve_triangular(L, whitened, lower=True)
    squared = jnp.where(regular, jnp.sum(jnp.square(whitened[..., 0]), axis=-1), jnp.nan)
    return jnp.where(exact, jnp.where((e[..., 0] == 0).all(axis=-1), jnp.nan, jnp.inf), squared)


def _rank(C: np.ndarray) -> int:
    """The rank of C after its columns are scaled to a maximum of 1 and its rows to length 1."""
    unit = np.abs(C).max(axis=0)
    scaled = C / np.where(unit > 0, unit, 1)
    return int(np.linalg.matrix_rank(scaled / np.linalg.norm(scaled, axis=1, keepdims=True)))
