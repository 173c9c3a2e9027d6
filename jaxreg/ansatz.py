"""The ansatz y = f(θ, x): linear in θ, f = θᵀφ(x) (seed paper, equations 1 and 3).

The params θ multiply the features φ(x). The fit is computed in a well-conditioned *basis* ψ(t) of the same
functions, where x = center + scale·t and t lies in [−1, 1]. `change` gives ψ after a shift and a rescaling of
t; `in_features` and `basis_in_features` expand ψ in φ, which turns coefs of the basis into params.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array, Float
from jaxreg.numerics import double_double
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.vectors import max_listed

Number = TypeVar("Number", Array, DoubleDouble)


@runtime_checkable
class Ansatz(Protocol):
    """The interface of an ansatz: any object with these members can be passed to `fit`."""

    @property
    def x_is_vector(self) -> bool:
        """Whether one observation of x is a vector (axis 1 of x) or a number."""
        ...

    @property
    def has_intercept(self) -> bool:
        """Whether the first feature is the constant 1."""
        ...

    @property
    def basis_is_x(self) -> bool:
        """Whether ψ(t) is (1, t), or t without an intercept; otherwise t must lie in [−1, 1]."""
        ...

    def param_names(self, x_columns: int) -> tuple[str, ...]:
        """The names of the params, for x of so many columns."""
        ...

    def features(self, x: Array) -> Array:
        """φ(x), with the features on axis 1."""
        ...

    def predict(self, params: Array, x: Array) -> Array:
        """f(θ, x)."""
        ...

    def basis(self, t: list[Number]) -> list[Number]:
        """ψ(t) for the columns t of x; the constant comes first if there is one."""
        ...

    def in_features(self, center: list[Array], scale: list[Array]) -> list[dict[int, Array]]:
        """M in ψ_k((x − center) / scale) = Σ_j M_kj φ_j(x), a sparse row for each ψ_k but the constant."""
        ...

    def change(self, shift: DoubleDouble, ratio: Array) -> DoubleDouble:
        """The lower triangular R in ψ(shift + ratio·t) = R ψ(t), (p, p, *batch)."""
        ...

    def basis_in_features(self, p: int) -> np.ndarray:
        """The constant matrix K in ψ(x) = K φ(x), (p, p)."""
        ...


@dataclass(frozen=True)
class Line:
    """The straight line y = β₀ + β₁ x, equation 1.

    `intercept, slope = params`; the slope carries units of y / units of x.

    >>> Line().predict(jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0, 2.0])).tolist()
    [1.0, 3.0, 5.0]
    """

    x_is_vector = False
    has_intercept = True
    basis_is_x = True

    def param_names(self, x_columns: int = 1) -> tuple[str, ...]:
        """`("intercept", "slope")`."""
        return ("intercept", "slope")

    def features(self, x: Float[Array, "n *batch"]) -> Float[Array, "n 2 *batch"]:
        """φ(x) = (1, x)."""
        return jnp.stack([jnp.ones_like(x), x], axis=1)

    def predict(self, params: Float[Array, "2 *batch"], x: Array) -> Array:
        """β₀ + β₁ x, for x of shape (n,), shared by all data sets, or (n, *batch)."""
        intercept, slope = params
        return intercept + slope * _with_batch_axes(params, x)

    def basis(self, t: list[Number]) -> list[Number]:
        """ψ(t) = (1, t)."""
        return [double_double.ones_like(t[0]), t[0]]

    def in_features(self, center: list[Array], scale: list[Array]) -> list[dict[int, Array]]:
        """t = −center / scale + x / scale."""
        return [{0: -center[0] / scale[0], 1: 1 / scale[0]}]

    def change(self, shift: DoubleDouble, ratio: Array) -> DoubleDouble:
        """(1, shift + ratio·t) in terms of (1, t)."""
        return double_double.matrix([[jnp.ones_like(ratio)], [shift, ratio]])

    def basis_in_features(self, p: int = 2) -> np.ndarray:
        """The identity: ψ = φ."""
        return np.eye(2)


@dataclass(frozen=True)
class Polynomial:
    """The polynomial y = θ₀ + θ₁ x + … + θ_K x^K.

    θ_k carries units of y / units of x^k. The fit is computed in Chebyshev polynomials,
    T_k(t) = cos(k arccos t), whose normal equations are well-conditioned where those of the powers x^k lose
    all digits.

    Args:
        degree: K, 0 or more.

    Raises:
        TypeError: if the degree is not an integer.
        ValueError: if it is negative.

    >>> Polynomial(2).predict(jnp.array([1.0, 0.0, 3.0]), jnp.array([0.0, 1.0, 2.0])).tolist()
    [1.0, 4.0, 13.0]
    """

    degree: int

    x_is_vector = False
    has_intercept = True
    basis_is_x = False

    def __post_init__(self) -> None:
        if isinstance(self.degree, bool) or not isinstance(self.degree, int | np.integer):
            raise TypeError(f"the degree of a Polynomial is an integer, got {self.degree!r}")
        if self.degree < 0:
            raise ValueError(f"the degree of a Polynomial is 0 or more, got {self.degree}")

    def param_names(self, x_columns: int = 1) -> tuple[str, ...]:
        """`("c0", "c1", …)`, by power of x."""
        return tuple(f"c{k}" for k in range(self.degree + 1))

    def features(self, x: Float[Array, "n *batch"]) -> Float[Array, "n p *batch"]:
        """φ(x) = (1, x, x², …)."""
        return jnp.stack([x**k for k in range(self.degree + 1)], axis=1)

    def predict(self, params: Float[Array, "p *batch"], x: Array) -> Array:
        """Σ θ_k x^k by Horner's rule, for x of shape (n,), shared by all data sets, or (n, *batch)."""
        x = _with_batch_axes(params, x)
        value = jnp.broadcast_to(params[-1], jnp.broadcast_shapes(params.shape[1:], x.shape))
        for coefficient in params[-2::-1]:
            value = value * x + coefficient
        return value

    def basis(self, t: list[Number]) -> list[Number]:
        """T_0 … T_K by T_{k+1} = 2t T_k − T_{k−1}."""
        T = [double_double.ones_like(t[0]), t[0]]
        two_t = t[0] + t[0]
        if isinstance(two_t, DoubleDouble):
            return _chebyshev_loop(two_t, T, self.degree + 1)
        while len(T) <= self.degree:
            T.append(two_t * T[-1] - T[-2])
        return T[: self.degree + 1]

    def in_features(self, center: list[Array], scale: list[Array]) -> list[dict[int, Array]]:
        """T_k(a + b·x) in powers of x, by the three-term recurrence on their coefficients."""
        a, b = -center[0] / scale[0], 1 / scale[0]
        if self.degree > max_listed():
            return _chebyshev_in_powers(a, b, self.degree)
        T: list[dict[int, Array]] = [{0: jnp.ones_like(a)}, {0: a, 1: b}]
        while len(T) <= self.degree:
            *_, previous, current = T
            powers: dict[int, Array] = {j: -c for j, c in previous.items()}
            for j, c in current.items():
                powers[j] = powers.get(j, 0) + 2 * a * c
                powers[j + 1] = powers.get(j + 1, 0) + 2 * b * c
            T.append(powers)
        return T[1 : self.degree + 1]

    def change(self, shift: DoubleDouble, ratio: Array) -> DoubleDouble:
        """T_k(shift + ratio·t) in T_0(t) … T_k(t), by the same recurrence on coefficients."""
        p = self.degree + 1
        zero = shift.map(lambda a: jnp.zeros((p, *jnp.broadcast_shapes(a.shape, ratio.shape)), a.dtype))
        first = double_double.at_set(zero, 0, 1.0)

        def times_argument(c: DoubleDouble) -> DoubleDouble:
            return shift * c + _times_t(c).scaled(ratio)

        def step(
            k: Any, state: tuple[DoubleDouble, DoubleDouble, DoubleDouble]
        ) -> tuple[DoubleDouble, DoubleDouble, DoubleDouble]:
            rows, previous, current = state
            following = times_argument(current).scaled(2) - previous
            return double_double.at_set(rows, k, current), current, following

        rows = double_double.at_set(double_double.stack([zero] * p), 0, first)
        return lax.fori_loop(1, p, step, (rows, first, times_argument(first)))[0]

    def basis_in_features(self, p: int = 0) -> np.ndarray:
        """Chebyshev polynomials in powers of x, T_k(x) = Σ_j K_kj x^j."""
        K = np.zeros((self.degree + 1, self.degree + 1))
        for k in range(self.degree + 1):
            K[k, : k + 1] = np.polynomial.chebyshev.cheb2poly([0] * k + [1])
        return K


