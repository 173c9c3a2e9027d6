"""What came into `fit`, checked and brought to one dtype and to columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.data.integers import floats_and_origin
from jaxreg.numerics.precision import in_own_precision, power_of_two

NAN_POLICIES = ("omit", "propagate", "raise")
PRECISIONS = ("auto", "fast", "certified")
MAX_IN_FLOAT32 = 2**24  # the integers up to it are float32
ROUNDING = 1e-5  # of the spread of x: what a change to the dtype of y may cost


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
        w = None if w is None else _cast(w, self.dtype)
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
                _check_rounding(_as_numpy(a) if a.dtype != self.dtype else a, self.dtype, name)
            return _cast(a, self.dtype), None
        floats, origin = floats_and_origin(a, self.dtype)
        if name == "x" and isinstance(a, np.ndarray) and origin is not None:
            _check_spacing(a, floats)
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


def source(x: Any, y: Any, weights: Any, sigma: Any, nan_policy: str, ansatz: Ansatz) -> Source:
    """The arguments of `fit`, or an error that says what to pass."""
    if weights is not None and sigma is not None:
        raise ValueError("got weights and sigma; pass one of them (weights = 1/sigma²)")
    x, y = _array(x, "x"), _array(y, "y")
    dtype = _dtype(x, y)
    _check_shapes(x, y, ansatz)
    w = _weights(weights, sigma, y)
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


def new_x(
    x: Any, dtype: Any, ansatz: Ansatz, batch: tuple[int, ...], columns: int, origin: Array | None
) -> Array:
    """The x of a prediction from the origin that integers had, with axes of length 1 where it is shared."""
    x = _array(x, "x")
    one = (columns,) if ansatz.x_is_vector else ()
    if x.shape[1:] not in (one, one + batch):
        shared, own = (f"({', '.join(['n', *map(str, rest)])})" for rest in (one, one + batch))
        raise ValueError(f"predict takes x of shape {shared}, shared, or {own}, own; got {x.shape}")
    if origin is None:
        return _cast(x, dtype)
    return in_own_precision(partial(_from_origin, np.dtype(dtype)))(x, origin)


def _from_origin(dtype: np.dtype, x: Any, origin: Array) -> Array:
    """x − origin, each data set's own; of integers exact."""
    x = x.reshape(*x.shape, *(1,) * (origin.ndim - (x.ndim - 1))) if x.ndim else x
    return (x - origin.astype(x.dtype)).astype(dtype)


def new_weights(weights: Any, shape: tuple[int, ...]) -> Any:
    """The weights of new observations, 1 where none are given."""
    if weights is None:
        return 1.0
    given = jnp.shape(weights)
    behind = shape[len(shape) - len(given) :]
    if len(given) > len(shape) or any(a not in (1, b) for a, b in zip(given, behind, strict=True)):
        raise ValueError(f"weights of new observations are a number or of shape {shape}, got {given}")
    return weights


