"""Numbers as unevaluated sums hi + lo of two floats: twice the digits, in the data's own dtype.

float32 pairs carry about 48 bits and float64 pairs about 106, on every platform, without a global
64-bit switch. Every product below is either exact (of halves of a significand) or of second order,
so a compiler that contracts a multiplication and an addition into one cannot change the result.

XLA's fusion on the CPU computes a pair anew for each slice of it that is read, and the pairs behind it
with it. Sums over an axis are therefore loops, whose operands have to be there before they start.

Source: T. J. Dekker, Numer. Math. 18 (1971); N. Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., sections 4.3 and 27.9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.small import alike


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum of a and b, and what the rounding lost: s + e = a + b exactly."""
    s = a + b
    b_seen = s - a
    return s, (a - (s - b_seen)) + (b - b_seen)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded product of a and b, and what the rounding lost: p + e = a·b."""
    a_hi, a_lo = _halves(a)
    b_hi, b_lo = _halves(b)
    cross, cross_lost = two_sum(a_hi * b_lo, a_lo * b_hi)
    p, lost = two_sum(a_hi * b_hi, cross)
    return _renormalize(p, lost + (cross_lost + a_lo * b_lo))


def _halves(a: Array) -> tuple[Array, Array]:
    info = jnp.finfo(a.dtype)
    hi = lax.reduce_precision(a, exponent_bits=info.nexp, mantissa_bits=info.nmant // 2 - 1)
    return hi, a - hi


def _renormalize(hi: Array, lo: Array) -> tuple[Array, Array]:
    s = hi + lo
    return s, lo - (s - hi)


@pytree
class DoubleDouble:
    """The number hi + lo, elementwise; `+ - * /` with pairs, arrays and Python numbers.

    >>> third = DoubleDouble.of(jnp.float32(1)) / 3
    >>> print(f"{float(third.hi):.10f} {float(third.lo):.1e}")
    0.3333333433 -9.9e-09
    """

    hi: Array
    lo: Array

    @classmethod
    def of(cls, a: Any) -> DoubleDouble:
        """The pair a + 0; a pair stays itself."""
        if isinstance(a, DoubleDouble):
            return a
        a = jnp.asarray(a)
        return cls(a, jnp.zeros_like(a))

    @property
    def value(self) -> Array:
        """The nearest single float."""
        return self.hi + self.lo

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of hi."""
        return self.hi.shape

    def __getitem__(self, index: Any) -> DoubleDouble:
        return self.map(lambda a: a[index])

    def __neg__(self) -> DoubleDouble:
        return self.map(lambda a: -a)

    def __add__(self, other: Any) -> DoubleDouble:
        other = self._like(other)
        s, e = two_sum(self.hi, other.hi)
        return DoubleDouble(*_renormalize(s, e + (self.lo + other.lo)))

    def __sub__(self, other: Any) -> DoubleDouble:
        return self + -self._like(other)

    def __mul__(self, other: Any) -> DoubleDouble:
        other = self._like(other)
        p, e = two_product(self.hi, other.hi)
        return DoubleDouble(*_renormalize(p, e + (self.hi * other.lo + self.lo * other.hi)))

    def __truediv__(self, other: Any) -> DoubleDouble:
        other = self._like(other)
        q = self.hi / other.hi
        rest = self - other * q
        return DoubleDouble(*_renormalize(q, rest.value / other.hi))

    def scaled(self, power_of_two: Any) -> DoubleDouble:
        """The product with a power of two, which rounds nothing."""
        return self.map(lambda a: a * power_of_two)

    def map(self, function: Callable[[Array], Array]) -> DoubleDouble:
        """A function that rounds nothing, such as a slice, of both halves: no sum, which is for `+`."""
        return DoubleDouble(function(self.hi), function(self.lo))

    __radd__ = __add__
    __rmul__ = __mul__

    def _like(self, other: Any) -> DoubleDouble:
        return (
            other if isinstance(other, DoubleDouble) else DoubleDouble.of(jnp.asarray(other, self.hi.dtype))
        )


