"""Tests of linear combinations of the params, all data sets at once.

Combinations of params are computed as combinations of coefs, whose basis lies around the data: no digit is
lost to an offset of x, however correlated the params are.
"""

from __future__ import annotations

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

# The share of its variance in which a contrast differs from others, above the rounding of stored covariances.
MIN_REGULAR = {"float32": 2.0**-20, "float64": 2.0**-40}
ROUNDING = 256  # in units of the last digit: what sums over the same data may differ by


class TTest(NamedTuple):
    """Tests of linear combinations of the params.

    Attributes:
        effect: cᵀθ, (*batch) or (q, *batch) for q combinations, as all the others.
        sd: its standard error.
        tvalue: (cᵀθ − value) / sd.
        pvalue: of both tails.
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
        """(lower, upper) limits of the combinations with confidence 1 − alpha, (2, …)."""
        return around(self.effect, self.sd, quantiles(self.df_denom, alpha))


class FTest(NamedTuple):
    """A joint test that several combinations of the params are 0.

    Attributes:
        fvalue: (*batch).
        pvalue: P(F > fvalue), (*batch).
        df_num: how many combinations.
        df_denom: degrees of freedom of the denominator, (*batch).
    """

    fvalue: Array
    pvalue: Array
    df_num: int
    df_denom: Array

    def __repr__(self) -> str:
        return short_repr(self)


def t_test(fitted: Fitted, names: tuple[str, ...], contrast: Any, value: Any) -> TTest:
    """cᵀθ = value, for one c or for each row of several."""
    contrast, value = _parsed(contrast, value, names)
    C = as_numbers(contrast, fitted.p)
    each = _t_tests(fitted, np.atleast_2d(C), as_values(value, C))
    return TTest(*(each if C.ndim == 2 else (a[0] for a in each)))


def f_test(fitted: Fitted, names: tuple[str, ...], contrasts: Any, value: Any) -> FTest:
    """C θ = value in all its rows."""
    contrasts, value = _parsed(contrasts, value, names)
    C = np.atleast_2d(as_numbers(contrasts, fitted.p))
    q = C.shape[0]
    if _rank(C) < q:
        raise ValueError(f"the {q} rows of the contrasts are linearly dependent; leave out redundant ones")
    fvalue, pvalue = f_of(fitted, C, as_values(value, C))
    return FTest(fvalue, pvalue, q, fitted.df_denominator)


def _parsed(contrast: Any, value: Any, names: tuple[str, ...]) -> tuple[Any, Any]:
    """Numbers of a contrast that is text, such as "x1 = x2", or of several, "x1 = x2, x3 = 1"."""
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
        raise ValueError(f'a contrast as text holds its value, as "{names[-1]} = 1"; got value={value!r} too')
    try:
        parsed = LinearConstraints.from_spec(contrast, variable_names=list(names))
    except KeyError as error:
        raise ValueError(f"{contrast!r} names {error}; the params are {', '.join(names)}") from None
    except (FormulaicError, RuntimeError, ValueError) as error:
        raise ValueError(f"{contrast!r} is not a linear contrast of {', '.join(names)}: {error}") from None
    C, values = np.asarray(parsed.constraint_matrix, float), np.asarray(parsed.constraint_values, float)
    return (C[0], values[0]) if len(C) == 1 else (C, values)


def as_numbers(given: Any, p: int) -> np.ndarray:
    """C as numbers, (p,) or (q, p)."""
    try:
        C = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"contrasts are numbers of shape ({p},) or (q, {p}), got {given!r}") from None
    if C.ndim not in (1, 2) or C.shape[-1] != p or not C.size:
        raise ValueError(f"contrasts are numbers of shape ({p},) or (q, {p}), got shape {C.shape}")
    if not np.isfinite(C).all() or (C == 0).all(axis=-1).any():
        raise ValueError(f"a contrast is of finite numbers that are not all 0; got {C.tolist()}")
    return C


def as_values(given: Any, C: np.ndarray) -> Any:
    """What the contrasts are tested against, a number or one for each."""
    given = given if isinstance(given, jax.Array) else np.asarray(given, np.float64)
    if given.shape not in ((), (np.atleast_2d(C).shape[0],)):
        raise ValueError(
            f"value is the same for all data sets: a number, or one for each of the {len(np.atleast_2d(C))} "
            f"contrasts; got shape {given.shape}"
        )
    return given


@differentiable
def _t_tests(fitted: Fitted, C: Any, value: Any) -> tuple[Array, Array, Array, Array, Array]:
    """Cθ, its standard error, t, p-value and degrees of freedom of every row of C, (q, *batch)."""
    with float64():
        rows = _rows_of(fitted, C)
        V = fitted.cov_of_coefs()
        effect = _effect(fitted, C, rows)
        sd = jnp.stack([deviation(row, V) for row in rows])
        away = effect - _per_row(value, effect)
        effect, sd, tvalue = (a.astype(fitted.estimate.params.dtype) for a in (effect, sd, away / sd))
    df = jnp.broadcast_to(fitted.df_t, sd.shape)
    return effect, sd, tvalue, jnp.exp(t.log_p(tvalue, df)), df


@differentiable
def f_of(fitted: Fitted, C: Any, value: Any) -> tuple[Array, Array]:
    """F of all rows of C together, and its p-value."""
    with float64():
        rows = _rows_of(fitted, C)
        effect = _effect(fitted, C, rows)
        away = effect - _per_row(value, effect)
        p, unit = fitted.p, fitted.sigma_over_root_weight().astype(jnp.float64)
        dense = jnp.stack(
            [jnp.stack([jnp.broadcast_to(row.get(k, 0.0), unit.shape) for k in range(p)]) for row in rows]
        )
        unit_cov = jnp.asarray(fitted.estimate.unit_cov)[triangle(p)].astype(jnp.float64)
        least = MIN_REGULAR[fitted.estimate.params.dtype.name]
        fvalue = _mahalanobis(
            away / jnp.where(unit > 0, unit, 1), dense, jnp.where(unit > 0, unit_cov, 0 * unit_cov), least
        )
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
    """Each combination of params as one of coefs, in float64: no digit is lost to an offset of x."""
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
    """A number for all rows, or one for each."""
    value = jnp.asarray(value).astype(jnp.float64)
    return value.reshape(*value.shape, *(1,) * (effect.ndim - 1)) if value.ndim else value


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _mahalanobis(effect: Array, rows: Array, V: Array, least: float) -> Array:
    """`_squared_length`, whose derivative is a sum of products of each data set.

    A product of matrices in float64 cannot be transposed where 64 bits are off.
    """
    return _squared_length(effect, rows, V, least)


@_mahalanobis.defjvp
@promoting
def _mahalanobis_jvp(least: float, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    effect, rows, V = primals
    with float64():
        value = _mahalanobis(effect, rows, V, least)

        def total(effect: Array, rows: Array, V: Array) -> Array:
            return jnp.sum(_squared_length(effect, rows, V, least))

        slopes = jax.grad(total, (0, 1, 2))(effect, rows, V)
        slopes = [jnp.where(jnp.isfinite(slope), slope, 0) for slope in slopes]
        parts = [
            jnp.sum(slope * dot, axis=tuple(range(slope.ndim - value.ndim)))
            for slope, dot in zip(slopes, tangents, strict=True)
        ]
        return value, reduce(jnp.add, parts)


def _squared_length(effect: Array, rows: Array, V: Array, least: float) -> Array:
    """eᵀ (G V Gᵀ)⁻¹ e as |L⁻¹R⁻ᵀe|² with Gᵀ = Q R and QᵀVQ = L Lᵀ, which does not square the condition of G.

    Only the block QᵀVQ needs an inverse, V does not. NaN where a share of a diagonal entry of it not above
    `least` is independent of those before: it is singular to its rounding.
    """
    if rows.shape[0] == 1:
        return jnp.square(effect[0]) / small.dot(rows[0], small.matvec(V, rows[0]))
    e = jnp.moveaxis(effect, 0, -1)[..., None]
    V, rows = (jnp.moveaxis(a, (0, 1), (-2, -1)) for a in (V, rows))
    Q, R = jnp.linalg.qr(jnp.swapaxes(rows, -2, -1))
    block = jnp.swapaxes(Q, -2, -1) @ V @ Q
    known, exact = jnp.isfinite(block).all(axis=(-2, -1)), (block == 0).all(axis=(-2, -1))
    unit = jnp.eye(block.shape[-1])
    L = jnp.linalg.cholesky(jnp.where((known & ~exact)[..., None, None], lax.stop_gradient(block), unit))
    pivots, variances = (jnp.diagonal(a, axis1=-2, axis2=-1) for a in (jnp.square(L), block))
    regular = known & (pivots > least * variances).all(axis=-1)  # NaN, where it broke down, is not
    L = jnp.linalg.cholesky(jnp.where(regular[..., None, None], block, unit))
    half = solve_triangular(R, jnp.where(regular[..., None, None], e, 0), trans=1)
    half = solve_triangular(L, half, lower=True)
    inside = jnp.where(regular, jnp.sum(jnp.square(half[..., 0]), axis=-1), jnp.nan)
    return jnp.where(exact, jnp.where((e[..., 0] == 0).all(axis=-1), jnp.nan, jnp.inf), inside)


def _rank(C: np.ndarray) -> int:
    """How many rows are independent, with columns in units of their largest number and rows of length 1."""
    unit = np.abs(C).max(axis=0)
    scaled = C / np.where(unit > 0, unit, 1)
    return int(np.linalg.matrix_rank(scaled / np.linalg.norm(scaled, axis=1, keepdims=True)))