@dataclass(frozen=True)
class Linear:
    """A linear combination of the columns of x, y = θ₀ + θ₁ x₁ + … + θ_k x_k.

    θ_j carries units of y / units of x_j. One observation of x is a vector: x has shape (n, k), shared by all
    data sets, or (n, k, *batch).

    Args:
        intercept: whether to include the constant θ₀. With `intercept=False`, a constant column in a shared
            x, or columns that add up to a constant, count as the intercept, as in statsmodels: R², F and
            their degrees of freedom are then those around the mean. Within `jit`, where x has no values to
            inspect, they are those around 0.
        names: of the columns, for `Fit.names`, tables and contrasts as text. If omitted, those of the
            DataFrame x, else x1, x2, …

    Raises:
        TypeError: if a name is not a string.
        ValueError: if two names are equal; from `fit`, if their number is not that of the columns.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> Linear().predict(jnp.array([1.0, 2.0, 3.0]), x).tolist()
    [3.0, 4.0]
    """

    intercept: bool = True
    names: tuple[str, ...] | None = field(default=None, repr=False)

    x_is_vector = True
    basis_is_x = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _checked_names(self.names))

    @property
    def has_intercept(self) -> bool:
        """The same as `intercept`."""
        return self.intercept

    def param_names(self, x_columns: int) -> tuple[str, ...]:
        """`("intercept", *names)`, or `("intercept", "x1", "x2", …)` if no names were given."""
        columns = self.names or tuple(f"x{j + 1}" for j in range(x_columns))
        if len(columns) != x_columns:
            raise ValueError(f"Linear has {len(columns)} names {columns}, and x has {x_columns} columns")
        return ("intercept", *columns) if self.intercept else columns

    def features(self, x: Float[Array, "n k *batch"]) -> Float[Array, "n p *batch"]:
        """φ(x) = (1, x₁, …, x_k), or x itself without an intercept."""
        return jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1) if self.intercept else x

    def predict(self, params: Float[Array, "p *batch"], x: Array) -> Array:
        """φ(x)ᵀθ, for x of shape (n, k), shared by all data sets, or (n, k, *batch)."""
        return jnp.einsum("nk...,k...->n...", self.features(x), params, precision=lax.Precision.HIGHEST)

    def basis(self, t: list[Number]) -> list[Number]:
        """ψ(t) = (1, t₁, …, t_k), or t without an intercept."""
        return [double_double.ones_like(t[0]), *t] if self.intercept else list(t)

    def in_features(self, center: list[Array], scale: list[Array]) -> list[dict[int, Array]]:
        """t_k = −center_k / scale_k + x_k / scale_k; without an intercept every center is 0."""
        columns = list(zip(center, scale, strict=True))
        if not self.intercept:
            return [{k: 1 / s} for k, (_, s) in enumerate(columns)]
        return [{0: -c / s, k: 1 / s} for k, (c, s) in enumerate(columns, start=1)]

    def change(self, shift: DoubleDouble, ratio: Array) -> DoubleDouble:
        """(1, shift + ratio·t) in terms of (1, t), with one shift and one ratio per column."""
        first = int(self.intercept)
        p = ratio.shape[0] + first
        diagonal = jnp.ones((p, *ratio.shape[1:]), ratio.dtype).at[first:].set(ratio)
        zeros = jnp.zeros((p, *diagonal.shape), ratio.dtype)
        R = shift.map(lambda _: zeros)
        if self.intercept:
            R = jax.tree.map(lambda R, s: R.at[1:, 0].set(s), R, shift)
        return replace(R, hi=R.hi.at[jnp.arange(p), jnp.arange(p)].set(diagonal))

    def basis_in_features(self, p: int) -> np.ndarray:
        """The identity: ψ = φ."""
        return np.eye(p)


