"""The turning point of moments, where p = ∇S = 0 (seed paper, equations 7, 14, 15), in double-double."""

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

MIN_SHARE = {"float32": 2.0**-43, "float64": 2.0**-86}  # of a column, above the rounding of stored moments


PRECISIONS = ("auto", "fast", "certified")


@pytree
class ClosedForm:
    """The turning point of the mean squared error itself, equations 14 and 15; the solver of `fit` if
    omitted.

    Args:
        precision: which data sets are computed in double-double (twice the digits of float64), at 20 to 50 µs
            each. "auto": those in whose params or errors the rounding of plain float64 sums could be noticed,
            a share that depends on correlations, and on offsets where there is no intercept; with one it is
            close to 0 for lines and designs of independent columns. NIST's eleven certified sets keep 15 or
            more digits in float64 and 7 in float32, where LAPACK keeps 6 to 13 and 0 to 5. "certified": all.
            "fast": none; `digits` tells what is left, and columns that plain sums cannot tell apart are
            `rank_deficient`. Within `jit` and the other transformations of JAX, and for arrays on several
            devices, "auto" is "fast".

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
        """The turning point is the solution."""
        return point, Status.ok


@pytree
class MomentsPoint:
    """Where p = 0.

    Attributes:
        params: θ in the units of the data, (p, *batch).
        coefs: the same point in the basis and scaling of the moments, (p, *batch).
        cost: S there, in units of y_scale², (*batch).
        inverse: ⟨ψ ψᵀ⟩⁻¹, (p, p, *batch).
        full_rank: whether the turning point is a single one, (*batch); where not, the rest is finite and
            means nothing.
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
        moments: of one data set or of many.

    Returns:
        θ of shape (p, *batch) in the units of the data; NaN where moments do not determine it.

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
    """Solve the normal equations."""
    dtype = moments.G.hi.dtype
    with float64():
        wide = jax.tree.map(
            lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, moments
        )
        G = wide.usable_G
        G = DoubleDouble(*two_sum(G.hi, G.lo))
        least = MIN_SHARE[dtype.name]
        found = solve_in_double_double(G, least)
        params, *_ = FromBasis.of(wide.ansatz, wide.scaling).params(
            found.coefs, jnp.zeros_like(found.coefs.hi)
        )
        point = MomentsPoint(
            params=params.scaled(wide.scaling.y_scale).value,
            coefs=found.coefs.value,
            cost=jnp.maximum(found.unexplained.value, 0),
            inverse=found.inverse.value,
            full_rank=(found.smallest_pivot > least) & moments.is_usable,
        )
        return jax.tree.map(lambda a: a.astype(dtype) if a.dtype == jnp.float64 else a, point)


@turning_point.defjvp
@promoting
def _implicit(primals: tuple[Moments], tangents: tuple[Moments]) -> tuple[MomentsPoint, MomentsPoint]:
    """ċ = A⁻¹(ḃ − Ȧ c), (A⁻¹)˙ = −A⁻¹ Ȧ A⁻¹ and Ṡ = vᵀĠv with v = (−c, 1)."""
    (moments,), (moves,) = primals, tangents
    point, change, ansatz = turning_point(moments), moves.G.hi, moments.ansatz
    p = len(point.coefs)
    v = jnp.concatenate([-point.coefs, jnp.ones_like(point.coefs[:1])])
    force = small.matvec(change, v)  # ḃ − Ȧc, and what is left of it in y
    coefs = small.matvec(point.inverse, force[:p])
    scaling = moments.scaling
    center = scaling.x_center if scaling.x_origin is None else scaling.x_center + scaling.x_origin
    rows = feature_rows(ansatz, *(columns_of(ansatz, a, 0) for a in (center, scaling.x_scale)))
    return point, tangent(
        point,
        params=scaling.y_scale * jnp.stack(params_of(rows, coefs)),
        coefs=coefs,
        cost=small.dot(v, force),
        inverse=-small.matmul(small.matmul(point.inverse, change[:p, :p]), point.inverse),
    )
