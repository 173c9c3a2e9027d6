"""What came into `fit`, checked and brought to one dtype and to columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.frame import power_of_two
from jaxreg.precision import in_own_precision
from jaxreg.pytree import pytree, static

NAN_POLICIES = ("omit", "propagate", "raise")
PRECISIONS = ("auto", "fast", "certified")
ALIGNMENT = 64  # bytes: what XLA asks of an array
MOST_IN_FLOAT32 = 2**24  # the integers up to it are float32
ROUNDING = 1e-5  # of the spread of x: what a change to the dtype of y may cost


@pytree
class Data:
    """Data sets as some columns of y.

    Attributes:
        x: (n,) or (n, m); (n, k) or (n, k, m) where the ansatz takes vectors.
        y: (n, m).
        weights: (n,), (n, m) or None.
        sigma_unit: the weights are (sigma_unit / sigma)², 1 where weights were given; () or (m,).
        first: the column that the data sets start at.
        batch: the shape that they came in.
        x_is_shared: whether x lacks the axis of the data sets.
    """

    x: Array
    y: Array
    weights: Array | None
    sigma_unit: Array
    first: Array | np.integer
    batch: tuple[int, ...] = static()
    x_is_shared: bool = static()

    @property
    def width(self) -> int:
        """How many data sets there are."""
        return math.prod(self.batch)

    def arrays(self) -> tuple[Array, Array, Array | None]:
        """x, y and weights with the data sets behind the observations, one column of what all share."""
        w = self.weights
        return (
            self.x[..., None] if self.x_is_shared else self.x,
            self.y,
            w[:, None] if w is not None and w.ndim == 1 else w,
        )

    def cut(self) -> Data:
        """The same data sets without the columns beside them."""
        if self.y.shape[-1] == self.width:
            return self
        whole = self._each(lambda a: lax.dynamic_slice_in_dim(a, self.first, self.width, axis=-1))
        return replace(whole, first=jnp.int32(0))

    def padded(self, least: int) -> Data:
        """With copies of the last data set behind it, if there are fewer than `least`."""
        missing = least - self.width
        if missing <= 0:
            return self

        def pad(a: Array) -> Array:
            return jnp.concatenate([a, jnp.broadcast_to(a[..., -1:], (*a.shape[:-1], missing))], axis=-1)

        return replace(self.cut()._each(pad), batch=(least,))

    def picked(self, ids: np.ndarray, count: int, rows: int) -> Data:
        """Some data sets, with copies of the last to make it `count`, and gaps to make it `rows` of each."""
        columns = np.pad(ids, (0, count - len(ids)), mode="edge") + self.first
        missing = rows - self.y.shape[0]

        def lengthened(a: Any, value: float) -> np.ndarray:
            return np.pad(a, ((0, missing), *((0, 0),) * (a.ndim - 1)), constant_values=value)

        picked = self._each(lambda a: np.asarray(a[..., columns]))
        w = None if picked.weights is None else lengthened(picked.weights, 1.0)
        x, y = lengthened(picked.x, 0.0), lengthened(picked.y, np.nan)
        return replace(picked, x=x, y=y, weights=w, first=np.int32(0), batch=(count,))

    def _each(self, function: Callable[[Array], Any]) -> Data:
        """A function of every array that has columns for the data sets."""
        w = self.weights
        return replace(
            self,
            x=self.x if self.x_is_shared else function(self.x),
            y=function(self.y),
            weights=w if w is None or w.ndim == 1 else function(w),
            sigma_unit=function(self.sigma_unit) if self.sigma_unit.ndim else self.sigma_unit,
        )


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
    """

    x: Any
    y: Any
    weights: Any
    weights_are_sigma: bool
    nan_policy: str
    ansatz: Ansatz
    dtype: np.dtype

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape that the data sets came in."""
        return self.y.shape[1:]

    @property
    def x_is_shared(self) -> bool:
        """Whether x lacks the axes of the data sets."""
        return self.x.ndim == 1 + self.ansatz.x_is_vector

    @property
    def is_readable_in_place(self) -> bool:
        """Whether compiled code can read the data where they are.

        On the CPU that is so for NumPy arrays that start on a cache line. Memory maps are copied: one
        by one, their pages come slower.
        """

        def in_place(a: Any) -> bool:
            if isinstance(a, jax.Array):
                return True
            if type(a) is not np.ndarray or jax.default_backend() != "cpu":
                return False
            aligned = a.flags.c_contiguous and a.ctypes.data % ALIGNMENT == 0
            return aligned and a.dtype == self.dtype

        return not self._changes_values and all(in_place(a) for a in self._owned)

    @property
    def _changes_values(self) -> bool:
        """Whether what was given is not what is fitted."""
        return self.weights_are_sigma or self.nan_policy != "omit"

    @property
    def bytes_per_column(self) -> int:
        """How much memory a data set takes."""
        numbers = sum(math.prod(a.shape) for a in self._owned)
        return numbers // math.prod(self.batch) * self.dtype.itemsize

    @property
    def _owned(self) -> list[Any]:
        """The arrays that have an entry for every data set."""
        owned = [self.y] if self.x_is_shared else [self.x, self.y]
        return owned if self.weights is None or self.weights.ndim == 1 else [*owned, self.weights]

    def data(self) -> Data:
        """All data sets."""
        if all(isinstance(a, np.ndarray | jax.Array) for a in self._owned):
            whole = self._columns(self.x, self.y, self.weights)
        else:
            whole = self.columns(0, math.prod(self.batch))
        return replace(whole, batch=self.batch)

    def columns(self, first: int, last: int) -> Data:
        """Some data sets, counted along the flattened axes of y behind the first."""

        def cut(a: Any) -> Any:
            return self._cut(a, first, last) if any(a is own for own in self._owned) else a

        return self._columns(cut(self.x), cut(self.y), cut(self.weights))

    def _cut(self, a: Any, first: int, last: int) -> Any:
        """Columns of one array; of a grid, the rows of the grid that hold them are read."""
        axis = a.ndim - len(self.batch)
        row = math.prod(self.batch[1:])
        rows = slice(first // row, -(-last // row))
        held = np.asarray(a[(slice(None),) * axis + (rows,)])
        start = first - rows.start * row
        return held.reshape(*held.shape[:axis], -1)[..., start : start + last - first]

    def _columns(self, x: Any, y: Any, w: Any) -> Data:
        x, y = _cast_x(x, self.dtype), _cast(y, self.dtype)
        w = None if w is None else _cast(w, self.dtype)
        sigma_unit: Any = np.ones((), self.dtype)
        if self.weights_are_sigma:
            w, sigma_unit = in_own_precision(_inverse_variance)(w)
        if self.nan_policy == "raise":
            _raise_on_nan(x, y, w)
        elif self.nan_policy == "propagate":  # an infinite value marks its data set as invalid
            x, y = in_own_precision(jax.tree.map)(_nan_to_inf, (x, y))
        m = math.prod(y.shape[1:])
        if not self.x_is_shared:
            x = x.reshape(*x.shape[: 1 + self.ansatz.x_is_vector], m)
        if w is not None and w.ndim > 1:
            w = w.reshape(-1, m)  # shared weights stay (n,)
            sigma_unit = sigma_unit.reshape(-1) if sigma_unit.ndim else sigma_unit
        return Data(x, y.reshape(-1, m), w, sigma_unit, np.int32(0), (m,), self.x_is_shared)


def source(x: Any, y: Any, weights: Any, sigma: Any, nan_policy: str, ansatz: Ansatz) -> Source:
    """The arguments of `fit`, or an error that says what to pass."""
    if weights is not None and sigma is not None:
        raise ValueError("got weights and sigma; pass one of them (weights = 1/sigma²)")
    x, y = _array(x, "x"), _array(y, "y")
    dtype = _dtype(x, y)
    _check_shapes(x, y, ansatz)
    w = _weights(weights, sigma, y)
    if not isinstance(x, np.ndarray | jax.Array) and x.ndim == 1 + ansatz.x_is_vector:
        x = np.asarray(x[(slice(None),) * x.ndim])  # shared: every block needs it
    return Source(x, y, w, sigma is not None, nan_policy, ansatz, dtype)


def new_x(x: Any, dtype: Any, ansatz: Ansatz, batch: tuple[int, ...], columns: int) -> Array:
    """The x of a prediction, with axes of length 1 where it is shared by the data sets."""
    x = _cast(_array(x, "x"), dtype)
    one = (columns,) if ansatz.x_is_vector else ()
    if x.shape[1:] not in (one, one + batch):
        shared, own = (f"({', '.join(['n', *map(str, rest)])})" for rest in (one, one + batch))
        raise ValueError(f"predict takes x of shape {shared}, shared, or {own}, own; got {x.shape}")
    return x


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
    if isinstance(solver, type) or not hasattr(solver, "solve"):
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
    for a in (y, x):
        if jnp.issubdtype(a.dtype, jnp.floating):
            return np.dtype(np.float64) if _is_too_large(y, a.dtype) else _native(a.dtype)
    return np.dtype(jnp.result_type(float) if isinstance(y, jax.Array) else np.float64)


def _is_too_large(y: Any, dtype: Any) -> bool:
    """Whether y holds integers that a float32 would round."""
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu" or np.dtype(dtype).itemsize > 4:
        return False
    return y.size > 0 and max(int(y.max()), -int(y.min())) > MOST_IN_FLOAT32


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


def _cast_x(x: Any, dtype: np.dtype) -> Any:
    """x in the dtype of y, unless that would round away what tells its values apart."""
    error = rounded_away(x, dtype)
    if error is not None:
        raise ValueError(
            f"x is {x.dtype} and y {dtype}, in which x is off by up to {error:.2g}; pass x from a "
            "nearer origin (x - x[0]), or y as float64"
        )
    return _cast(x, dtype)


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