@dataclass(frozen=True)
class Features:
    """A linear combination of functions of x, y = θ₀ + θ₁ φ₁(x) + … + θ_k φ_k(x).

    θ_k carries units of y / units of φ_k. `fit`, `moments`, `predict` and the costs evaluate the functions,
    in float64 if x is float64, and treat their values as the columns of `Linear`.

    Args:
        function: maps x to the tuple (φ₁(x), …, φ_k(x)) of arrays, each of the shape of x; a pure JAX
            function. JAX compiles it once per function object, so define it once, outside of loops.
        names: of the φ_k, for `Fit.names`, tables and contrasts as text.
        intercept: whether to include the constant θ₀.

    Raises:
        TypeError: if the function is not callable or does not return a tuple.
        ValueError: if it returns another number of arrays than there are names.

    >>> def waves(x):
    ...     return jnp.sin(x), jnp.cos(x)
    >>> from jaxreg import fit
    >>> x = np.linspace(0, 6, 7)
    >>> wave = fit(x, 1 + 2 * np.cos(x), ansatz=Features(waves, names=("sin", "cos")))
    >>> print(wave.names, wave.params.round(6), wave.predict(np.array([0.0])).round(6))
    ('intercept', 'sin', 'cos') [1. 0. 2.] [3.]
    """

    function: Callable[[Any], Any]
    names: tuple[str, ...]
    intercept: bool = True

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"Features({name}: {', '.join(self.names)})"

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"the first argument of Features is a function of x, got {self.function!r}")
        names = _checked_names(self.names)
        if not names:
            raise ValueError(f"names of Features are one string for each function; got {self.names!r}")
        object.__setattr__(self, "names", names)

    @property
    def linear(self) -> Linear:
        """The `Linear` ansatz whose columns are the values of the functions."""
        return Linear(self.intercept)

    def param_names(self, x_columns: int = 0) -> tuple[str, ...]:
        """`("intercept", *names)`, or the names without an intercept."""
        return ("intercept", *self.names) if self.intercept else self.names

    def design(self, x: Any) -> Array:
        """φ₁(x), …, φ_k(x), stacked along axis 1."""
        x = x if isinstance(x, jax.Array | np.ndarray | dict | tuple) else np.asarray(x)
        values = in_own_precision(self.function)(x)
        if not isinstance(values, tuple | list):
            raise TypeError(
                f"the function of Features must return a tuple of arrays, one for each of {self.names}, "
                f"such as (value,) for one; got {type(values).__name__}"
            )
        if len(values) != len(self.names):
            raise ValueError(
                f"the function of Features must return one array for each of {self.names}; got {len(values)}"
            )
        if jnp.ndim(values[0]) == 0:
            raise ValueError("Features takes x of shape (n,), with an axis of observations; got a number")
        return in_own_precision(jnp.stack)(values, axis=1)

    def features(self, x: Any) -> Array:
        """φ(x) = (1, φ₁(x), …, φ_k(x)), without the constant 1 if there is no intercept."""
        return self.linear.features(self.design(x))

    def predict(self, params: Array, x: Any) -> Array:
        """θ₀ + Σ θ_k φ_k(x)."""
        return self.linear.predict(params, self.design(x))


