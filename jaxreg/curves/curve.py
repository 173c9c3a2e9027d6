"""`Curve`, an ansatz y = f(θ, x) of any smooth function f, and the form in which programs take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.curves.bounds import NO_BOUNDS, Bounds, from_free, to_free
from jaxreg.numerics import double_double
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.vectors import Vector, over_batch, vector

NOT_LINEAR = "a Curve is not linear in its params: it has no features, moments or exact flow"


@dataclass(frozen=True)
class Curve:
    """A curve y = f(θ, x) with any smooth f, fitted from a start.

    Params carry the units that f gives them. S(θ) may have several minima: the fit ends in one that is
    reached downhill from the start. Standard errors are those of f linearized at the minimum,
    cov θ = σ̂² (Jᵀ W J)⁻¹ with J = ∂f/∂θ, as of `scipy.optimize.curve_fit`.

    Args:
        function: f(params, x) of one observation, in JAX: the params (p,) and a number x, or with
            `x_is_vector` a vector (k,), to one number. JAX compiles it once per function object, so define it
            once, outside of loops.
        names: of the params.
        start: the params to start from: numbers (p,), or (p, *batch) for each data set; or a function
            (x, y, weights) of one data set to (p,), with weight 0 and y = 0 where an observation is missing.
        bounds: {name: (low, high)}, None for no limit. The search runs in a variable without bounds; a data
            set whose minimum is beyond them gets the status `at_bound` and no standard errors.
        x_is_vector: whether one observation of x is a vector: x has shape (n, k), or (n, k, *batch).
        shift: a function (params, c) to the params of the same curve in x − c, if there is one. The search
            then runs in x about its center, which helps where x is far from 0, such as years.

    Raises:
        TypeError: if `function` is not callable, or names are no strings.
        ValueError: if names repeat, a bound has another name, or low is not below high; from `fit`, if there
            is no start, or f does not return one number.

    Source: D. M. Bates and D. G. Watts, Nonlinear Regression Analysis and Its Applications (1988).

    >>> from jaxreg import fit
    >>> def saturation(params, x):
    ...     top, half = params
    ...     return top * x / (half + x)
    >>> x, y = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([1.02, 1.63, 2.44, 3.19, 3.80])
    >>> curve = fit(x, y, ansatz=Curve(saturation, ("top", "half"), start=(3.0, 1.0)))
    >>> print(curve.params.round(3), curve.bse.round(3))
    [4.663 3.664] [0.03  0.064]
    """

    function: Callable[[Any, Any], Any]
    names: tuple[str, ...]
    start: Any = field(default=None, compare=False, repr=False)
    bounds: Any = field(default=None, repr=False)
    x_is_vector: bool = field(default=False, repr=False)
    shift: Callable[[Any, Any], Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"the first argument of Curve is a function f(params, x), got {self.function!r}")
        names: Any = self.names
        names = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError(f'names of a Curve are strings, such as ("height", "rate"); got {self.names!r}')
        if len(set(names)) < len(names):
            raise ValueError(f"names of a Curve must differ from each other; got {names}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "bounds", _checked_bounds(names, self.bounds))

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function)).lstrip("_")
        return f"Curve({name}: {', '.join(self.names)})"

    @property
    def compiled(self) -> CompiledCurve:
        """The curve as compiled programs take it."""
        guess = self.start if callable(self.start) else None
        return CompiledCurve(self.function, len(self.names), self.bounds, self.x_is_vector, guess, self.shift)

    def param_names(self, x_columns: int = 1) -> tuple[str, ...]:
        """The names."""
        return self.names

    def predict(self, params: Any, x: Any) -> Array:
        """f(θ, x), for x of shape (n,), or (n, k), shared by all data sets, or with their axes."""
        return in_own_precision(_predict)(self.compiled, params, x)

    def jacobian(self, params: Any, x: Any) -> Array:
        """∂f/∂θ at each observation, with the params on axis 1: (n, p, *batch)."""
        return in_own_precision(_jacobian)(self.compiled, params, x)


@dataclass(frozen=True)
class CompiledCurve:
    """A curve as compiled programs take it: an `Ansatz` whose basis is ∂f/∂θ at the present params.

    Attributes:
        function: f(params, x).
        p: number of params.
        bounds: (low, high) of each param.
        x_is_vector: whether x is a vector.
        guess: a function (x, y, weights) to a start, or None.
        shift: a function (params, c) to the params of the same curve in x − c, or None.
    """

    function: Callable[[Any, Any], Any]
    p: int
    bounds: Bounds
    x_is_vector: bool
    guess: Callable[[Any, Any, Any], Any] | None = None
    shift: Callable[[Any, Any], Any] | None = None

    has_intercept = False
    basis_is_x = False

    def __repr__(self) -> str:
        return f"Curve({getattr(self.function, '__name__', self.function)})"

    @property
    def is_bounded(self) -> bool:
        """Whether a param has bounds."""
        return any(pair != NO_BOUNDS for pair in self.bounds)

    @property
    def is_centered(self) -> bool:
        """Whether the search runs in x about its center."""
        return self.shift is not None and not self.is_bounded and not self.x_is_vector

    def shifted(self, params: Vector, center: Array) -> Vector:
        """The params of the same curve in x − center."""
        if not self.is_centered or self.shift is None:
            return params
        return vector([jnp.asarray(a) for a in self.shift(list(params), center)])

    @property
    def free(self) -> CompiledCurve:
        """The curve as a function of variables without bounds."""
        return replace(self, function=_OfFree(self.function, self.bounds)) if self.is_bounded else self

    def param_names(self, x_columns: int = 1) -> tuple[str, ...]:
        """Placeholders."""
        return tuple(f"p{k}" for k in range(self.p))

    def predict(self, params: Array, x: Array) -> Array:
        """f(θ, x), for x of shape (n,) or (n, k), shared by all data sets, or with their axes."""
        return _of_all(self._value, list(params), self.columns(params, x))

    def columns(self, params: Array, x: Array) -> list[Array]:
        """The columns of x, with batch axes of length 1 if it is shared by all data sets."""
        if x.ndim == 1 + self.x_is_vector:
            x = x.reshape(*x.shape, *(1,) * (params.ndim - 1))
        return [x[:, j] for j in range(x.shape[1])] if self.x_is_vector else [x]

    def linearized(self, params: Vector, columns: list[Array]) -> tuple[Array, list[Array]]:
        """f and the p derivatives ∂f/∂θ.

        Args:
            params: p arrays (*batch), or one (p, *batch).
            columns: of x, each (*batch), or (n, *batch).
        """
        return _of_all(jax.value_and_grad(self._value), list(params), columns)

    def in_features(self, center: list[Array], scale: list[Array]) -> list[dict[int, Array]]:
        """The identity."""
        one = jnp.ones_like(center[0])
        return [{k: one} for k in range(self.p)]

    def features(self, x: Array) -> Array:
        """A curve has no features that do not depend on its params."""
        raise TypeError(NOT_LINEAR)

    def basis(self, t: list[Any]) -> list[Any]:
        """The same."""
        raise TypeError(NOT_LINEAR)

    def change(self, shift: Any, ratio: Array) -> Any:
        """The same."""
        raise TypeError(NOT_LINEAR)

    def basis_in_features(self, p: int) -> np.ndarray:
        """The same."""
        raise TypeError(NOT_LINEAR)

    def _value(self, params: list[Array], columns: list[Array]) -> Array:
        """f of one observation."""
        x = jnp.stack(columns) if self.x_is_vector else columns[0]
        value = jnp.asarray(self.function(jnp.stack(params), x))
        return value.astype(params[0].dtype)


@dataclass(frozen=True)
class _OfFree:
    """f as a function of variables without bounds."""

    function: Callable[[Any, Any], Any]
    bounds: Bounds

    def __call__(self, u: Array, x: Array) -> Array:
        return self.function(jnp.stack(from_free(self.bounds, list(u))), x)


@dataclass(frozen=True)
class Mean:
    """The intercept-only model, with which curves are compared; x may be a vector, and is not used."""

    x_is_vector: bool = False

    has_intercept = True
    basis_is_x = False

    def param_names(self, x_columns: int = 1) -> tuple[str, ...]:
        """`("intercept",)`."""
        return ("intercept",)

    def features(self, x: Array) -> Array:
        """φ(x) = 1."""
        return jnp.ones_like(x[:, :1] if self.x_is_vector else x[:, None])

    def predict(self, params: Array, x: Array) -> Array:
        """θ₀."""
        return params[0] + jnp.zeros_like(x[:, 0] if self.x_is_vector else x)

    def basis(self, t: list[Any]) -> list[Any]:
        """ψ(t) = 1."""
        return [double_double.ones_like(t[0])]

    def in_features(self, center: list[Array], scale: list[Array]) -> list[dict[int, Array]]:
        """Nothing beside the constant."""
        return []

    def change(self, shift: Any, ratio: Array) -> Any:
        """1 in terms of 1."""
        return double_double.matrix([[jnp.ones_like(ratio[0] if self.x_is_vector else ratio)]])

    def basis_in_features(self, p: int = 1) -> np.ndarray:
        """The identity."""
        return np.eye(1)


def checked_start(curve: Curve, batch: tuple[int, ...]) -> Any:
    """The start as an array, (p,) or (p, *batch); None if it is a function of the data."""
    p = len(curve.names)
    if callable(curve.start):
        return None
    if curve.start is None:
        raise ValueError(
            f"{curve} has no start: pass start=(…), {p} numbers near the solution, or a function "
            "(x, y, weights) that estimates them from a data set"
        )
    start = curve.start if isinstance(curve.start, jax.Array) else np.asarray(curve.start)
    if start.shape not in ((p,), (p, *batch)):
        raise ValueError(
            f"start of {curve} has shape {start.shape}: pass ({p},), shared by all data sets, or "
            f"{(p, *batch)}, one for each"
        )
    return start


def check_function(curve: Curve, x_columns: int) -> None:
    """Raise unless f returns one number for one observation."""
    params = jax.ShapeDtypeStruct((len(curve.names),), jnp.float32)
    x = jax.ShapeDtypeStruct((x_columns,) if curve.x_is_vector else (), jnp.float32)
    try:
        value = jax.eval_shape(curve.function, params, x)
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"the function of {curve} calls NumPy on params or x; write it with jax.numpy, such as jnp.exp"
        ) from error
    if jnp.shape(value) != ():
        raise ValueError(
            f"the function of {curve} returns shape {jnp.shape(value)} for one observation: it is "
            f"called with params of shape {params.shape} and x of shape {x.shape}, and returns one number"
        )


def guessed_start(curve: CompiledCurve, x: Array, y: Array, weights: Array) -> Array:
    """The start of each data set from its data, (p, *batch)."""
    guess: Any = curve.guess

    def one(x: Array, y: Array, weights: Array) -> Array:
        start = guess(x, y, weights)
        has_length = isinstance(start, list | tuple) or jnp.ndim(start) == 1
        if not has_length or len(start) != curve.p:
            raise ValueError(f"the start function of {curve} returns {curve.p} numbers; got {start!r}")
        return jnp.stack([jnp.asarray(a, y.dtype) for a in start])

    return over_batch(one, (x, y, weights), y.ndim - 1)


def to_free_params(curve: CompiledCurve, params: list[Array]) -> Vector:
    """Variables without bounds; params that are outside are moved inside first."""
    return vector(to_free(curve.bounds, params))


def from_free_params(curve: CompiledCurve, u: Vector) -> Vector:
    """Params of variables without bounds."""
    return vector(from_free(curve.bounds, list(u))) if curve.is_bounded else u


def _predict(curve: CompiledCurve, params: Any, x: Any) -> Array:
    return curve.predict(jnp.asarray(params), jnp.asarray(x))


def _jacobian(curve: CompiledCurve, params: Any, x: Any) -> Array:
    params = jnp.asarray(params)
    return jnp.stack(curve.linearized(params, curve.columns(params, jnp.asarray(x)))[1], axis=1)


def _of_all(function: Callable, params: list[Array], columns: list[Array]) -> Any:
    """A function of p params and one observation, of all observations and data sets."""
    has_rows = columns[0].ndim > params[0].ndim
    over_rows = jax.vmap(function, (None, 0)) if has_rows else function
    return over_batch(over_rows, (params, columns), params[0].ndim)


def _checked_bounds(names: tuple[str, ...], bounds: Any) -> Bounds:
    """(low, high) of each param."""
    if bounds is None:
        return (NO_BOUNDS,) * len(names)
    if not isinstance(bounds, Mapping):
        if isinstance(bounds, tuple) and len(bounds) == len(names):  # already checked, see `replace`
            return bounds
        raise TypeError(f'bounds are a dictionary such as {{"rate": (0, None)}}; got {bounds!r}')
    unknown = [name for name in bounds if name not in names]
    if unknown:
        raise ValueError(f"bounds name {', '.join(map(str, unknown))}; the params are {', '.join(names)}")
    return tuple(_checked_pair(name, bounds.get(name, NO_BOUNDS)) for name in names)


def _checked_pair(name: str, pair: Any) -> tuple[float | None, float | None]:
    try:
        low, high = (None if a is None or not np.isfinite(a) else float(a) for a in pair)
    except (TypeError, ValueError):
        raise ValueError(
            f"bounds of {name} are a pair (low, high), None for no limit; got {pair!r}"
        ) from None
    if low is not None and high is not None and not low < high:
        raise ValueError(f"bounds of {name} need low < high, got {pair}")
    return low, high
