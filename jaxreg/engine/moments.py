"""Moments: the averages that determine a cost that is quadratic in the params.

With z = (ψ(t), u), the basis of the ansatz and the response in the scaling of the data set, the cost of a
linear ansatz is S(c) = (−c, 1) ⟨z zᵀ⟩ (−c, 1)ᵀ: it depends on the data through G = ⟨z zᵀ⟩ alone.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, Bool, Float, Int, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine import scaling as scalings
from jaxreg.engine.scaling import Scaling
from jaxreg.engine.sums import Sums, columns_of
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.gaps import is_valid
from jaxreg.numerics import double_double, html
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import in_own_precision, power_of_two
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.numerics.short_repr import short_repr
from jaxreg.numerics.small import broadcast_arrays
from jaxreg.numerics.vectors import triangle

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@pytree
class Moments:
    """Averages over the valid observations of each data set; `a + b` are those of all observations of both.

    Attributes:
        nobs: number of valid observations, (*batch).
        root_weight: √Σ w, (*batch); None without weights.
        G: ⟨z zᵀ⟩ in the scaling, (p + 1, p + 1, *batch), double-double in the dtype of the data.
        scaling: from x and y to t and u.
        invalid: whether an observation is infinite or has an invalid weight, (*batch).
        ansatz: with the basis ψ.

    >>> from jaxreg import moments
    >>> m = moments(jnp.array([0.0, 1.0, 0.0, 3.0]), jnp.array([1.0, 2.0, 3.0, 18.0]))
    >>> print(m.gram)  # [[1, ⟨x⟩], [⟨x⟩, ⟨x²⟩]]
    [[1.  1. ]
     [1.  2.5]]
    >>> print(m.cross)  # [⟨y⟩, ⟨xy⟩]
    [ 6. 14.]
    """

    nobs: Int[Array, "*batch"]
    root_weight: Float[Array, "*batch"] | None
    G: DoubleDouble
    scaling: Scaling
    invalid: Bool[Array, "*batch"]
    ansatz: Ansatz = static()

    def __repr__(self) -> str:
        return short_repr(self)

    def _repr_html_(self) -> str | None:
        """A table of ⟨φ φᵀ⟩, ⟨φ y⟩ and ⟨y²⟩ for notebooks; None if there are no values to show."""
        if not html.are_numbers(self.nobs, *jax.tree.leaves(self)) or self.G.hi.shape[2:] != self.nobs.shape:
            return None
        G = np.asarray(self._in_data_units().value)
        names = [*(f"φ{str(k).translate(SUBSCRIPTS)}" for k in range(len(G) - 1)), "y"]
        rows = {"valid observations": np.asarray(self.nobs)}
        if self.root_weight is not None:
            rows["Σ w"] = np.asarray(self.weight)
        rows |= {f"⟨{names[j]} {names[i]}⟩": G[i, j, ...] for i in range(len(G)) for j in range(i + 1)}
        notes = [f"{np.sum(self.invalid):,} data sets with invalid observations"] * bool(np.any(self.invalid))
        shape = " × ".join(map(str, self.nobs.shape))
        return html.quantities(
            f"Moments of {self.ansatz}" + f" of {shape} data sets" * bool(shape), rows, notes
        )

    @property
    @in_own_precision
    def weight(self) -> Float[Array, "*batch"]:
        """Σ w; nobs without weights."""
        if self.root_weight is None:
            return self.nobs.astype(self.G.hi.dtype)
        return jnp.square(self.root_weight)

    @property
    def gram(self) -> Float[Array, "p p *batch"]:
        """A = ⟨φ φᵀ⟩ in the units of the data."""
        return self._in_data_units().value[:-1, :-1]

    @property
    def cross(self) -> Float[Array, "p *batch"]:
        """b = ⟨φ y⟩ in the units of the data."""
        return self._in_data_units().value[:-1, -1]

    @property
    def square(self) -> Float[Array, "*batch"]:
        """⟨y²⟩ in the units of the data."""
        return self._in_data_units().value[-1, -1]

    @in_own_precision
    @jax.jit
    def _in_data_units(self) -> DoubleDouble:
        p = self.G.hi.shape[0] - 1
        features_in_basis = np.eye(p + 1)
        features_in_basis[:p, :p] = np.linalg.inv(self.ansatz.basis_in_features(p))
        G = _in_scaling(self, scalings.data_units(self.scaling))
        return double_double.congruence(scalings.constant(features_in_basis, G), G)

    @in_own_precision
    @jax.jit
    def __add__(self, other: Moments) -> Moments:
        """The moments of the observations of both."""
        if self.ansatz != other.ansatz:
            raise ValueError(f"moments of {self.ansatz} and of {other.ansatz} do not add")
        a, b, ansatz = self, other, self.ansatz
        scaling = scalings.union(a.scaling, a.nobs > 0, b.scaling, b.nobs > 0, ansatz)
        roots = [None if m.root_weight is None else m.root_weight for m in (a, b)]
        if roots == [None, None]:
            weights, root = [m.nobs.astype(m.G.hi.dtype) for m in (a, b)], None
        else:  # scaled, as squares may overflow
            roots = [
                jnp.sqrt(m.nobs.astype(m.G.hi.dtype)) if r is None else r
                for m, r in zip((a, b), roots, strict=True)
            ]
            unit = power_of_two(jnp.maximum(*roots))
            weights = [jnp.square(r / unit) for r in roots]
            root = unit * jnp.sqrt(weights[0] + weights[1])
        total = DoubleDouble.of(weights[0]) + weights[1]
        total = double_double.where(total.hi > 0, total, DoubleDouble.of(jnp.ones_like(total.hi)))
        G = (_in_scaling(a, scaling) * weights[0] + _in_scaling(b, scaling) * weights[1]) / total
        return Moments(a.nobs + b.nobs, root, G, scaling, a.invalid | b.invalid, ansatz)

    @property
    def is_usable(self) -> Bool[Array, "*batch"]:
        """Whether there are valid observations and no invalid ones, (*batch)."""
        return (self.nobs > 0) & ~self.invalid

    @property
    def usable_G(self) -> DoubleDouble:
        """G, replaced by the identity where it is not usable, for finite gradients."""
        identity = scalings.constant(np.eye(self.G.hi.shape[0]), self.G)
        return double_double.where(self.is_usable, self.G, identity)


def moments_of_point(
    ansatz: Ansatz,
    point: TurningPoint,
    sums: Sums,
    origin: tuple[Array | None, Array | None],
    dtype: np.dtype,
) -> Moments:
    """The moments from which a turning point was computed, in the scaling around the means.

    Args:
        ansatz: with the basis ψ.
        point: the turning point.
        sums: with the number of observations and their weight.
        origin: subtracted from integer x and y before their conversion to floats, or None.
        dtype: of the data.
    """
    k, unit = point.gram.k, point.y_unit
    deviation = unit * jnp.sqrt(jnp.maximum(point.unexplained + point.explained, 0))
    y_scale = power_of_two(deviation.astype(dtype)).astype(jnp.float64)
    mean = unit * point.y_mean - (0 if origin[1] is None else origin[1])
    y_center = mean.astype(dtype).astype(jnp.float64) if ansatz.has_intercept else jnp.zeros_like(mean)
    ratio = unit / y_scale
    b, square = [a * ratio for a in point.cross], (point.unexplained + point.explained) * jnp.square(ratio)
    rows = [[point.gram[i, j] for j in range(k)] for i in range(k)]
    if ansatz.has_intercept:  # d are the means of z
        d = [*point.offsets, (mean - y_center) / y_scale]
        rows = [[a + d[i] * d[j] for j, a in enumerate(row)] for i, row in enumerate(rows)]
        b = [a + d[i] * d[k] for i, a in enumerate(b)]
        square = square + jnp.square(d[k])
        one = jnp.ones_like(square)
        rows = [[one, *d[:k]], *([d[i], *row] for i, row in enumerate(rows))]
        b = [d[k], *b]
    rows = [*([*row, c] for row, c in zip(rows, b, strict=True)), [*b, square]]
    G = jnp.stack([jnp.stack(broadcast_arrays(row)) for row in rows])

    def from_columns(columns: list[Array]) -> Array:
        columns = [jnp.broadcast_to(a, square.shape) for a in columns]
        return jnp.stack(columns) if ansatz.x_is_vector else columns[0]

    scaling = Scaling(from_columns(point.x_center), from_columns(point.x_scale), y_center, y_scale)
    return moments_of_double_double(ansatz, DoubleDouble.of(G), scaling, point, sums, origin, dtype)


def moments_of_double_double(
    ansatz: Ansatz,
    G: DoubleDouble,
    scaling: Scaling,
    point: TurningPoint,
    sums: Sums,
    origin: tuple[Array | None, Array | None],
    dtype: np.dtype,
) -> Moments:
    """The moments from G in double-double of float64, in double-double of the dtype of the data."""
    x_origin, y_origin = broadcast_origins(origin, sums.nobs.shape)
    scaling = jax.tree.map(lambda a: a.astype(dtype), replace(scaling, x_origin=None, y_origin=None))
    return Moments(
        nobs=sums.nobs.astype(jnp.int32),
        root_weight=None if sums.log_weight is None else jnp.sqrt(sums.weight).astype(dtype),
        G=double_double.narrow(G, dtype),
        scaling=replace(scaling, x_origin=x_origin, y_origin=y_origin),
        invalid=~point.finite,
        ansatz=ansatz,
    )


def broadcast_origins(
    origins: tuple[Array | None, Array | None], batch: tuple[int, ...]
) -> tuple[Array | None, ...]:
    """Broadcast x_origin and y_origin to the axes of the data sets."""
    return tuple(
        None if a is None else jnp.broadcast_to(a, (*a.shape[: a.ndim - len(batch)], *batch)) for a in origins
    )


def averages(moments: Moments, x: Array, y: Array, weights: Array | None) -> Moments:
    """The moments as differentiable averages over the data, in the constant scaling of `moments`."""
    ansatz, scaling = moments.ansatz, moments.scaling
    columns = columns_of(ansatz, x, 1)
    valid = is_valid(columns, y, weights) & moments.is_usable  # else an overflow would have NaN as derivative
    w = jnp.where(valid, jnp.ones((), y.dtype) if weights is None else weights, 0)
    root = None
    if weights is not None:
        root = not_none(moments.root_weight)
        unit = power_of_two(root / jnp.sqrt(jnp.maximum(moments.nobs, 1).astype(y.dtype)))
        w = w * (1 / unit) * (1 / unit)
        value = jnp.square(root / unit)  # of Σ w: a Newton step for the root, which does not change it
        root = root * (1 + jnp.sum(w, axis=0) / jnp.where(value > 0, value, 1)) / 2
    weight = jnp.sum(w, axis=0)
    normalized = w / jnp.where(weight > 0, weight, 1)
    centers, scales = (columns_of(ansatz, a, 0) for a in (scaling.x_center, scaling.x_scale))
    x_scaled = [
        (jnp.where(valid, a, 0) - c) * (1 / s) for a, c, s in zip(columns, centers, scales, strict=True)
    ]
    y_scaled = (jnp.where(valid, y, 0) - scaling.y_center) * (1 / scaling.y_scale)
    z = [*ansatz.basis(x_scaled), y_scaled]
    lower = [jnp.sum(normalized * (a * b), axis=0) for i, a in enumerate(z) for b in z[: i + 1]]
    G = jnp.stack(lower)[triangle(len(z))]
    return replace(moments, root_weight=root, G=DoubleDouble(G, jnp.zeros_like(G)))


def _in_scaling(m: Moments, scaling: Scaling) -> DoubleDouble:
    """G in the given scaling."""
    return double_double.congruence(scalings.between(m.scaling, scaling, m.ansatz), m.G)
