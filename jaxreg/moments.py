"""Moments: all that the data tell about a cost that is quadratic in the params.

With z = (ψ(t), u), the basis of the ansatz and the response in the frame of the data set, the cost of a
linear ansatz is S(c) = (−c, 1) ⟨z zᵀ⟩ (−c, 1)ᵀ: the data enter through the averages G = ⟨z zᵀ⟩ alone.
`gather` gathers them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import frame as frames
from jaxreg import pair
from jaxreg._typing import Array, Bool, Float, Int
from jaxreg.ansatz import Ansatz
from jaxreg.frame import Frame
from jaxreg.pair import Pair
from jaxreg.precision import in_own_precision
from jaxreg.pytree import pytree, static


@pytree
class Moments:
    """Averages over the valid observations of each data set; `a + b` merges those of two halves.

    Attributes:
        nobs: how many observations are valid, (*batch).
        weight: Σ w, equal to nobs without weights, (*batch).
        log_weight: Σ log w, 0 without weights, (*batch).
        G: ⟨z zᵀ⟩ in the frame, (p + 1, p + 1, *batch), to twice the digits of the data.
        mean: ⟨u⟩ in the frame, (*batch).
        frame: what t and u are in units of x and y.
        invalid: whether an observation was infinite or had an impossible weight, (*batch).
        ansatz: whose basis it is.

    >>> from jaxreg import moments
    >>> m = moments(jnp.array([0.0, 1.0, 0.0, 3.0]), jnp.array([1.0, 2.0, 3.0, 18.0]))
    >>> print(m.gram)  # [[1, ⟨x⟩], [⟨x⟩, ⟨x²⟩]]
    [[1.  1. ]
     [1.  2.5]]
    >>> print(m.cross)  # [⟨y⟩, ⟨xy⟩]
    [ 6. 14.]
    """

    nobs: Int[Array, "*batch"]
    weight: Float[Array, "*batch"]
    log_weight: Float[Array, "*batch"]
    G: Pair
    mean: Float[Array, "*batch"]
    frame: Frame
    invalid: Bool[Array, "*batch"]
    ansatz: Ansatz = static()

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
    def _in_data_units(self) -> Pair:
        p = self.G.hi.shape[0] - 1
        features_in_basis = np.eye(p + 1)
        features_in_basis[:p, :p] = np.linalg.inv(self.ansatz.basis_in_features(p))
        inside = _seen_from(self, frames.data_units(self.frame))
        return pair.congruence(frames.constant(features_in_basis, inside), inside)

    @in_own_precision
    @jax.jit
    def __add__(self, other: Moments) -> Moments:
        """The moments of the observations of both."""
        if self.ansatz != other.ansatz:
            raise ValueError(f"moments of {self.ansatz} and of {other.ansatz} do not add")
        a, b, ansatz = self, other, self.ansatz
        frame = frames.union(a.frame, a.nobs > 0, b.frame, b.nobs > 0, ansatz)
        weight = a.weight + b.weight
        safe = jnp.where(weight > 0, weight, 1)
        G = _seen_from(a, frame) * a.weight / safe + _seen_from(b, frame) * b.weight / safe
        mean = (_mean_from(a, frame) * a.weight + _mean_from(b, frame) * b.weight) / safe
        return Moments(
            nobs=a.nobs + b.nobs,
            weight=weight,
            log_weight=a.log_weight + b.log_weight,
            G=G,
            mean=mean,
            frame=frame,
            invalid=a.invalid | b.invalid,
            ansatz=ansatz,
        )


def _seen_from(m: Moments, frame: Frame) -> Pair:
    """G in another frame."""
    return pair.congruence(frames.between(m.frame, frame, m.ansatz), m.G)


def _mean_from(m: Moments, frame: Frame) -> Array:
    """⟨u⟩ in another frame."""
    return (m.frame.y_center - frame.y_center + m.frame.y_scale * m.mean) / frame.y_scale
