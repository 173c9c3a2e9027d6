"""Double-double numbers, unevaluated sums hi + lo of two floats: twice the digits of their dtype.

A double-double of float32 has about 48 bits and one of float64 about 106, on every platform and without JAX's
64-bit mode. Every product below is either exact (of halves of a significand) or of second order, so that
contraction of a multiplication and an addition to a fused one does not change the result.

On the CPU, XLA's fusion would recompute a double-double, and all that it depends on, for every slice of it.
Sums over an axis are therefore loops: the operands of a loop are stored.

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
from jaxreg.numerics.small import broadcast_arrays


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum and its rounding error, s + e = a + b exactly."""
    s = a + b
    b_rounded = s - a
    return s, (a - (s - b_rounded)) + (b - b_rounded)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded product and its rounding error, p + e = a·b."""
    a_hi, a_lo = _split(a)
    b_hi, b_lo = _split(b)
    cross, cross_error = two_sum(a_hi * b_lo, a_lo * b_hi)
    p, p_error = two_sum(a_hi * b_hi, cross)
    return _renormalize(p, p_error + (cross_error + a_lo * b_lo))


def _split(a: Array) -> tuple[Array, Array]:
    """a as hi + lo, each with half of the significand."""
    info = jnp.finfo(a.dtype)
    hi = lax.reduce_precision(a, exponent_bits=info.nexp, mantissa_bits=info.nmant // 2 - 1)
    return hi, a - hi


def _renormalize(hi: Array, lo: Array) -> tuple[Array, Array]:
    s = hi + lo
    return s, lo - (s - hi)


@pytree
class DoubleDouble:
    """The number hi + lo, elementwise, with `+ - * /` for double-doubles, arrays and Python numbers.

    >>> third = DoubleDouble.of(jnp.float32(1)) / 3
    >>> print(f"{float(third.hi):.10f} {float(third.lo):.1e}")
    0.3333333433 -9.9e-09
    """

    hi: Array
    lo: Array

    @classmethod
    def of(cls, a: Any) -> DoubleDouble:
        """a + 0; a itself if it is a double-double."""
        if isinstance(a, DoubleDouble):
            return a
        a = jnp.asarray(a)
        return cls(a, jnp.zeros_like(a))

    @property
    def value(self) -> Array:
        """hi + lo, rounded to one float."""
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
        other = self._coerce(other)
        s, e = two_sum(self.hi, other.hi)
        return DoubleDouble(*_renormalize(s, e + (self.lo + other.lo)))

    def __sub__(self, other: Any) -> DoubleDouble:
        return self + -self._coerce(other)

    def __mul__(self, other: Any) -> DoubleDouble:
        other = self._coerce(other)
        p, e = two_product(self.hi, other.hi)
        return DoubleDouble(*_renormalize(p, e + (self.hi * other.lo + self.lo * other.hi)))

    def __truediv__(self, other: Any) -> DoubleDouble:
        other = self._coerce(other)
        q = self.hi / other.hi
        remainder = self - other * q
        return DoubleDouble(*_renormalize(q, remainder.value / other.hi))

    def scaled(self, power_of_two: Any) -> DoubleDouble:
        """The product with a power of two, which is exact."""
        return self.map(lambda a: a * power_of_two)

    def map(self, function: Callable[[Array], Array]) -> DoubleDouble:
        """Apply a function without rounding, such as a slice, to hi and to lo; sums need `+`."""
        return DoubleDouble(function(self.hi), function(self.lo))

    __radd__ = __add__
    __rmul__ = __mul__

    def _coerce(self, other: Any) -> DoubleDouble:
        return (
            other if isinstance(other, DoubleDouble) else DoubleDouble.of(jnp.asarray(other, self.hi.dtype))
        )


def narrow(a: DoubleDouble, dtype: Any) -> DoubleDouble:
    """a in another dtype, usually a narrower one."""
    hi = a.hi.astype(dtype)
    return DoubleDouble(hi, ((a.hi - hi.astype(a.hi.dtype)) + a.lo).astype(dtype))


def ones_like(a: Any) -> Any:
    """`jnp.ones_like` of an array or a double-double."""
    if not isinstance(a, DoubleDouble):
        return jnp.ones_like(a)
    return DoubleDouble(jnp.ones_like(a.hi), jnp.zeros_like(a.lo))


def at_set(a: DoubleDouble, index: Any, value: Any) -> DoubleDouble:
    """`a.at[index].set(value)` of a number, an array or a double-double."""
    value = value if isinstance(value, DoubleDouble) else DoubleDouble.of(jnp.asarray(value, a.hi.dtype))
    return DoubleDouble(a.hi.at[index].set(value.hi), a.lo.at[index].set(value.lo))


def where(condition: Array, a: Any, b: Any) -> DoubleDouble:
    """`jnp.where` for double-doubles."""
    return _map_halves(lambda a, b: jnp.where(condition, a, b), [DoubleDouble.of(a), DoubleDouble.of(b)])


def stack(arrays: list[DoubleDouble]) -> DoubleDouble:
    """`jnp.stack` along a new first axis, after broadcasting to a common shape."""
    return _map_halves(lambda *a: jnp.stack(broadcast_arrays(a)), arrays)


def concatenate(arrays: list[DoubleDouble]) -> DoubleDouble:
    """`jnp.concatenate` along the first axis."""
    return _map_halves(lambda *a: jnp.concatenate(a), arrays)


def _map_halves(function: Callable[..., Array], arrays: list[DoubleDouble]) -> DoubleDouble:
    """Apply a function without rounding to all hi and to all lo."""
    return DoubleDouble(function(*(a.hi for a in arrays)), function(*(a.lo for a in arrays)))


def matrix(rows: list[list[Any]]) -> DoubleDouble:
    """A lower triangular matrix from its rows, with entries broadcast to one shape."""
    entries = [DoubleDouble.of(entry) for row in rows for entry in row]
    shape = jnp.broadcast_shapes(*(e.hi.shape for e in entries))
    zero = DoubleDouble.of(jnp.zeros(shape, entries[-1].hi.dtype))
    square = [[*row, *[zero] * (len(rows) - len(row))] for row in rows]
    return stack([stack([_broadcast(entry, shape) for entry in row]) for row in square])


def _broadcast(a: Any, shape: tuple[int, ...]) -> DoubleDouble:
    return DoubleDouble.of(a).map(lambda half: jnp.broadcast_to(half, shape))


def matmul(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """The matrix product over the first two axes, Σ_k a[i, k] b[k, j], elementwise in all others."""
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
    """Swap the first two axes."""
    return a.map(lambda half: jnp.swapaxes(half, 0, 1))
