"""Sums over the observations of functions of y and f = f(θ, x), such as a loss ρ and its derivatives in f.

Terms are recomputed in every pass and never stored. They are summed in a loop over the rows, which is one
kernel on a GPU, or as matrix products where all data sets share a design of several columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.costs.likelihoods import Likelihood
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.costs.robust import root_of_weight
from jaxreg.engine.products import over_row_tiles, product
from jaxreg.engine.row_sums import over_rows
from jaxreg.engine.rows import Rows
from jaxreg.engine.scores import Observation, observation, observed_response, outer
from jaxreg.engine.sums import columns_of
from jaxreg.numerics.precision import power_of_two
from jaxreg.numerics.vectors import (
    Symmetric,
    Vector,
    as_array,
    dot,
    elementwise,
    max_listed,
    triangle,
    vector,
)

MIN_PRODUCTS = 3  # params from which the sums of a shared design are matrix products
MAX_FRACTION = 0.9  # of the interval around a median by which one pass shortens it at most

Data = tuple[Array, Array, "Array | None", "Array | None"]  # x, y, weights, offset


class Terms(NamedTuple):
    """The terms of an observation, which are 0 if its weight is 0.

    Attributes:
        sums: a pytree of terms that are summed.
        slope: summed times ψ, or None.
        curvature: summed times ψψᵀ, or None.
    """

    sums: Any = None
    slope: Array | None = None
    curvature: Array | None = None


class Local(NamedTuple):
    """Σ w ρ near given coefs, to second order.

    Attributes:
        value: Σ w ρ; None where slopes are enough.
        gradient: Σ w ∂ρ/∂f ψ, p of them.
        curvature: Σ w h ψψᵀ with h what a solver takes for ∂²ρ/∂f².
    """

    value: Array | None
    gradient: Vector
    curvature: Symmetric


TermsOf = Callable[[Observation, Array], Terms]


@dataclass(frozen=True)
class LossSums:
    """The sums of a cost over the observations of each data set.

    Attributes:
        ansatz: with the basis ψ.
        cost: with numbers that broadcast against the data sets.
        center: of each column of x.
        scale: the same.
        data: x, y, weights and offset.
        rows: how many at once; None for sums of whole arrays, which can be differentiated.
        by_products: whether sums are matrix products; then all data sets share x, center and scale.
        alpha: strength of the penalty α Σ β² on the slopes of columns, or None.
    """

    ansatz: Ansatz
    cost: MeanLoss
    center: list[Array]
    scale: list[Array]
    data: Data
    rows: Rows | None
    by_products: bool = False
    alpha: Array | None = None

    @property
    def penalty(self) -> Vector:
        """α / scale², times the squares of the coefs, the penalty; 0 for the constant."""
        slopes = [not_none(self.alpha) / jnp.square(scale) for scale in self.scale]
        first = [jnp.zeros_like(slopes[0])] * self.ansatz.has_intercept
        return vector([*first, *slopes])

    def penalized(self, local: Local, coefs: Vector) -> Local:
        """Σ w ρ with the penalty, near these coefs."""
        if self.alpha is None:
            return local
        d = elementwise(lambda a, c: a + jnp.zeros_like(c), self.penalty, coefs)
        value = None if local.value is None else local.value + dot(d, elementwise(jnp.square, coefs))
        gradient = elementwise(lambda g, d, c: g + 2 * d * c, local.gradient, d, coefs)
        return Local(value, gradient, local.curvature.plus_diagonal(elementwise(lambda a: 2 * a, d)))

    def total(self, terms: TermsOf, coefs: Vector) -> tuple[Any, Vector | None, Symmetric | None]:
        """Σ terms(observation, f), with its slope times ψ and its curvature times ψψᵀ."""
        if self.rows is None:
            every = _with_psi(terms, *self.all_rows(coefs))
            axes = self.data[1].ndim  # of the observations and the data sets, which come last
            return jax.tree.map(lambda a: jnp.sum(a, axis=a.ndim - axes), every)
        if self.by_products:
            return self._products(terms, coefs)

        def step(state: Any, observations: list[tuple]) -> Any:
            some = [_with_psi(terms, *self._rows(coefs, *row)) for row in observations]
            return jax.tree.map(lambda a, *b: a + reduce(jnp.add, b), state, *some)

        first: Any = jax.tree.map(lambda a: a[0], self.data)
        zeros = jax.tree.map(jnp.zeros_like, _with_psi(terms, *self._rows(coefs, *first)))
        return over_rows(self.data, self.rows, len(coefs) + 1, None, step, zeros)

    def _products(self, terms: TermsOf, coefs: Vector) -> tuple[Any, Vector | None, Symmetric | None]:
        """`total` as matrix products of a few rows of the design at a time."""
        x, y, weights, offset = self.data
        c, p, n = as_array(coefs), len(coefs), len(y)
        columns = columns_of(self.ansatz, x, 1)
        finite = [jnp.where(jnp.isfinite(a), a, 0) for a in columns]
        x_scaled = [(a - c) * (1 / s) for a, c, s in zip(finite, self.center, self.scale, strict=True)]
        one = jnp.ones_like(x_scaled[0])
        psi = jnp.stack([(a * one).reshape(n) for a in self.ansatz.basis(x_scaled)])
        i, j = np.tril_indices(p)
        factors = jnp.concatenate([jnp.ones_like(psi[:1]), psi, psi[i] * psi[j]])
        design = psi.T

        def step(tile: Callable[..., Array], state: Any) -> Any:
            w = None if weights is None else tile(weights)
            row = observed_response(
                [tile(a) for a in columns], tile(y, fill=jnp.nan), w, c.dtype, self.cost.safe_y
            )
            f = product(tile(design), c)
            t = terms(row, f if offset is None else f + jnp.where(row.valid, tile(offset), 0))
            ones, rows, products = jnp.split(tile(factors, 1), [1, 1 + p])
            new = (
                jax.tree.map(lambda a: product(ones, a)[0], t.sums),
                *(
                    None if a is None else product(b, a)
                    for a, b in ((t.slope, rows), (t.curvature, products))
                ),
            )
            return jax.tree.map(jnp.add, state, new)

        x_row, w_row = [a[:1] for a in columns], None if weights is None else weights[:1]
        t = terms(observed_response(x_row, y[:1], w_row, c.dtype, self.cost.safe_y), jnp.zeros_like(c[:1]))
        sums = jax.tree.map(lambda a: jnp.zeros_like(a[0]), t.sums)
        slope, curvature = (
            None if a is None else jnp.zeros_like(jnp.broadcast_to(a, (length, *a.shape[1:])))
            for a, length in ((t.slope, p), (t.curvature, len(i)))
        )
        sums, slope, curvature = over_row_tiles(n, not_none(self.rows), step, (sums, slope, curvature))
        return (
            sums,
            None if slope is None else vector(list(slope)),
            None if curvature is None else symmetric_from_lower(curvature, p),
        )

    def local(
        self, coefs: Vector, scale: Array | None, *, with_value: bool, careful: Array | None = None
    ) -> Local:
        """Σ w ρ near these coefs, with the curvature for careful steps of a solver if `careful` is true."""

        def terms(row: Observation, f: Array) -> Terms:
            t = self.cost.terms(row.y, f, row.weight, scale)
            curvature = t.working_curvature
            if careful is not None and t.careful_curvature is not None:
                curvature = jnp.where(careful, t.careful_curvature, curvature)
            return Terms(t.value if with_value else None, t.slope, curvature)

        value, gradient, curvature = self.total(terms, coefs)
        return self.penalized(Local(value, not_none(gradient), not_none(curvature)), coefs)

    def first_local(self, zeros: Vector, y_mean: Array) -> Local:
        """The same about coefs of 0, with derivatives near the y of each observation."""

        def terms(row: Observation, offset: Array) -> Terms:
            f = cast("Likelihood", self.cost).first_f(row.y, y_mean)
            t = self.cost.terms(row.y, f, row.weight, None)
            return Terms(None, t.slope - t.working_curvature * (f - offset), t.working_curvature)

        _, gradient, curvature = self.total(terms, zeros)
        return self.penalized(Local(None, not_none(gradient), not_none(curvature)), zeros)

    def median_size(self, coefs: Vector, nobs: Array, guess: Array) -> Array:
        """The median of √w |ε|, by counting how many are below a value that approaches it.

        Few passes are needed from the guess of the step before; XLA sorts a hundred numbers in several µs.
        """
        size_of, data = partial(self._size, coefs), self.data
        if self.rows is None:
            return differentiable_quantile(size_of(*data, axis=1), (nobs - 1) / 2)
        if self.rows.on_cpu:
            sizes = lax.optimization_barrier(size_of(*data, axis=1))
            size_of, data = (lambda _, size, __: size), (sizes, sizes, None)
        target = jnp.ceil(nobs / 2)  # the number of observations up to the lower of the two in the middle

        def count_up_to(t: Array) -> _Count:
            def step(state: _Count, observations: list[tuple]) -> _Count:
                for some in observations:
                    size = size_of(*some)  # NaN where missing: neither below nor above
                    state = _Count(
                        state.number + jnp.where(size <= t, 1.0, 0.0),
                        jnp.maximum(state.below, jnp.where(size <= t, size, 0)),
                        jnp.minimum(state.above, jnp.where(size > t, size, jnp.inf)),
                    )
                return state

            zero = jnp.zeros_like(t)
            start = _Count(zero, zero, zero + jnp.inf)
            return over_rows(data, not_none(self.rows), len(coefs) + 1, None, step, start)

        def is_found(low: _Count, high: _Count) -> Array:
            return (high.number == target) | (low.above == high.below)

        def narrow(state: tuple[_Count, _Count, Array]) -> tuple[_Count, _Count, Array]:
            low, high, t = state
            count = count_up_to(t)
            is_low = count.number < target
            found = is_found(low, high)
            low, high = (
                jax.tree.map(partial(jnp.where, side & ~found), count, old)
                for side, old in ((is_low, low), (~is_low, high))
            )
            share = (target - low.number - 0.5) / jnp.maximum(high.number - low.number, 1)
            share = jnp.clip(share, 1 - MAX_FRACTION, MAX_FRACTION)
            inside = low.above + share * (high.below - low.above)
            inside = jnp.where(inside < high.below, inside, low.above)
            return low, high, jnp.where(high.below < jnp.inf, inside, jnp.maximum(2 * t, low.above))

        zero = jnp.zeros_like(guess)
        low = _Count(zero, zero, zero)
        high = _Count(zero + jnp.inf, zero + jnp.inf, zero + jnp.inf)
        start = (low, high, guess)
        _, high, _ = lax.while_loop(lambda s: ~jnp.all(is_found(*s[:2]) | (target == 0)), narrow, start)
        upper = jnp.where((nobs == 2 * target) & (high.number == target), high.above, high.below)
        return (high.below + upper) / 2

    def all_rows(self, coefs: Vector) -> tuple[Observation, Array]:
        """All observations at once, (n, *batch), and f."""
        return self._rows(coefs, *self.data, axis=1)

    def _rows(
        self,
        coefs: Vector,
        x: Array,
        y: Array,
        w: Array | None,
        offset: Array | None,
        *,
        axis: int = 0,
    ) -> tuple[Observation, Array]:
        """A row of the data, or all with axis=1, and f."""
        row, f = observation(self.ansatz, self.center, self.scale, coefs, x, y, w, self.cost.safe_y, axis)
        return row, f if offset is None else f + jnp.where(row.valid, offset, 0)

    def _size(self, coefs: Vector, *data: Any, axis: int = 0) -> Array:
        """√w |ε|, NaN where missing."""
        row, f = self._rows(coefs, *data, axis=axis)
        return jnp.where(row.valid, root_of_weight(row.weight) * jnp.abs(row.y - f), jnp.nan)


def differentiable_quantile(a: Array, position: Array) -> Array:
    """Of the sorted numbers (n, *batch) that are not NaN the one at a position, interpolated between two.

    A function of these two. Masks take the place of indices: XLA would gather the data sets of all devices
    on an Explicit mesh, as `jnp.sort` does in its derivative.
    """
    constant = lax.stop_gradient(a)
    ordered = jnp.sort(constant, axis=0)  # NaN last
    fraction = position - jnp.floor(position)
    share = jnp.zeros_like(a)
    quantile = jnp.zeros_like(a[0])
    for index, part in ((jnp.floor(position), 1 - fraction), (jnp.ceil(position), fraction)):
        number = _at(ordered, index)
        is_number = constant == number
        share += jnp.where(is_number, part / jnp.maximum(jnp.sum(is_number, axis=0), 1), 0)
        quantile += part * number
    return quantile + jnp.sum(jnp.where(share > 0, share * (a - constant), 0), axis=0)


def _at(ordered: Array, position: Array) -> Array:
    """The number at an integer position of each data set."""
    rank = jnp.arange(len(ordered), dtype=position.dtype).reshape(-1, *(1,) * (ordered.ndim - 1))
    return jnp.sum(jnp.where(rank == position, ordered, 0), axis=0)


class _Count(NamedTuple):
    """Observations up to a value: their number, the largest up to it, and the smallest above it."""

    number: Array
    below: Array
    above: Array


def shared_scaling(ansatz: Ansatz, x: Array) -> tuple[list[Array], list[Array]]:
    """Center and scale that map the range of each column of a shared x into [−1, 1]."""
    columns = [jnp.where(jnp.isfinite(a), a, jnp.nan) for a in columns_of(ansatz, x, 1)]
    low, high = ([function(a, axis=0) for a in columns] for function in (jnp.nanmin, jnp.nanmax))
    center = [
        (a + b) / 2 if ansatz.has_intercept else jnp.zeros_like(a) for a, b in zip(low, high, strict=True)
    ]
    scale = [power_of_two(jnp.maximum(b - c, c - a)) for a, b, c in zip(low, high, center, strict=True)]
    return center, scale


def symmetric_from_lower(lower: Array, k: int) -> Symmetric:
    """From the lower triangle row by row, as a list or an array like the vectors of its size."""
    return Symmetric(list(lower) if k <= max_listed() else lower[triangle(k)], k)


def _with_psi(terms: TermsOf, row: Observation, f: Array) -> tuple[Any, Vector | None, Symmetric | None]:
    """The terms of an observation, times its ψ."""
    sums, slope, curvature = terms(row, f)
    psi = vector([jnp.broadcast_to(a, f.shape) for a in row.psi])
    return (
        sums,
        None if slope is None else elementwise(lambda a: slope * a, psi),
        None if curvature is None else outer(psi, curvature),
    )
