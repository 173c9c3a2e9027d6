"""What came into `fit`, checked and brought to one dtype and to columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    """Data sets as they are computed with, in the dtype of the results; axes of length 1 are shared.

    Attributes:
        x: (n, *batch), or (n, k, *batch) where one observation is a vector.
        y: (n, *batch).
        weights: (n, *batch), or None.
        sigma_unit: the weights are (sigma_unit / sigma)², (*batch); None where weights were given.
        x_origin: what was taken out of integers, (*batch) or (k, *batch); None of floats.
        y_origin: the same, (*batch).
    """

    x: Any
    y: Any
    weights: Any
    sigma_unit: Any
    x_origin: Any
    y_origin: Any


@dataclass(frozen=True)
class Source:
    """The checked arguments of `fit`, read when some of their data sets are asked for.

    Attributes:
        x: numbers, or what gives numbers when it is sliced, such as a file.
        y: the same.
        weights: the same, or sigma, or None.
        weights_are_sigma: which of them.
        nan_policy: what becomes of NaN.
        ansatz: whether x is a vector.
        dtype: of the results.
        integers_keep_origin: whether an origin is taken out of integers that floats would round.
    """

    x: Any
    y: Any
    weights: Any
    weights_are_sigma: bool
    nan_policy: str
    ansatz: Ansatz
    dtype: np.dtype
    integers_keep_origin: bool = True

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape that the data sets came in."""
        return self.y.shape[1:]

    @property
    def x_is_shared(self) -> bool:
        """Whether x lacks the axes of the data sets."""
        return self.x.ndim == 1 + self.ansatz.x_is_vector

    @property
    def is_traced(self) -> bool:
        """Whether there are no values to look at."""
        return any(isinstance(a, Tracer) for a in (self.x, self.y, self.weights))

    @property
    def is_on_host(self) -> bool:
        """Whether the data are computed where they are looked at: on the CPU, on one device."""
        return _default_platform() == "cpu" and all(map(is_on_host, self._on_devices))

    @property
    def is_distributed(self) -> bool:
        """Whether an array lies on several devices."""
        return any(len(a.devices()) > 1 for a in self._on_devices)

    @property
    def _on_devices(self) -> list[jax.Array]:
        return [a for a in (self.x, self.y, self.weights) if isinstance(a, jax.Array)]

    @property
    def is_in_place(self) -> bool:
        """Whether what the data sets own is arrays where it is computed, used as they are; no memory map."""
        if self.weights_are_sigma or self.nan_policy != "omit":
            return False

        def as_it_is(a: Any) -> bool:
            on_host = self.is_on_host and type(a) is np.ndarray and a.dtype == self.dtype
            return isinstance(a, jax.Array) or on_host

        return all(as_it_is(a) for a in self._owned)

    @property
    def bytes_per_column(self) -> int:
        """How much memory a data set takes."""
        numbers = sum(math.prod(a.shape) for a in self._owned)
        return max(1, numbers // math.prod(self.batch)) * self.dtype.itemsize

    @property
    def _owned(self) -> list[Any]:
        """The arrays that have an entry for every data set."""
        owned = [self.y] if self.x_is_shared else [self.x, self.y]
        return owned if self.weights is None or self.weights.ndim == 1 else [*owned, self.weights]

    def whole(self) -> Columns:
        """All data sets, with the axes they came with."""
        x, y, w = (a if a is None or _is_array(a) else _read(a) for a in (self.x, self.y, self.weights))
        return self._columns(x, y, w)

    def columns(self, first: int, last: int) -> Columns:
        """Some data sets, counted along the flattened axes of y behind the first; on the host as NumPy's."""

        def cut(a: Any) -> Any:
            if a is None or not any(a is own for own in self._owned):
                return a if a is None else self._there(a)
            return self._cut(a, first, last)

        columns = self._columns(cut(self.x), cut(self.y), cut(self.weights), axes=1)
        return jax.tree.map(self._there, columns)

    def _there(self, a: Any) -> Any:
        """An array as NumPy's; an accelerator's stays where it is."""
        return a if isinstance(a, jax.Array) and not self.is_on_host else np.asarray(a)

    def _cut(self, a: Any, first: int, last: int) -> Any:
        """Columns of one array; of a grid, the rows of the grid that hold them are read."""
        axis = a.ndim - len(self.batch)
        if isinstance(a, jax.Array) or type(a) is np.ndarray:
            a = self._there(a)
            flat = a.reshape(*a.shape[:axis], -1)
            return flat if last - first == flat.shape[-1] else flat[..., first:last]
        row = math.prod(self.batch[1:])
        rows = slice(first // row, -(-last // row))
        held = np.asarray(a[(slice(None),) * axis + (rows,)])
        start = first - rows.start * row
        return held.reshape(*held.shape[:axis], -1)[..., start : start + last - first]

    def _columns(self, x: Any, y: Any, w: Any, axes: int | None = None) -> Columns:
        axes = len(self.batch) if axes is None else axes

        def facing(a: Any, own_axes: int) -> Any:
            """With axes of length 1 for the data sets, where it has none."""
            return a.reshape(*a.shape, *(1,) * axes) if a.ndim == own_axes else a

        x, x_origin = self._floats(x, "x", 1 + self.ansatz.x_is_vector)
        y, y_origin = self._floats(y, "y", 1)
        w = None if w is None else cast(w, self.dtype)
        sigma_unit = None
        if self.weights_are_sigma:
            w, sigma_unit = in_own_precision(_inverse_variance)(w)
        if self.nan_policy == "raise":
            _raise_on_nan(x, y, w)
        elif self.nan_policy == "propagate":  # an infinite value marks its data set as invalid
            x, y = in_own_precision(jax.tree.map)(_nan_to_inf, (x, y))
        x, w = facing(x, 1 + self.ansatz.x_is_vector), None if w is None else facing(w, 1)
        x_origin = None if x_origin is None else facing(x_origin, int(self.ansatz.x_is_vector))
        sigma_unit = None if sigma_unit is None else facing(sigma_unit, 0)
        return Columns(x, y, w, sigma_unit, x_origin, y_origin)

    def _floats(self, a: Any, name: str, axes: int) -> tuple[Any, Any]:
        """Floats, and what was taken out of integers that floats would round."""
        if isinstance(a, jax.Array) and not isinstance(a, Tracer) and is_on_host(a):
            a = np.asarray(a)
        is_integer = jnp.issubdtype(a.dtype, jnp.integer)
        if not (is_integer and self.integers_keep_origin and self.ansatz.has_intercept):
            if name == "x" or is_integer:
                check_rounding(_as_numpy(a) if a.dtype != self.dtype else a, self.dtype, name)
            return cast(a, self.dtype), None
        floats, origin = floats_and_origin(a, self.dtype)
        if name == "x" and isinstance(a, np.ndarray) and origin is not None:
            check_spacing(a, floats)
        return floats, origin


def _as_numpy(a: Any) -> Any:
    """The values of an array on one device, where there are some."""
    has_values = isinstance(a, jax.Array) and not isinstance(a, Tracer) and len(a.devices()) == 1
    return np.asarray(a) if has_values else a


def is_on_host(a: jax.Array) -> bool:
    """Whether it is on the CPU alone, and there on the device that is used if none is named."""
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
    """The arguments of `fit`, or an error that says what to pass."""
    if weights is not None and sigma is not None:
        raise ValueError("got weights and sigma; pass one of them (weights = 1/sigma²)")
    x, y = as_array(x, "x"), as_array(y, "y")
    dtype = result_dtype(x, y)
    check_shapes(x, y, ansatz)
    w = checked_weights(weights, sigma, y)
    if not isinstance(x, np.ndarray | jax.Array) and x.ndim == 1 + ansatz.x_is_vector:
        x = _read(x)  # shared: every block needs it
    return Source(x, y, w, sigma is not None, nan_policy, ansatz, dtype)


def constant_column(source: Source) -> int | str | None:
    """Which column of a shared x without an intercept is constant, "implicit" if some add up to one, or None.

    As statsmodels decides it; where there are no values to look at it is None.
    """
    ansatz, x = source.ansatz, source.x
    if ansatz.has_intercept or not source.x_is_shared or isinstance(x, Tracer):
        return None
    x = np.asarray(x, np.float64)
    x = x[np.isfinite(x).all(axis=1)]
    if not len(x):
        return None
    constant = np.flatnonzero((np.ptp(x, axis=0) == 0) & (x[0] != 0))
    if len(constant):
        return int(constant[0])
    with_one = np.column_stack([np.ones(len(x)), x])
    return "implicit" if np.linalg.matrix_rank(with_one) == np.linalg.matrix_rank(x) else None


def _inverse_variance(sigma: Array) -> tuple[Array, Array]:
    """(unit/σ)² and the unit of each data set, a power of two near its least σ; NaN where σ is not positive.

    The weight of an observation that is far less sure than others stays above 0: it is there.
    """
    usable = (sigma > 0) & (sigma < jnp.inf)
    least = jnp.min(jnp.where(usable, sigma, jnp.inf), axis=0)
    unit = power_of_two(lax.stop_gradient(jnp.where(least < jnp.inf, least, 1)))
    weights = jnp.maximum(jnp.square(unit / jnp.where(usable, sigma, 1)), jnp.finfo(sigma.dtype).tiny)
    return jnp.where(usable, weights, jnp.where(sigma == jnp.inf, 0, jnp.nan)), unit


def _nan_to_inf(a: Array) -> Array:
    return jnp.where(jnp.isnan(a), jnp.inf, a)


def _raise_on_nan(*arrays: Any) -> None:
    for name, a in zip(("x", "y", "weights"), arrays, strict=True):
        if isinstance(a, Tracer):
            raise ValueError('nan_policy="raise" needs values and there are none under jit or vmap')
        if a is not None and bool(np.isnan(np.asarray(a)).any()):
            raise ValueError(f'{name} has NaN and nan_policy="raise"; "omit" leaves them out')
