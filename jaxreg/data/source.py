"""The data of `fit`: checked, and converted block by block to columns of one dtype."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.data.arrays import as_array, cast, result_dtype
from jaxreg.data.checks import check_shapes, checked_weights
from jaxreg.data.integers import floats_and_origin
from jaxreg.data.rounding import check_rounding, check_spacing
from jaxreg.numerics.precision import in_own_precision, power_of_two


class Columns(NamedTuple):
    """Data sets as the engine takes them, in the dtype of the results; a shared x has batch axes of length 1.

    Attributes:
        x: (n, *batch), or (n, k, *batch) where one observation is a vector.
        y: (n, *batch).
        weights: (n, *batch), or None.
        sigma_unit: the weights are (sigma_unit / sigma)², (*batch); None if sigma was not given.
        x_origin: subtracted from integer x, (*batch) or (k, *batch); None if nothing was.
        y_origin: subtracted from integer y, (*batch); None if nothing was.
        cost: a cost with numbers for all or for each data set, (*batch), or None.
        offset: known part of f(θ, x), (n, *batch), or None.
        start: params at which the search for a curve starts, (p, *batch), or None.
    """

    x: Any
    y: Any
    weights: Any
    sigma_unit: Any
    x_origin: Any
    y_origin: Any
    cost: Any = None
    offset: Any = None
    start: Any = None


@dataclass(frozen=True)
class Source:
    """The checked arguments of `fit`, whose values are read block by block.

    Attributes:
        x: an array, or an array-like that is read by slicing, such as a dataset of a file.
        y: the same.
        weights: the same, of weights or of sigma; None if both are omitted.
        weights_are_sigma: whether `weights` holds sigma.
        nan_policy: "omit", "propagate" or "raise".
        ansatz: the compiled ansatz, see `compiled_ansatz`.
        dtype: of the results.
        integers_keep_origin: whether an origin is subtracted from integers that floats would round.
        cost: a mean of a loss whose numbers are one for all data sets or one for each; or None.
        offset: known part of f(θ, x), an array or an array-like; or None.
        start: params at which the search for a curve starts, (p,) or (p, *batch); or None.
        devices: among which the data sets are divided; those of the data, or the default one, if empty.
    """

    x: Any
    y: Any
    weights: Any
    weights_are_sigma: bool
    nan_policy: str
    ansatz: Ansatz
    dtype: np.dtype
    integers_keep_origin: bool = True
    cost: Any = None
    offset: Any = None
    start: Any = None
    devices: tuple[Any, ...] = ()

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of the data sets."""
        return self.y.shape[1:]

    @property
    def number(self) -> int:
        """The number of data sets."""
        return math.prod(self.batch)

    @property
    def x_is_shared(self) -> bool:
        """Whether all data sets share x, which then has no batch axes."""
        return self.x.ndim == 1 + self.ansatz.x_is_vector

    @property
    def is_traced(self) -> bool:
        """Whether an array has no concrete values."""
        return any(isinstance(a, Tracer) for a in self._arrays)

    @property
    def is_on_host(self) -> bool:
        """Whether the CPU computes as the only device, and all JAX arrays are on its default device."""
        return not self.devices and _default_platform() == "cpu" and all(map(is_on_host, self._jax_arrays))

    @property
    def device(self) -> Any:
        """The device that computes, or the first of several."""
        if self.devices:
            return self.devices[0]
        if self._jax_arrays:
            return next(iter(self._jax_arrays[0].devices()))
        default = _default_device()
        return jax.devices(default)[0] if isinstance(default, str) else default

    @property
    def is_distributed(self) -> bool:
        """Whether an array is on several devices already."""
        return not self.devices and any(len(a.devices()) > 1 for a in self._jax_arrays)

    @property
    def _jax_arrays(self) -> list[jax.Array]:
        return [a for a in self._arrays if isinstance(a, jax.Array)]

    @property
    def _arrays(self) -> list[Any]:
        return [self.x, self.y, self.weights, self.offset, *jax.tree.leaves((self.cost, self.start))]

    @property
    def is_in_place(self) -> bool:
        """Whether all batched arrays are in memory of the computing device and need no conversion."""
        if self.weights_are_sigma or self.nan_policy != "omit" or self.devices:
            return False

        def needs_no_copy(a: Any) -> bool:
            is_host_array = self.is_on_host and type(a) is np.ndarray and a.dtype == self.dtype
            return isinstance(a, jax.Array) or is_host_array

        return all(needs_no_copy(a) for a in self._batched_arrays)

    @property
    def bytes_per_column(self) -> int:
        """Memory of a data set."""
        size = sum(math.prod(a.shape) for a in self._batched_arrays)
        return max(1, size // self.number) * self.dtype.itemsize

    @property
    def _batched_arrays(self) -> list[Any]:
        """The arrays that have entries for each data set."""
        batched = [self.y] if self.x_is_shared else [self.x, self.y]
        return batched + [a for a in (self.weights, self.offset, self.start) if a is not None and a.ndim > 1]

    def whole(self) -> Columns:
        """All data sets, with the batch axes of y."""
        arrays = (self.x, self.y, self.weights, self.offset)
        x, y, w, offset = (a if a is None or _is_array(a) else _read(a) for a in arrays)
        return self._columns(x, y, w, offset, self.cost, self.start)

    def columns(self, first: int, last: int) -> Columns:
        """Data sets first … last − 1 along the flattened batch axes of y; NumPy arrays on the host."""

        def block(a: Any) -> Any:
            if a is None or not any(a is batched for batched in self._batched_arrays):
                return a if a is None else self._to_host(a)
            return self._slice(a, first, last)

        def numbers(a: Any) -> Any:
            return self._slice(a, first, last) if jnp.ndim(a) else a

        cost = jax.tree.map(numbers, self.cost)
        arrays = (self.x, self.y, self.weights, self.offset, self.start)
        x, y, w, offset, start = map(block, arrays)
        columns = self._columns(x, y, w, offset, cost, start, axes=1, is_part=last - first < self.number)
        return jax.tree.map(self._to_host, columns)

    def _to_host(self, a: Any) -> Any:
        """The array as a NumPy array; arrays on an accelerator stay there."""
        return a if isinstance(a, jax.Array) and not self.is_on_host else np.asarray(a)

    def _slice(self, a: Any, first: int, last: int) -> Any:
        """Columns of one array; a dataset of a file is read in full rows of the first batch axis."""
        axis = a.ndim - len(self.batch)
        if isinstance(a, jax.Array) or type(a) is np.ndarray:
            a = self._to_host(a)
            flat = a.reshape(*a.shape[:axis], -1)
            return flat if last - first == flat.shape[-1] else flat[..., first:last]
        row_size = math.prod(self.batch[1:])
        rows = slice(first // row_size, -(-last // row_size))
        values = np.asarray(a[(slice(None),) * axis + (rows,)])
        start = first - rows.start * row_size
        return values.reshape(*values.shape[:axis], -1)[..., start : start + last - first]

    def _columns(
        self,
        x: Any,
        y: Any,
        w: Any,
        offset: Any,
        cost: Any,
        start: Any,
        axes: int | None = None,
        is_part: bool = False,
    ) -> Columns:
        axes = len(self.batch) if axes is None else axes

        def with_batch_axes(a: Any, own_axes: int) -> Any:
            """Append batch axes of length 1 if a has none."""
            return a.reshape((*a.shape, *(1,) * axes)) if a.ndim == own_axes else a

        x, x_origin = self._floats(x, "x", is_part)
        y, y_origin = self._floats(y, "y", is_part)
        w = None if w is None else cast(w, self.dtype)
        sigma_unit = None
        if self.weights_are_sigma:
            w, sigma_unit = in_own_precision(_inverse_variance)(w)
        if self.nan_policy == "raise":
            _raise_on_nan(x, y, w)
        elif self.nan_policy == "propagate":  # an infinite value makes its data set invalid
            x, y = in_own_precision(jax.tree.map)(_nan_to_inf, (x, y))
        x, w = with_batch_axes(x, 1 + self.ansatz.x_is_vector), None if w is None else with_batch_axes(w, 1)
        x_origin = None if x_origin is None else with_batch_axes(x_origin, int(self.ansatz.x_is_vector))
        sigma_unit = None if sigma_unit is None else with_batch_axes(sigma_unit, 0)
        offset = None if offset is None else with_batch_axes(cast(offset, self.dtype), 1)
        cost = jax.tree.map(lambda a: with_batch_axes(jnp.asarray(a, self.dtype), 0), cost)
        start = None if start is None else with_batch_axes(cast(start, self.dtype), 1)
        return Columns(x, y, w, sigma_unit, x_origin, y_origin, cost, offset, start)

    def _floats(self, a: Any, name: str, is_part: bool) -> tuple[Any, Any]:
        """Floats, and the origin that was subtracted from integers that floats would round."""
        if isinstance(a, jax.Array) and not isinstance(a, Tracer) and is_on_host(a):
            a = np.asarray(a)
        is_integer = jnp.issubdtype(a.dtype, jnp.integer)
        if not (is_integer and self.integers_keep_origin and self.ansatz.has_intercept):
            if name == "x" or is_integer:
                check_rounding(a, self.dtype, name)
            return cast(a, self.dtype), None
        floats, origin = floats_and_origin(a, self.dtype, is_part=is_part)
        if name == "x" and isinstance(a, np.ndarray) and origin is not None:
            check_spacing(a, floats)
        return floats, origin


def is_on_host(a: jax.Array) -> bool:
    """Whether the array is on the default device of the CPU, and on no other."""
    (device, *others) = a.devices()
    return not others and device.platform == "cpu" and _default_device() in (device, "cpu")


def _default_device() -> Any:
    return jax.config.jax_default_device or jax.devices()[0]  # pyright: ignore


def _default_platform() -> str:
    default = _default_device()
    return default if isinstance(default, str) else default.platform


def _is_array(a: Any) -> bool:
    return isinstance(a, np.ndarray | jax.Array)


def _read(a: Any) -> np.ndarray:
    return np.asarray(a[(slice(None),) * a.ndim])


def source_of(x: Any, y: Any, weights: Any, sigma: Any, nan_policy: str, ansatz: Ansatz) -> Source:
    """The arguments of `fit` as a `Source`, or an error that says what to pass instead."""
    if weights is not None and sigma is not None:
        raise ValueError("got weights and sigma; pass one of them (weights = 1/sigma²)")
    x, y = as_array(x, "x"), as_array(y, "y")
    dtype = result_dtype(x, y)
    check_shapes(x, y, ansatz)
    w = checked_weights(weights, sigma, y)
    if not isinstance(x, np.ndarray | jax.Array) and x.ndim == 1 + ansatz.x_is_vector:
        x = _read(x)  # every block needs it
    return Source(x, y, w, sigma is not None, nan_policy, ansatz, dtype)


def with_devices(source: Source, devices: tuple[Any, ...]) -> Source:
    """The source, divided among the devices, each of which has a data set."""
    if devices and source.is_traced:
        raise ValueError("within jit, vmap or grad omit devices, and shard the arrays instead")
    return replace(source, devices=devices[: source.number])


def constant_column(source: Source) -> int | str | None:
    """The column of a shared x that stands for the intercept, decided as in statsmodels.

    Returns:
        The index of a constant column; "implicit" if a combination of columns is constant; None if neither,
        with an intercept, and within `jit`.
    """
    ansatz, x = source.ansatz, source.x
    if ansatz.has_intercept or not source.x_is_shared or isinstance(x, Tracer):
        return None
    return constant_of(np.asarray(x, np.float64))


def constant_of(x: np.ndarray) -> int | str | None:
    """`constant_column` of a design without an intercept, (n, k)."""
    x = x[np.isfinite(x).all(axis=1)]
    if not len(x):
        return None
    constant = np.flatnonzero((np.ptp(x, axis=0) == 0) & (x[0] != 0))
    if len(constant):
        return int(constant[0])
    with_intercept = np.column_stack([np.ones(len(x)), x])
    return "implicit" if np.linalg.matrix_rank(with_intercept) == np.linalg.matrix_rank(x) else None


def _inverse_variance(sigma: Array) -> tuple[Array, Array]:
    """(unit/σ)² and the unit of each data set, a power of two near its smallest σ; NaN unless σ > 0.

    A weight that would underflow is the smallest normal number: weight 0 would be a gap.
    """
    usable = (sigma > 0) & (sigma < jnp.inf)
    smallest = jnp.min(jnp.where(usable, sigma, jnp.inf), axis=0)
    unit = power_of_two(lax.stop_gradient(jnp.where(smallest < jnp.inf, smallest, 1)))
    weights = jnp.maximum(jnp.square(unit / jnp.where(usable, sigma, 1)), jnp.finfo(sigma.dtype).tiny)
    return jnp.where(usable, weights, jnp.where(sigma == jnp.inf, 0, jnp.nan)), unit


def _nan_to_inf(a: Array) -> Array:
    return jnp.where(jnp.isnan(a), jnp.inf, a)


def _raise_on_nan(*arrays: Any) -> None:
    for name, a in zip(("x", "y", "weights"), arrays, strict=True):
        if isinstance(a, Tracer):
            raise ValueError('nan_policy="raise" needs concrete values; there are none under jit or vmap')
        if a is not None and bool((np if isinstance(a, np.ndarray) else jnp).isnan(a).any()):
            raise ValueError(f'{name} has NaN and nan_policy is "raise"; "omit" treats NaN as gaps')