def check_options(
    ansatz: Any, cost: Any, solver: Any, nan_policy: Any, precision: Any, block_size: Any
) -> None:
    """Raise on an option that does not exist or does not go with the others."""
    if isinstance(ansatz, type) or not hasattr(ansatz, "basis"):
        raise TypeError(f"ansatz is an object such as Line() or Polynomial(2), got {ansatz!r}")
    if not callable(cost):
        raise TypeError(f"cost is a function such as mean_squared_error, got {cost!r}")
    if isinstance(solver, type) or not hasattr(solver, "on_moments"):
        raise TypeError(f"solver is an object such as GradientDescent(), got {solver!r}")
    if nan_policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy is one of {NAN_POLICIES}, got {nan_policy!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {PRECISIONS}, got {precision!r}")
    whole = isinstance(block_size, int | np.integer) and not isinstance(block_size, bool) and block_size > 0
    if block_size != "auto" and not whole:
        raise ValueError(f'block_size is "auto" or a number of data sets, got {block_size!r}')


def _array(a: Any, name: str) -> Any:
    """An array of numbers, or what can be sliced into them; masked elements become NaN."""
    if hasattr(a, "todense"):
        raise TypeError(f"{name} is a sparse {type(a).__name__}; pass an array with all its elements")
    if isinstance(a, np.ma.MaskedArray):
        kind = a.dtype if np.issubdtype(a.dtype, np.floating) else np.float64
        a = np.where(np.ma.getmaskarray(a), np.nan, a.data.astype(kind)).astype(kind)
    if not isinstance(a, jax.Array) and not _is_sliceable(a):
        try:
            a = np.asarray(a)
        except ValueError as error:
            raise ValueError(f"{name} is no array of numbers: {error}") from None
    if a.dtype == object:
        raise TypeError(f"{name} holds {_objects(a)}")
    if np.issubdtype(a.dtype, np.datetime64) or np.issubdtype(a.dtype, np.timedelta64):
        raise TypeError(
            f"{name} holds times ({a.dtype}); pass numbers in the unit the slope shall have, "
            f'such as ({name} - {name}[0]) / np.timedelta64(1, "D")'
        )
    real = jnp.issubdtype(a.dtype, jnp.floating) or jnp.issubdtype(a.dtype, jnp.integer)
    if not real and a.dtype != bool:
        raise TypeError(f"{name} holds {a.dtype}; pass real numbers (float32 or float64)")
    if jnp.issubdtype(a.dtype, jnp.floating) and _native(a.dtype) not in (jnp.float32, jnp.float64):
        raise TypeError(f"{name} is {a.dtype}; pass float32 or float64")
    return a


def _objects(a: Any) -> str:
    """What an array of objects holds, and what to pass instead."""
    values = np.asarray(a).ravel()
    others = [value for value in values if not isinstance(value, int | float | np.number)]
    if not others:
        return "numbers as objects; pass float32 or float64"
    kind = f"{type(others[0]).__module__}.{type(others[0]).__qualname__}".removeprefix("builtins.")
    if all(value is None for value in others):
        return "None; pass NaN for what is missing"
    if hasattr(others[0], "strftime") or isinstance(others[0], timedelta):
        return (
            f"times ({kind}); pass numbers in the unit the slope shall have: of dates and times "
            '(t - t[0]) / np.timedelta64(1, "D") with t = np.asarray(times, "datetime64[ns]"), of a pandas '
            'period its to_timestamp(), of cftime cftime.date2num(times, "days since 2000-01-01")'
        )
    return f"objects ({kind}); pass real numbers (float32 or float64)"


def _is_sliceable(a: Any) -> bool:
    """Whether it is an array of several axes that need not be read at once: a dataset of a file."""
    try:
        np.dtype(a.dtype)
        return hasattr(a, "__getitem__") and len(a.shape) > 1
    except (AttributeError, TypeError):
        return False


def _dtype(x: Any, y: Any) -> np.dtype:
    """The dtype of y; integers y take that of x if it holds them, and integers alone the default one."""
    if y.dtype.kind in "iu" and y.dtype.itemsize > 4 and (isinstance(y, Tracer) or not _is_array(y)):
        return np.dtype(np.float64)  # there is nothing to look at, or too much
    for a in (y, x):
        if jnp.issubdtype(a.dtype, jnp.floating):
            return np.dtype(np.float64) if _is_too_large(y, a.dtype) else _native(a.dtype)
    return np.dtype(jnp.result_type(float) if isinstance(y, jax.Array) else np.float64)


def _is_too_large(y: Any, dtype: Any) -> bool:
    """Whether y holds integers that a float32 would round, and float64 is there to fit it in."""
    has_float64 = isinstance(y, np.ndarray) or y.dtype.itemsize > 4
    if not has_float64 or y.dtype.kind not in "iu" or np.dtype(dtype).itemsize > 4:
        return False
    return y.size > 0 and max(int(y.max()), -int(y.min())) > MAX_IN_FLOAT32


def _native(dtype: Any) -> np.dtype:
    """The dtype in this machine's order of bytes; files such as FITS have the other."""
    return np.dtype(dtype).newbyteorder("=")


def _check_shapes(x: Any, y: Any, ansatz: Ansatz) -> None:
    if y.ndim == 0 or 0 in y.shape:
        raise ValueError(f"y has shape {y.shape}; pass one axis of observations, not empty")
    n, batch = y.shape[0], y.shape[1:]
    if ansatz.x_is_vector:
        allowed = "(n, k), shared, or (n, k, *batch), own"
        fits = x.ndim >= 2 and x.shape[0] == n and x.shape[2:] in ((), batch) and x.shape[1] > 0
    else:
        allowed = f"({n},), shared, or {y.shape}, own"
        fits = x.shape in ((n,), y.shape)
    if not fits:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}: {ansatz} takes x of shape {allowed}")