def narrow(a: DoubleDouble, dtype: Any) -> DoubleDouble:
    """A pair of another dtype, such as that of the data."""
    hi = a.hi.astype(dtype)
    return DoubleDouble(hi, ((a.hi - hi.astype(a.hi.dtype)) + a.lo).astype(dtype))


def ones_like(a: Any) -> Any:
    """1 for each number, in an array or a pair."""
    if not isinstance(a, DoubleDouble):
        return jnp.ones_like(a)
    return DoubleDouble(jnp.ones_like(a.hi), jnp.zeros_like(a.lo))


def at_set(a: DoubleDouble, index: Any, value: Any) -> DoubleDouble:
    """`a.at[index].set(value)`, of a number or of a pair like a."""
    value = value if isinstance(value, DoubleDouble) else DoubleDouble.of(jnp.asarray(value, a.hi.dtype))
    return DoubleDouble(a.hi.at[index].set(value.hi), a.lo.at[index].set(value.lo))


def where(condition: Array, a: Any, b: Any) -> DoubleDouble:
    """`jnp.where` for pairs."""
    return _both(lambda a, b: jnp.where(condition, a, b), [DoubleDouble.of(a), DoubleDouble.of(b)])


def stack(pairs: list[DoubleDouble]) -> DoubleDouble:
    """`jnp.stack` along a new first axis, each pair broadcast to the common shape."""
    return _both(lambda *a: jnp.stack(alike(a)), pairs)


def concatenate(pairs: list[DoubleDouble]) -> DoubleDouble:
    """`jnp.concatenate` along the first axis."""
    return _both(lambda *a: jnp.concatenate(a), pairs)


def _both(function: Callable[..., Array], pairs: list[DoubleDouble]) -> DoubleDouble:
    """A function of the high halves and of the low halves, which rounds nothing."""
    return DoubleDouble(function(*(p.hi for p in pairs)), function(*(p.lo for p in pairs)))


def matrix(rows: list[list[Any]]) -> DoubleDouble:
    """The lower triangle given by its rows as a square matrix, entries broadcast to one shape."""
    entries = [DoubleDouble.of(entry) for row in rows for entry in row]
    shape = jnp.broadcast_shapes(*(e.hi.shape for e in entries))
    zero = DoubleDouble.of(jnp.zeros(shape, entries[-1].hi.dtype))
    full = [[*row, *[zero] * (len(rows) - len(row))] for row in rows]
    return stack([stack([_broadcast(entry, shape) for entry in row]) for row in full])


def _broadcast(a: Any, shape: tuple[int, ...]) -> DoubleDouble:
    return DoubleDouble.of(a).map(lambda half: jnp.broadcast_to(half, shape))


def matmul(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """The matrix product over the first two axes, Σ_k a[i, k] b[k, j], all further axes elementwise."""
    shape = jnp.broadcast_shapes(a.hi[:, 0, None].shape, b.hi[None, 0].shape)
    zero = DoubleDouble.of(jnp.zeros(shape, a.hi.dtype) + jnp.zeros_like(a.hi[0, 0] + b.hi[0, 0]))
    return lax.fori_loop(0, a.hi.shape[1], lambda k, s: s + a[:, k, None] * b[None, k], zero)


def total(a: DoubleDouble) -> DoubleDouble:
    """Σ_i a[i] over the first axis."""
    return lax.fori_loop(1, a.hi.shape[0], lambda i, s: s + a[i], a[0])


def congruence(R: DoubleDouble, G: DoubleDouble) -> DoubleDouble:
    """R G Rᵀ over the first two axes."""
    return matmul(R, matmul(G, transpose(R)))


def transpose(a: DoubleDouble) -> DoubleDouble:
    """The first two axes exchanged."""
    return a.map(lambda half: jnp.swapaxes(half, 0, 1))
