"""`ClosedForm`, the default solver of `fit`, and `closed_form`, the solution from moments in double-double.

The algorithm of the former is in engine/turning_point.py. Source: seed paper, equations 7, 14 and 15.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, Bool, Float
from jaxreg.ansatz import Ansatz
from jaxreg.engine.double_double_equations import FromBasis, solve_in_double_double
from jaxreg.engine.features import feature_rows, params_of
from jaxreg.engine.moments import Moments
from jaxreg.engine.sums import Origin, columns_of
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.numerics import small
from jaxreg.numerics.double_double import DoubleDouble, two_sum
from jaxreg.numerics.precision import float64, in_own_precision, promoting
from jaxreg.numerics.pytrees import pytree, static, tangent
from jaxreg.status import Status

# The smallest share of a column that is independent of the others, above the rounding of stored moments.
MIN_PIVOT = {"float32": 2.0**-43, "float64": 2.0**-86}

PRECISIONS = ("auto", "fast", "certified")


@pytree
class ClosedForm:
    """The default solver of `fit`: the exact minimum of the mean squared error, A θ = b.

    For a line, β₁ = cov(x, y) / var(x) and β₀ = ⟨y⟩ − β₁⟨x⟩.

    Args:
        precision: which data sets are computed in double-double (twice the digits of float64), which takes
            20 to 50 µs each. "auto": those where rounding of float64 sums would be noticeable in the params
            or their standard errors. These are few for lines, and for nearly independent columns with an
            intercept; more if columns are correlated, or far from 0 without an intercept. "certified": all.
            "fast": none; `Fit.digits` counts the remaining correct digits, and columns that float64 sums
            cannot distinguish get the status `rank_deficient`. Within `jit` and other transformations of
            JAX, and for arrays on several devices, "auto" is the same as "fast".

    Raises:
        ValueError: if the precision is none of these.

    Source: seed paper, equations 7, 14 and 15.

    >>> import numpy as np
    >>> from jaxreg import fit
    >>> x = 1e9 + np.arange(3.0)
    >>> print(fit(x, 2 * x - 1, solver=ClosedForm(precision="certified")).params)
    [-1.  2.]
    """

    ends_at_turning_point = True

    precision: str = static(default="auto")

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {PRECISIONS}, got {self.precision!r}")

    def on_moments(
        self, ansatz: Ansatz, origin: Origin, point: TurningPoint, dtype: np.dtype
    ) -> tuple[TurningPoint, Status]:
        """The turning point itself."""
        return point, Status.ok


@pytree
class MomentsPoint:
    """The point at which p = ∇S = 0, from moments.

    Attributes:
        params: θ in the units of the data, (p, *batch).
        coefs: the same point in the basis and scaling of the moments, (p, *batch).
        cost: S(θ) in units of y_scale², (*batch).
        inverse: ⟨ψ ψᵀ⟩⁻¹, (p, p, *batch).
        full_rank: whether the point is unique, (*batch); if not, the other fields are finite but meaningless.
    """

    params: Float[Array, "p *batch"]
    coefs: Float[Array, "p *batch"]
    cost: Float[Array, "*batch"]
    inverse: Float[Array, "p p *batch"]
    full_rank: Bool[Array, "*batch"]


@in_own_precision
@jax.jit
def closed_form(moments: Moments) -> Float[Array, "p *batch"]:
    """The params at which p = ∇S = 0: A θ = b, for a line β₁ = cov(x, y) / var(x), β₀ = ⟨y⟩ − β₁⟨x⟩.

    Args:
        moments: of one data set or of a batch, see `jaxreg.moments`.

    Returns:
        θ of shape (p, *batch) in the units of the data; NaN for data sets whose moments do not determine it.

    Source: seed paper, equations 7, 14 and 15.

    >>> from jaxreg import moments
    >>> intercept, slope = closed_form(moments(jnp.arange(3.0), jnp.array([1.0, 3.0, 5.0])))
    >>> float(intercept), float(slope)
    (1.0, 2.0)
    """
    point = turning_point(moments)
    return jnp.where(point.full_rank, point.params, jnp.nan)


@jax.custom_jvp
def turning_point(moments: Moments) -> MomentsPoint:
    """Solve the normal equations of the moments in double-double."""
    dtype = moments.G.hi.dtype
    with float64():
        wide = jax.tree.map(
            lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, moments
        )
        G = wide.usable_G
        G = DoubleDouble(*two_sum(G.hi, G.lo))
        min_pivot = MIN_PIVOT[dtype.name]
        solution = solve_in_double_double(G, min_pivot)
        params, *_ = FromBasis.of(wide.ansatz, wide.scaling).params(
            solution.coefs, jnp.zeros_like(solution.coefs.hi)
        )
        point = MomentsPoint(
            params=params.scaled(wide.scaling.y_scale).value,
            coefs=solution.coefs.value,
            cost=jnp.maximum(solution.unexplained.value, 0),
            inverse=solution.inverse.value,
            full_rank=(solution.smallest_pivot > min_pivot) & moments.is_usable,
        )
        return jax.tree.map(lambda a: a.astype(dtype) if a.dtype == jnp.float64 else a, point)


@turning_point.defjvp
@promoting
def _implicit(primals: tuple[Moments], tangents: tuple[Moments]) -> tuple[MomentsPoint, MomentsPoint]:
    """ċ = A⁻¹(ḃ − Ȧ c), (A⁻¹)˙ = −A⁻¹ Ȧ A⁻¹ and Ṡ = vᵀĠv with v = (−c, 1)."""
    (moments,), (moments_dot,) = primals, tangents
    point, G_dot, ansatz = turning_point(moments), moments_dot.G.hi, moments.ansatz
    p = len(point.coefs)
    v = jnp.concatenate([-point.coefs, jnp.ones_like(point.coefs[:1])])
    G_dot_v = small.matvec(G_dot, v)  # its first p entries are ḃ − Ȧc
    coefs = small.matvec(point.inverse, G_dot_v[:p])
    scaling = moments.scaling
    center = scaling.x_center if scaling.x_origin is None else scaling.x_center + scaling.x_origin
    rows = feature_rows(ansatz, *(columns_of(ansatz, a, 0) for a in (center, scaling.x_scale)))
    return point, tangent(
        point,
        params=scaling.y_scale * jnp.stack(params_of(rows, coefs)),
        coefs=coefs,
        cost=small.dot(v, G_dot_v),
        inverse=-small.matmul(small.matmul(point.inverse, G_dot[:p, :p]), point.inverse),
    )