def compiled_ansatz(ansatz: Any) -> Ansatz:
    """The ansatz as compiled programs take it: `Linear` for `Features`, and without names.

    Names are not part of the program, so that a change of names compiles nothing. An ansatz may have the
    property `compiled` for it, as `Curve` does.
    """
    if isinstance(ansatz, Features | Linear):
        return Linear(ansatz.intercept)
    return getattr(ansatz, "compiled", ansatz)


def design(ansatz: Any, x: Any) -> Any:
    """The x of the compiled ansatz: the values of the functions of `Features`, otherwise x itself."""
    if isinstance(ansatz, Features):
        return ansatz.design(x)
    if isinstance(ansatz, Linear) and ansatz.names is not None and np.shape(x)[1:2] != (len(ansatz.names),):
        k = len(ansatz.names)
        raise ValueError(
            f"x has shape {np.shape(x)}: Linear with {k} names {ansatz.names} takes x of shape (n, {k}) or "
            f"(n, {k}, *batch)"
        )
    return x


def _checked_names(names: Any) -> tuple[str, ...] | None:
    if names is None:
        return None
    checked: Any = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (None,)
    if not all(isinstance(name, str) for name in checked):
        raise TypeError(f'names are a tuple of strings, such as ("slope", "curvature"); got {names!r}')
    if "intercept" in checked or len(set(checked)) < len(checked):
        raise ValueError(f'names must differ from each other and from "intercept"; got {checked}')
    return checked