def _cast(a: Any, dtype: np.dtype) -> Any:
    return a if a.dtype == dtype else a.astype(dtype)


def _check_rounding(a: Any, dtype: np.dtype, name: str) -> None:
    """Raise where the dtype of the results would round away what tells values apart."""
    error = rounded_away(a, dtype)
    if error is not None:
        raise ValueError(_rounded(a, dtype, name, error))


def _rounded(a: Any, dtype: np.dtype, name: str, error: float) -> str:
    there = (
        f"{name} is {a.dtype} and y {dtype}" if name == "x" else f"y is {a.dtype} and is fitted in {dtype}"
    )
    return (
        f"{there}, in which {name} is off by up to {error:.2g}; pass {name} from a "
        f"nearer origin ({name} - {name}[0]), or y as float64"
    )


def _check_spacing(x: np.ndarray, floats: np.ndarray) -> None:
    """Raise where even the differences of integers are rounded by what tells them apart."""
    exact = (x - x[0]).astype(np.int64).astype(np.float64)
    away = floats.astype(np.float64) - floats[0].astype(np.float64)
    error, spread = np.abs(away - exact).max(axis=0), np.ptp(exact, axis=0)
    if (error > ROUNDING * spread).any():
        raise ValueError(_rounded(x, floats.dtype, "x", error.max()))


def rounded_away(x: Any, dtype: np.dtype) -> float | None:
    """By how much x is off in this dtype, if that is felt beside the spread of x; None otherwise."""
    if not isinstance(x, np.ndarray) or x.dtype == dtype or x.dtype.itemsize < np.dtype(dtype).itemsize:
        return None
    cast, wide = x.astype(dtype).astype(np.float64), x.astype(np.float64)
    there = np.isfinite(wide)
    error = np.abs(cast - wide)[there].max(initial=0)
    return float(error) if there.any() and error > ROUNDING * np.ptp(wide[there]) else None


def _weights(weights: Any, sigma: Any, y: Any) -> Any:
    given, name = (sigma, "sigma") if weights is None else (weights, "weights")
    if given is None:
        return None
    w = _array(given, name)
    _check_range(w, _dtype(y, y), name)
    if w.shape not in ((y.shape[0],), y.shape):
        raise ValueError(f"{name} has shape {w.shape}: pass ({y.shape[0]},), shared, or {y.shape}, own")
    return w


def _check_range(w: Any, dtype: np.dtype, name: str) -> None:
    """Raise where the dtype of y has not the range of the weights."""
    if isinstance(w, np.ndarray) and w.dtype.itemsize > dtype.itemsize:
        with np.errstate(over="ignore", under="ignore"):
            cast = w.astype(dtype)
        lost = np.isfinite(w) & (w != 0) & ((cast == 0) | np.isinf(cast))
        if lost.any():
            raise ValueError(
                f"{name} has values such as {w[lost][0]:.3g}, beyond the range of {dtype}, the dtype of y; "
                f"pass y as float64 or {name} in other units"
            )


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
