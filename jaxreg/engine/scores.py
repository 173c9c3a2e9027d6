"""Scores s_i = w_i ε_i ψ_i of a fitted model, row by row, from which robust covariances are summed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.curves.curve import CompiledCurve
from jaxreg.engine import matrix_sums
from jaxreg.engine.products import over_row_tiles, product
from jaxreg.engine.row_sums import Window, over_rows, row
from jaxreg.engine.rows import Rows
from jaxreg.engine.sums import columns_of
from jaxreg.gaps import is_valid
from jaxreg.numerics.precision import power_of_two
from jaxreg.numerics.vectors import Symmetric, Vector, dot, elementwise, triangle, vector

State = TypeVar("State")

# (w ε)² and the leverage h, or None, of an observation → its corrected square
Correction = Callable[[Array, Array | None], Array]


class Model(NamedTuple):
    """The fitted model of each data set, in float64.

    Attributes:
        center: of each column of x.
        scale: the same.
        coefs: c, p of them.
        V: ⟨ψψᵀ⟩⁻¹.
        unit: √⟨ε²⟩, the unit of scores.
        weight: Σ w.
        cost: a mean of a loss ρ, whose scores are −w ∂ρ/∂f ψ; None for the mean squared error.
        error_scale: of the residuals of a robust cost, or None.
    """

    center: list[Array]
    scale: list[Array]
    coefs: Vector
    V: Symmetric
    unit: Array
    weight: Array
    cost: MeanLoss | None = None
    error_scale: Array | None = None


class Row(NamedTuple):
    """One observation of each data set; weight and score are 0 where it is missing.

    Attributes:
        valid: whether it is valid.
        weight: w, or w ∂²ρ/∂f² of a loss ρ, by which ψψᵀ is multiplied in the inverse of V.
        psi: ψ(t), p of them.
        score: w ε / √⟨ε²⟩, or −w ∂ρ/∂f in this unit, without ψ.
    """

    valid: Array
    weight: Array
    psi: Vector
    score: Array


@dataclass(frozen=True)
class Scores:
    """The observations of the data sets as scores; they are recomputed row by row and never stored.

    Attributes:
        ansatz: with the basis ψ.
        model: the fitted model of each data set.
        nobs: number of valid observations, (*batch), as floats.
        data: x, y and weights, as for `row_sums`, and the offset of f if a cost has one.
        rows: how many at once.
        window: (start, width), to select columns of the data; the model is of these.
    """

    ansatz: Ansatz
    model: Model
    nobs: Array
    data: tuple[Array | None, ...]
    rows: Rows
    window: Window | None

    @property
    def n(self) -> int:
        """Number of rows."""
        return not_none(self.data[1]).shape[0]

    @property
    def p(self) -> int:
        """Number of params."""
        return len(self.model.coefs)

    @property
    def df(self) -> Array:
        """nobs − p, at least 1."""
        return jnp.maximum(self.nobs - self.p, 1)

    def zeros(self) -> tuple[Array, Vector, Symmetric]:
        """A number, a vector and a symmetric matrix of zeros for each data set."""
        zero = jnp.zeros_like(self.nobs)
        v = elementwise(lambda c: jnp.zeros_like(zero + c), self.model.coefs)
        return zero, v, outer(v, zero)

    def row(self, i: Any) -> Row:
        """Row i."""
        return _row(self.ansatz, self.model, *row(self.data, self.window, i))

    def leverage(self, row: Row) -> Array:
        """h = w ψᵀ(Σ w ψψᵀ)⁻¹ψ, with w ∂²ρ/∂f² in place of w for a loss ρ."""
        return row.weight * dot(row.psi, self.model.V.times(row.psi)) / self.model.weight

    def over_rows(self, step: Callable[[State, Row], State], start: State) -> State:
        """step(state, row) for every row in order."""

        @jax.checkpoint
        def steps(state: State, observations: list[tuple]) -> State:
            for observation in observations:
                state = step(state, _row(self.ansatz, self.model, *observation))
            return state

        numbers = sum(map(jnp.size, jax.tree.leaves(start))) // max(self.nobs.size, 1)  # of a data set
        q = max(self.p, numbers // self.p)  # a state of many numbers, as of many lags, takes fewer rows
        return over_rows(self.data, self.rows, q, self.window, steps, start)

    def heteroscedastic(self, correct: Correction, *, leverage: bool) -> Symmetric:
        """M = Σ correct((w ε)², h) ψψᵀ, with h = None unless `leverage`."""
        x = not_none(self.data[0])
        x_is_shared = all(length == 1 for length in x.shape[1 + self.ansatz.x_is_vector :])
        by_products = self.ansatz.basis_is_x and matrix_sums.applies(self.ansatz, x, x_is_shared)
        if by_products and self.window is None and self.model.cost is None:
            return _on_shared_design(self, correct, leverage)

        def step(meat: Symmetric, row: Row) -> Symmetric:
            h = self.leverage(row) if leverage else None
            return add(meat, outer(row.psi, correct(jnp.square(row.score), h)))

        return self.over_rows(step, self.zeros()[2])


def outer(a: Vector, factor: Array) -> Symmetric:
    """f a aᵀ."""
    k = len(a)
    if isinstance(a, list):
        return Symmetric([factor * a[i] * a[j] for i in range(k) for j in range(i + 1)], k)
    return Symmetric(factor * a[:, None] * a[None], k)


def add(a: Symmetric, b: Symmetric) -> Symmetric:
    """a + b."""
    return Symmetric(elementwise(jnp.add, a.entries, b.entries), a.k)


def symmetric_outer(a: Vector, b: Vector) -> Symmetric:
    """a bᵀ + b aᵀ."""
    k = len(a)
    if isinstance(a, list):
        return Symmetric([a[i] * b[j] + b[i] * a[j] for i in range(k) for j in range(i + 1)], k)
    return Symmetric(a[:, None] * b[None] + b[:, None] * a[None], k)


class Observation(NamedTuple):
    """One observation of each data set; where it is missing the weight is 0 and y is `safe_y`.

    Attributes:
        valid: whether it is valid.
        weight: w.
        psi: ψ(t), or ∂f/∂c of a curve, p of them.
        y: y.
    """

    valid: Array
    weight: Array
    psi: list[Array]
    y: Array


def observation(
    ansatz: Ansatz,
    center: list[Array],
    scale: list[Array],
    coefs: Vector,
    x: Array,
    y: Array,
    w: Array | None,
    safe_y: float = 0.0,
    axis: int = 0,
) -> tuple[Observation, Array]:
    """A row of the data, or all with axis=1, in the basis of t = (x − center) / scale, and its f."""
    columns, dtype = columns_of(ansatz, x, axis), scale[0].dtype
    response = observed_response(columns, y, w, dtype, safe_y)
    if isinstance(ansatz, CompiledCurve):
        if axis:
            columns = _first_valid_where_missing(columns, response.valid)
        columns = [jnp.where(jnp.isfinite(a), a, 0).astype(dtype) for a in columns]
        columns = [a - c for a, c in zip(columns, center, strict=True)]
        f, psi = ansatz.linearized(coefs, columns)
        f, *psi = (jnp.where(response.valid, a, 0) for a in (f, *psi))
        return response._replace(psi=psi), f
    columns = [jnp.where(jnp.isfinite(a), a, 0).astype(dtype) for a in columns]
    x_scaled = [(a - c) * (1 / s) for a, c, s in zip(columns, center, scale, strict=True)]
    psi = ansatz.basis(x_scaled)
    return response._replace(psi=psi), reduce(jnp.add, [c * a for c, a in zip(coefs, psi, strict=True)])


def _first_valid_where_missing(columns: list[Array], valid: Array) -> list[Array]:
    """x of the first valid observation where one is missing: the derivative of f may be NaN at another x."""
    is_first = valid & (jnp.cumsum(valid, axis=0) == 1)

    def replaced(a: Array) -> Array:
        first = jnp.sum(jnp.where(is_first, a, 0), axis=0)
        return jnp.where(valid, a, lax.stop_gradient(first))

    return [replaced(a) for a in columns]


def observed_response(
    columns: list[Array], y: Array, w: Array | None, dtype: Any, safe_y: float = 0.0
) -> Observation:
    """An observation without its ψ."""
    valid = is_valid(columns, y, w) & jnp.isfinite(y)
    w = _valid_weight(valid, w, dtype)
    return Observation(valid, w, [], jnp.where(valid, y, safe_y).astype(dtype))


def _row(
    ansatz: Ansatz, model: Model, x: Array, y: Array, w: Array | None, offset: Array | None = None
) -> Row:
    """ψ and the score of a row of the data."""
    safe_y = 0.0 if model.cost is None else model.cost.safe_y
    (valid, w, psi, y), f = observation(ansatz, model.center, model.scale, model.coefs, x, y, w, safe_y)
    psi = vector([jnp.broadcast_to(a, valid.shape) for a in psi])
    if model.cost is not None:
        f = f if offset is None else f + jnp.where(valid, offset, 0)
        terms = model.cost.terms(y, f, w, model.error_scale)
        return Row(valid, terms.curvature, psi, -terms.slope / model.unit)
    error = y
    for c, a in zip(model.coefs, psi, strict=True):
        error = error - c * a
    return Row(valid, w, psi, w * (error / model.unit))


def _valid_weight(valid: Array, w: Array | None, dtype: Any) -> Array:
    """w, or 1 without weights; 0 for missing observations."""
    finite = jnp.ones((), dtype) if w is None else jnp.where(jnp.isfinite(w), w, 0).astype(dtype)
    return jnp.where(valid, finite, 0)


def _on_shared_design(scores: Scores, correct: Correction, leverage: bool) -> Symmetric:
    """`heteroscedastic` on a shared design of several columns, by matrix products of (w ε)² and ψ_i ψ_j.

    The products have one scaling of x for all data sets. In terms of its basis ψ', the basis of a data set is
    ψ_k = d_k ψ'_k + r_k ψ'_0, by which coefs, V and M are transformed.
    """
    ansatz, model = scores.ansatz, scores.model
    x, y, weights = not_none(scores.data[0]), not_none(scores.data[1]), scores.data[2]
    n, p, dtype = y.shape[0], len(model.coefs), model.unit.dtype
    first = int(ansatz.has_intercept)
    columns = [jnp.where(jnp.isfinite(a), a, 0).astype(dtype) for a in columns_of(ansatz, x, 1)]
    low, high = (jnp.stack([function(a, axis=0) for a in columns]) for function in (jnp.min, jnp.max))
    center = (low + high) / 2 if first else jnp.zeros_like(low)
    scale = power_of_two(jnp.maximum(high - center, center - low))
    x_scaled = [(a - c) * (1 / s) for a, c, s in zip(columns, center, scale, strict=True)]
    psi = jnp.stack([a.reshape(n) for a in ansatz.basis(x_scaled)])
    i, j = np.tril_indices(p)
    products = psi[i] * psi[j]
    d = jnp.stack([shared / own for shared, own in zip(scale, model.scale, strict=True)])
    r = jnp.stack([(c - own) / s for c, own, s in zip(center, model.center, model.scale, strict=True)])
    one = jnp.ones_like(d[:1])
    d, r = (jnp.concatenate([one, d]), jnp.concatenate([one, r])) if first else (d, jnp.zeros_like(r))
    coefs, V = _to_shared_basis(model, d, r, first)
    multiplicity = jnp.where(i == j, 1.0, 2.0).reshape(-1, *(1,) * (V.ndim - 2)).astype(dtype)
    V_lower = V[i, j] * multiplicity  # h/w is the dot product with the lower triangle of ψψᵀ

    # Transposed so that all products have one layout: another gives other last bits in the last columns.
    psi_rows, product_rows = psi.T, products.T

    @partial(jax.checkpoint, static_argnums=0)
    def step(tile: Callable[..., Array], meat: Array) -> Array:
        y_tile, w = tile(y), None if weights is None else tile(weights)
        valid = is_valid([tile(a) for a in columns_of(ansatz, x, 1)], y_tile, w) & jnp.isfinite(y_tile)
        w = _valid_weight(valid, w, dtype)
        error = jnp.where(valid, y_tile, 0).astype(dtype) - product(tile(psi_rows), coefs)
        h = w * product(tile(product_rows), V_lower) / model.weight if leverage else None
        square = correct(jnp.square(w * (error / model.unit)), h)
        return meat + product(tile(products, 1), square)

    meat = jnp.broadcast_to(jnp.zeros_like(model.unit), (len(products), *model.unit.shape))
    meat = over_row_tiles(n, scores.rows, step, meat)
    return Symmetric(_from_shared_basis(meat[triangle(p)], d, r, first), p)


def _to_shared_basis(model: Model, d: Array, r: Array, first: int) -> tuple[Array, Array]:
    """Coefs and V with cᵀψ = c'ᵀψ' and ψᵀVψ = ψ'ᵀV'ψ', for ψ_k = d_k ψ'_k + r_k ψ'_0."""
    coefs, V = model.coefs * d, d[:, None] * model.V.entries * d[None]
    if first:
        Vr = model.V.times(r)
        coefs = coefs.at[0].set(dot(model.coefs, r))
        V = V.at[0].set(d * Vr).at[:, 0].set(d * Vr).at[0, 0].set(dot(r, Vr))
    return coefs, V


def _from_shared_basis(M: Array, d: Array, r: Array, first: int) -> Array:
    """The meat of ψ from that of ψ'."""
    if not first:
        return d[:, None] * M * d[None]
    r = r.at[0].set(0)
    column_0 = d * M[0]
    return (
        d[:, None] * M * d[None]
        + column_0[:, None] * r[None]
        + r[:, None] * column_0[None]
        + r[:, None] * r[None] * M[0, 0]
    )
