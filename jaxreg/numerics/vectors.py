"""Small vectors and symmetric matrices, one per data set.

A few entries are a list of arrays (*batch), with which XLA makes the fastest programs; more are one array
with the entries first, (k, *batch) or (k, k, *batch), whose compilation time does not grow with k².
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import reduce
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.numerics.small import broadcast_arrays

# The largest number of entries of a vector that is a list; with 4, compilation for a CPU takes twice as long.
_max_listed: ContextVar[int] = ContextVar("max_listed", default=3)

Vector: TypeAlias = Any  # a list of arrays, or an array


def max_listed() -> int:
    """The largest number of entries of a vector that is a list."""
    return _max_listed.get()


@contextmanager
def lists_up_to(count: int) -> Iterator[None]:
    """Trace a program whose vectors are lists up to so many entries."""
    token = _max_listed.set(count)
    try:
        yield
    finally:
        _max_listed.reset(token)


def elementwise(function: Callable[..., Array], *vectors: Vector) -> Vector:
    """Apply a function to the entries of vectors that are all lists or all arrays."""
    if isinstance(vectors[0], list):
        return [function(*entries) for entries in zip(*vectors, strict=True)]
    return function(*vectors)


def dot(a: Vector, b: Vector) -> Array:
    """Σ a_i b_i; 0 for empty vectors."""
    if not isinstance(a, list):
        return jnp.sum(a * b, axis=0)
    products = elementwise(jnp.multiply, a, b)
    return reduce(jnp.add, products) if products else jnp.zeros(())


def vector(entries: list[Array]) -> Vector:
    """A list of up to `max_listed()` entries, else an array."""
    return entries if len(entries) <= max_listed() else as_array(entries)


def as_array(entries: Vector) -> Array:
    """A vector as one array."""
    return jnp.stack(broadcast_arrays(entries)) if isinstance(entries, list) else entries


def as_list(a: Any) -> Any:
    """A vector as a list of its entries, or a symmetric matrix as a list of its lower triangle."""
    if not isinstance(a, Symmetric):
        return list(a)
    return Symmetric([a[i, j] for i in range(a.k) for j in range(i + 1)], a.k)


def prepend(first: Array | None, v: Vector) -> Vector:
    """(first, v_1, …); v if first is None."""
    if first is None:
        return v
    if isinstance(v, list):
        return [first, *v]
    return jnp.concatenate([jnp.broadcast_to(first, v.shape[1:])[None], v])


def all_true(flags: Vector) -> Array:
    """Whether all entries are true."""
    return reduce(jnp.logical_and, flags) if isinstance(flags, list) else flags.all(axis=0)


def largest(v: Vector) -> Array:
    """max v_i."""
    return reduce(jnp.maximum, v) if isinstance(v, list) else v.max(axis=0)


@pytree
class Symmetric:
    """A symmetric matrix S, k × k: a list of its lower triangle row by row, or an array (k, k, *batch)."""

    entries: Any
    k: int = static()

    @classmethod
    def from_lower(cls, lower: Vector, k: int) -> Symmetric:
        """From the lower triangle row by row."""
        if k <= max_listed() + 1:
            return cls(list(lower), k)
        lower = as_array(lower)
        rows = [lower[_lower_index(i, 0) : _lower_index(i, i) + 1] for i in range(k)]
        L = jnp.stack([jnp.pad(row, ((0, k - len(row)), *((0, 0),) * (row.ndim - 1))) for row in rows])
        is_lower = np.tril(np.ones((k, k), bool)).reshape(k, k, *(1,) * (L.ndim - 2))
        return cls(jnp.where(is_lower, L, jnp.swapaxes(L, 0, 1)), k)

    def __getitem__(self, index: tuple[int, int]) -> Array:
        return self.entries[_lower_index(*index)] if self.is_list else self.entries[index]

    @property
    def is_list(self) -> bool:
        """Whether the entries are a list of the lower triangle."""
        return isinstance(self.entries, list)

    @property
    def diagonal(self) -> Vector:
        """S_ii."""
        if self.is_list:
            return [self[i, i] for i in range(self.k)]
        index = np.arange(self.k)
        return self.entries[index, index]

    @property
    def lower(self) -> list[Array]:
        """The lower triangle row by row, in arrays (entries, *batch) to concatenate."""
        if self.is_list:
            return [a[None] for a in self.entries]
        return [self.entries[i, : i + 1] for i in range(self.k)]

    def plus_diagonal(self, d: Vector) -> Symmetric:
        """S with d_i added to S_ii."""
        if self.is_list:
            index = [(i, j) for i in range(self.k) for j in range(i + 1)]
            entries = [a + d[i] if i == j else a for (i, j), a in zip(index, self.entries, strict=True)]
            return Symmetric(entries, self.k)
        unit = jnp.eye(self.k).reshape(self.k, self.k, *(1,) * (self.entries.ndim - 2))
        return Symmetric(self.entries + unit * d[:, None], self.k)

    def map(self, function: Callable[[Array], Array]) -> Symmetric:
        """f(S_ij)."""
        return Symmetric(elementwise(function, self.entries), self.k)

    def with_outer(self, function: Callable[..., Array], a: Vector, b: Vector) -> Symmetric:
        """f(S_ij, a_i, b_j), which has to be symmetric."""
        if self.is_list:
            index = [(i, j) for i in range(self.k) for j in range(i + 1)]
            return Symmetric([function(self[i, j], a[i], b[j]) for i, j in index], self.k)
        return Symmetric(function(self.entries, a[:, None], b[None]), self.k)

    def times(self, v: Vector) -> Vector:
        """S v."""
        if self.is_list:
            return [dot([self[i, j] for j in range(self.k)], v) for i in range(self.k)]
        return jnp.sum(self.entries * v[None], axis=1)

    def sandwich(self, middle: Symmetric) -> Symmetric:
        """S M S for a symmetric M."""
        k = self.k
        columns = [self.times(middle.column(j)) for j in range(k)]  # of S M
        if not self.is_list:
            SM = jnp.stack(columns, axis=1)
            terms = [SM[:, i, None] * self.entries[i] for i in range(k)]
            return Symmetric(sum(terms[1:], terms[0]), k)
        rows = [[columns[j][i] for j in range(k)] for i in range(k)]
        return Symmetric([dot(rows[i], self.column(j)) for i in range(k) for j in range(i + 1)], k)

    def column(self, j: int) -> Vector:
        """Column j."""
        return [self[i, j] for i in range(self.k)] if self.is_list else self.entries[:, j]

    def leading(self) -> Symmetric:
        """S without its last row and column."""
        if self.is_list:
            return Symmetric(self.entries[: _lower_index(self.k - 1, 0)], self.k - 1)
        return Symmetric(self.entries[:-1, :-1], self.k - 1)

    def last_column(self) -> Vector:
        """The last column without its last entry."""
        if self.is_list:
            return self.entries[_lower_index(self.k - 1, 0) : -1]
        return self.entries[:-1, -1]


def over_batch(function: Callable, arguments: tuple[Any, ...], axes: int) -> Any:
    """`jax.vmap` over the last `axes` axes of all arrays, in arguments and results.

    An array whose length is 1 on an axis on which others are longer is shared along it.
    """
    if axes == 0:
        return function(*arguments)
    length = max((leaf.shape[-1] for leaf in jax.tree.leaves(arguments) if jnp.ndim(leaf)), default=1)

    def is_shared(leaf: Any) -> bool:
        return jnp.ndim(leaf) == 0 or (leaf.shape[-1] == 1 and length > 1)

    in_axes = jax.tree.map(lambda leaf: None if is_shared(leaf) else -1, arguments)
    squeezed = jax.tree.map(
        lambda leaf: leaf[..., 0] if jnp.ndim(leaf) and is_shared(leaf) else leaf, arguments
    )
    return jax.vmap(
        lambda *arguments: over_batch(function, arguments, axes - 1), in_axes, out_axes=-1, axis_size=length
    )(*squeezed)


def triangle(k: int) -> np.ndarray:
    """The indices into the lower triangle, row by row, of all entries of a symmetric matrix, (k, k)."""
    i, j = np.indices((k, k))
    return np.maximum(i, j) * (np.maximum(i, j) + 1) // 2 + np.minimum(i, j)


def _lower_index(i: int, j: int) -> int:
    """The index into the lower triangle, row by row, of entry (i, j)."""
    i, j = max(i, j), min(i, j)
    return i * (i + 1) // 2 + j
