"""Sums over the rows in order: a loop whose body adds up a few rows. NVIDIA GPUs have `reduced_sums`.

Each row is sliced on its own; its products are masked and added to running sums of the length of a row. XLA
compiles a kernel per sum on the CPU, and one for all on a GPU, where the data are masked instead of products.
On a CPU, slicing the few rows as one block makes XLA store every product (twice as slow); `jnp.sum(axis=0)`,
or one `lax.reduce` for all sums, is slower still. The axes of the data sets stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine.rows import Rows
from jaxreg.engine.sums import Sums, SumScaling, augmented_row, augmented_size, columns_of
from jaxreg.gaps import is_valid, weight_or_zero

FLOAT32_FACTORS = 4  # float32 numbers whose product in float64 neither overflows nor underflows
MAX_EXPONENT = 1100  # of a positive float64, in absolute value
MANTISSA_BITS, MANTISSA, ONE = 52, 2**52 - 1, 1023 << 52  # of a float64 as an integer

Window = tuple[Any, int]
State = TypeVar("State")


def row_sums(
    ansatz: Ansatz,
    scaling: SumScaling | None,
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
        ansatz: with the basis ψ.
        scaling: of x and y; None for the units of the data.
        x: (n, *batch) or, where one observation is a vector, (n, k, *batch); axes of length 1 are shared.
        y: (n, *batch).
        weights: (n, *batch), or None.
        rows: how many at once.
        masked: whether to skip missing observations; if not, a data set with a gap gets NaN.
        window: (start, width), to select columns of arrays (n, m).
    """
    n, at_once = y.shape[0], FLOAT32_FACTORS if y.dtype == jnp.float32 else 1
    if masked and not rows.on_cpu:
        terms = partial(_terms_of_masked_data, ansatz, scaling)
    else:
        terms = partial(_terms, ansatz, scaling, masked)

    def step(state: tuple[list[Array], _Product | None], observations: list[tuple]) -> tuple:
        sums, product = state
        total = terms(*observations[0])
        for observation in observations[1:]:
            total = [a + b for a, b in zip(total, terms(*observation), strict=True)]
        sums = [a + b for a, b in zip(sums, total, strict=True)]
        return sums, None if product is None else _times_weights(ansatz, at_once, product, observations)

    q = augmented_size(ansatz, x)
    x_zero, y_zero, zero = _zeros(ansatz, *row((x, y, weights), window, 0))
    if masked:
        x_zero = y_zero = zero
    z_zeros = [x_zero] * (q - 1) + [y_zero]
    sums = [*z_zeros, *(a + b for i, a in enumerate(z_zeros) for b in z_zeros[: i + 1])]
    count_zero = zero if rows.on_cpu else zero.astype(jnp.int32)  # half of the bytes of a float64
    sums = [count_zero] * masked + [zero] * (weights is not None) + sums
    product = None if weights is None else _Product.one(zero, has_bits=rows.on_cpu)
    sums, product = over_rows((x, y, weights), rows, q, window, step, (sums, product))
    nobs = sums.pop(0).astype(jnp.float64) if masked else x_zero + n
    weight = nobs if weights is None else sums.pop(0)
    log_weight = None
    if product is not None:
        log_weight = product.logarithm()
        weight = jnp.where(jnp.isnan(log_weight), jnp.nan, weight)  # a weight is negative
    return Sums(nobs, weight, log_weight, sums[:q], sums[q:])


def _terms(
    ansatz: Ansatz, scaling: SumScaling | None, masked: bool, x: Array, y: Array, w: Array | None
) -> list[Array]:
    """One row of the sums: 1 if masked, w if given, w z, and the lower triangle of w z zᵀ."""
    columns = columns_of(ansatz, x, 0)
    z = augmented_row(ansatz, scaling, columns, y)
    products = [a * b for i, a in enumerate(z) for b in z[: i + 1]]
    if not masked:
        return [*z, *products]
    valid = is_valid(columns, y, w)
    if w is None:
        return [jnp.where(valid, a, 0) for a in (jnp.ones((), jnp.float64), *z, *products)]
    positive = jnp.where(w > 0, w, jnp.nan).astype(jnp.float64)  # NaN for an invalid weight
    count = valid.astype(jnp.float64)
    weighted = (positive, *(positive * a for a in (*z, *products)))
    return [count, *(jnp.where(valid, a, 0) for a in weighted)]


def _terms_of_masked_data(
    ansatz: Ansatz, scaling: SumScaling | None, x: Array, y: Array, w: Array | None
) -> list[Array]:
    """The same for accelerators, where XLA would compute masks of float64 products in a kernel of their own.

    Where an observation is missing, x and y are at their centers, so that z is finite.
    """
    columns = columns_of(ansatz, x, 0)
    mask = weight_or_zero(columns, y, w)
    valid, weight = mask != 0, mask.astype(jnp.float64)
    x_center, y_center = ([0] * len(columns), 0) if scaling is None else (scaling.x_center, scaling.y_center)
    columns = [_where(valid, a, center) for a, center in zip(columns, x_center, strict=True)]
    z = augmented_row(ansatz, scaling, columns, _where(valid, y, y_center))
    is_masked = w is None and scaling is None  # z = (x, y), which is 0 where an observation is missing
    wz = z if is_masked else [weight * a for a in z]
    count = valid.astype(jnp.int32)
    return [
        count,
        *([] if w is None else [weight]),
        *wz,
        *(a * b for i, a in enumerate(wz) for b in z[: i + 1]),
    ]


