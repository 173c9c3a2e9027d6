"""Sums over the rows in order: a few rows are written out in the body of a loop, on every platform.

Each row is a slice of its own, its products are masked and added to running sums as long as a row: on the CPU
a kernel for each sum, on a GPU one for all. Slicing the few as one block makes XLA store every product first
(2 ×), `jnp.sum(axis=0)` and one `lax.reduce` for all sums are slower still. The axes of the data sets stay as
they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.cost import is_valid
from jaxreg.engine.rows import Rows
from jaxreg.engine.sums import Raw, Sums, columns_of, size, z_of

MULTIPLIED = 4  # weights whose product is a float64 whatever they are in float32
MANTISSA_BITS, MANTISSA, ONE = 52, 2**52 - 1, 1023 << 52  # of a float64 as an integer

Window = tuple[Any, int]
State = TypeVar("State")


def row_sums(
    ansatz: Ansatz,
    raw: Raw | None,
    x: Array,
    y: Array,
    weights: Array | None,
    *,
    rows: Rows,
    masked: bool = True,
    window: Window | None = None,
) -> Sums:
    """The sums of every data set over its valid observations.

    Args:
        ansatz: whose basis ψ is.
        raw: the units to add in; those of the data without.
        x: (n, *batch) or, where one observation is a vector, (n, k, *batch); axes of length 1 are shared.
        y: (n, *batch).
        weights: (n, *batch), or None.
        rows: how many at once.
        masked: whether to leave out what is missing; without, a data set with a gap gets NaN.
        window: (start, width), for some of the columns of arrays (n, m).
    """
    n = y.shape[0]
    at_once = MULTIPLIED if y.dtype == jnp.float32 else 1

    def terms(x: Array, y: Array, w: Array | None) -> list[Array]:
        columns = columns_of(ansatz, x, 0)
        z = z_of(ansatz, raw, columns, y)
        products = [a * b for i, a in enumerate(z) for b in z[: i + 1]]
        if not masked:
            return [*z, *products]
        valid = is_valid(columns, y, w)
        if w is None:
            return [jnp.where(valid, a, 0) for a in (jnp.ones((), jnp.float64), *z, *products)]
        wide = jnp.where(w > 0, w, jnp.nan).astype(jnp.float64)  # NaN for an impossible one
        ones = valid.astype(jnp.float64)
        return [ones, *(jnp.where(valid, a, 0) for a in (wide, *(wide * a for a in (*z, *products))))]

    def with_weights_of(taken: list[tuple], product: _Product) -> _Product:
        factors = [jnp.where(is_valid(columns_of(ansatz, x, 0), y, w) & (w > 0), w, 1) for x, y, w in taken]
        factors = [a.astype(jnp.float64) for a in factors]
        for i in range(0, len(factors), at_once):
            product = product.times(_multiplied(factors[i : i + at_once]))
        return product

    def step(state: tuple[list[Array], _Product | None], taken: list[tuple]) -> tuple:
        sums, product = state
        total = terms(*taken[0])
        for row in taken[1:]:
            total = [a + b for a, b in zip(total, terms(*row), strict=True)]
        sums = [a + b for a, b in zip(sums, total, strict=True)]
        return sums, None if product is None else with_weights_of(taken, product)

    q = size(ansatz, x)
    of_x, of_y, whole = _zeros(ansatz, *row((x, y, weights), window, 0))
    if masked:
        of_x = of_y = whole
    of_z = [of_x] * (q - 1) + [of_y]
    sums = [*of_z, *(a + b for i, a in enumerate(of_z) for b in of_z[: i + 1])]
    sums = [whole] * (masked + (weights is not None)) + sums
    product = None if weights is None else _Product.one(whole, rows.has_bits)
    sums, product = over_rows((x, y, weights), rows.added, window, step, (sums, product))
    nobs = sums.pop(0) if masked else of_x + n
    weight = nobs if weights is None else sums.pop(0)
    log_weight = None if product is None else product.logarithm()
    return Sums(nobs, weight, log_weight, sums[:q], sums[q:])


def _zeros(ansatz: Ansatz, x: Array, y: Array, w: Array | None) -> tuple[Array, Array, Array]:
    """0 in float64 with the axes of a column of x, of y and of all, and lying where they lie."""
    of_x, of_y = (jnp.zeros_like(a, jnp.float64) for a in (columns_of(ansatz, x, 0)[0], y))
    whole = of_x + of_y
    return of_x, of_y, whole if w is None else whole + jnp.zeros_like(w, jnp.float64)


def over_rows(
    arrays: tuple[Array | None, ...],
    rows: int,
    window: Window | None,
    step: Callable[[State, list[tuple]], State],
    state: State,
) -> State:
    """`step(state, observations)` for so many rows at a time, and for those that are left."""
    n = max(a.shape[0] for a in arrays if a is not None)

    def some(first: Any, count: int, state: State) -> State:
        return step(state, [row(arrays, window, first + r) for r in range(count)])

    state = lax.fori_loop(0, n // rows, lambda j, state: some(j * rows, rows, state), state)
    return some(n - n % rows, n % rows, state) if n % rows else state


def row(arrays: tuple[Array | None, ...], window: Window | None, i: Any) -> tuple:
    """One observation of each array, of some columns if there is a window and they are not shared."""
    return tuple(None if a is None else _row(a, i, window) for a in arrays)


def _row(a: Array, i: Any, window: Window | None) -> Array:
    if window is None or a.shape[-1] == 1:
        return lax.dynamic_index_in_dim(a, i, keepdims=False, allow_negative_indices=False)
    starts = [jnp.asarray(i, jnp.int32)] + [jnp.int32(0)] * (a.ndim - 1)
    starts[-1] = jnp.asarray(window[0], jnp.int32)
    sizes = (1, *a.shape[1:-1], window[1])
    return lax.dynamic_slice(a, starts, sizes, allow_negative_indices=False)[0]


class _Product(NamedTuple):
    """mantissa · 2^exponent, float64: of the weights, whose logarithm is taken once."""

    mantissa: Array
    exponent: Array

    @classmethod
    def one(cls, zero: Array, has_bits: bool) -> _Product:
        """1 with the axes of `zero`; the exponent is no integer where floats cannot be taken apart."""
        return cls(zero + 1, zero.astype(jnp.int64) if has_bits else zero)

    def times(self, factor: Array) -> _Product:
        """With one more positive factor."""
        if self.exponent.dtype != jnp.int64:
            return _Product(self.mantissa, self.exponent + jnp.log2(factor))
        mantissa, exponent = _taken_apart(factor)
        mantissa, carried = _taken_apart(self.mantissa * mantissa)
        return _Product(mantissa, self.exponent + exponent + carried)

    def logarithm(self) -> Array:
        """The natural one."""
        return jnp.log(self.mantissa) + self.exponent * np.log(2)


def _taken_apart(a: Array) -> tuple[Array, Array]:
    """Mantissa in [1, 2) and exponent of a normal number."""
    bits = lax.bitcast_convert_type(a, jnp.int64)
    mantissa = lax.bitcast_convert_type(bits & MANTISSA | ONE, jnp.float64)
    return mantissa, (bits >> MANTISSA_BITS) - (ONE >> MANTISSA_BITS)


def _multiplied(factors: list[Array]) -> Array:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product