def _chebyshev_loop(two_t: DoubleDouble, first: list[DoubleDouble], count: int) -> list[DoubleDouble]:
    """T_0 … T_{count−1} from 2t and T_0, T_1.

    A loop, since XLA fuses an unrolled recurrence so that every T_k recomputes all before it, 4^count times.
    """

    def step(
        k: Any, state: tuple[DoubleDouble, DoubleDouble, DoubleDouble]
    ) -> tuple[DoubleDouble, DoubleDouble, DoubleDouble]:
        T, previous, current = state
        return double_double.at_set(T, k, current), current, two_t * current - previous

    T = double_double.stack([first[0]] * count)
    T, *_ = lax.fori_loop(1, count, step, (T, *first))
    return [T[k] for k in range(count)]


def _chebyshev_in_powers(a: Array, b: Array, degree: int) -> list[dict[int, Array]]:
    """The coefficients of T_1(a + b·x) … T_degree(a + b·x) in powers of x, in a loop as above."""
    zero = jnp.zeros_like(a)
    first = jnp.stack([jnp.ones_like(a), *[zero] * degree])
    second = jnp.stack([a, b, *[zero] * (degree - 1)])

    def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        previous, current = state
        times_x = jnp.concatenate([zero[None], current[:-1]])
        return (current, 2 * b * times_x - previous + 2 * a * current), current

    _, T = lax.scan(step, (first, second), None, length=degree)
    return [{j: T[k - 1, j] for j in range(k + 1)} for k in range(1, degree + 1)]


def _times_t(c: DoubleDouble) -> DoubleDouble:
    """Chebyshev coefficients of t·f from those of f, by 2 t T_k = T_{k+1} + T_{|k−1|}, up to degree p − 1."""
    up = c.map(lambda a: jnp.concatenate([jnp.zeros_like(a[:1]), a[:1], a[1:-1] / 2])[: a.shape[0]])
    down = c.map(lambda a: jnp.concatenate([a[1:] / 2, jnp.zeros_like(a[:1])]))
    return up + down


def _with_batch_axes(params: Array, x: Array) -> Array:
    """A shared x, (n,), reshaped to (n, 1, …) to broadcast against the data sets of params."""
    x = jnp.asarray(x)
    is_shared = x.ndim == 1
    return x.reshape(x.shape + (1,) * (params.ndim - 1)) if is_shared else x