def _where(condition: Array, a: Array, b: Any) -> Array:
    """`jnp.where` in the dtype of a, in which b is exact."""
    return jnp.where(condition, a, jnp.asarray(b, a.dtype))


def _times_weights(ansatz: Ansatz, at_once: int, product: _Product, observations: list[tuple]) -> _Product:
    """Multiply by the valid positive weights of a few rows, `at_once` of them in plain float64.

    A negative weight makes the product NaN, unless it is split into bits; there it makes Σ w NaN.
    """
    negative = 1 if product.has_bits else jnp.nan
    masks = [weight_or_zero(columns_of(ansatz, x, 0), y, w) for x, y, w in observations]
    factors = [jnp.where(a > 0, a, jnp.where(a == 0, 1, negative)).astype(jnp.float64) for a in masks]
    for i in range(0, len(factors), at_once):
        product = product.times(_multiply(factors[i : i + at_once]))
    return product


def _zeros(ansatz: Ansatz, x: Array, y: Array, w: Array | None) -> tuple[Array, Array, Array]:
    """Zeros in float64 with the shape and sharding of a column of x, of y, and of all together."""
    x_zero, y_zero = (jnp.zeros_like(a, jnp.float64) for a in (columns_of(ansatz, x, 0)[0], y))
    zero = x_zero + y_zero
    return x_zero, y_zero, zero if w is None else zero + jnp.zeros_like(w, jnp.float64)


def over_rows(
    arrays: tuple[Array | None, ...],
    rows: Rows,
    q: int,
    window: Window | None,
    step: Callable[[State, list[tuple]], State],
    state: State,
) -> State:
    """Loop `step(state, observations)` over a few rows of the arrays at a time, for z of q entries.

    The first three arrays are x, y and weights.
    """
    n, count = not_none(arrays[1]).shape[0], rows.unrolled.for_z(q, arrays[2])

    def step_at(first: Any, count: int, state: State) -> State:
        return step(state, [row(arrays, window, first + r) for r in range(count)])

    if not rows.on_cpu:  # each turn is a launch or two: as few as possible of about equal length
        turns = -(-n // count)
        count = -(-n // turns)
        first = n - (turns - 1) * count
        state = step_at(0, first, state)
        if turns == 1:
            return state
        start = jnp.int32(first), state
        return lax.while_loop(
            lambda loop: loop[0] < n, lambda loop: (loop[0] + count, step_at(loop[0], count, loop[1])), start
        )[1]
    state = lax.fori_loop(0, n // count, lambda j, state: step_at(j * count, count, state), state)
    return step_at(n - n % count, n % count, state) if n % count else state


def row(arrays: tuple[Array | None, ...], window: Window | None, i: Any) -> tuple[Any, ...]:
    """Row i of each array, cut to the window unless its columns are shared."""
    return tuple(None if a is None else _row(a, i, window) for a in arrays)


def _row(a: Array, i: Any, window: Window | None) -> Array:
    if window is None or a.shape[-1] == 1:
        return lax.dynamic_index_in_dim(a, i, keepdims=False, allow_negative_indices=False)
    starts = [jnp.asarray(i, jnp.int32)] + [jnp.int32(0)] * (a.ndim - 1)
    starts[-1] = jnp.asarray(window[0], jnp.int32)
    sizes = (1, *a.shape[1:-1], window[1])
    return lax.dynamic_slice(a, starts, sizes, allow_negative_indices=False)[0]


class _Product(NamedTuple):
    """The product of the weights, mantissa · 2^exponent in float64, so that a single logarithm is taken."""

    mantissa: Array
    exponent: Array

    @classmethod
    def one(cls, zero: Array, has_bits: bool) -> _Product:
        """1, shaped as `zero`; the exponent is a float if floats cannot be split into bits."""
        return cls(zero + 1, zero.astype(jnp.int64) if has_bits else zero)

    @property
    def has_bits(self) -> bool:
        """Whether floats are split into bits."""
        return self.exponent.dtype == jnp.int64

    def times(self, factor: Array) -> _Product:
        """Multiply by a positive factor."""
        if not self.has_bits:
            log = jnp.clip(jnp.log2(factor), -MAX_EXPONENT, MAX_EXPONENT)  # a TPU's float64 may overflow
            return _Product(self.mantissa, self.exponent + log)
        mantissa, exponent = _split(factor)
        mantissa, carry = _split(self.mantissa * mantissa)
        return _Product(mantissa, self.exponent + exponent + carry)

    def logarithm(self) -> Array:
        """The natural logarithm."""
        return jnp.log(self.mantissa) + self.exponent * np.log(2)


def _split(a: Array) -> tuple[Array, Array]:
    """Mantissa in [1, 2) and exponent of a positive normal number."""
    bits = lax.bitcast_convert_type(a, jnp.int64)
    mantissa = lax.bitcast_convert_type(bits & MANTISSA | ONE, jnp.float64)
    return mantissa, (bits >> MANTISSA_BITS) - (ONE >> MANTISSA_BITS)


def _multiply(factors: list[Array]) -> Array:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product
