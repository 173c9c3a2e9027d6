"""Robust covariances as objects: each sums the meat M of the sandwich from scores s_i = w_i ε_i ψ_i.

Source: J. G. MacKinnon and H. White, J. Econometrics 29 (1985) 305; K.-Y. Liang and S. L. Zeger,
Biometrika 73 (1986) 13; A. C. Cameron, J. B. Gelbach and D. L. Miller, J. Bus. Econ. Stat. 29 (2011) 238;
W. K. Newey and K. D. West, Econometrica 55 (1987) 703.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.engine.sandwich import Covariance, Meat
from jaxreg.engine.scores import Row, Scores, add, outer, symmetric_outer
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.vectors import Symmetric, elementwise

MIN_RESIDUAL_SHARE = 2.0**-36  # of 1 − h, which has four correct digits there


@jax.tree_util.register_static
@dataclass(frozen=True)
class HC0:
    """White's covariance for errors with a variance of their own, M = Σ (w ε)² ψψᵀ; `cov_type="HC0"`.

    Another covariance of this kind is a subclass, registered like this one, with a `name` and a method
    `corrected`; `leverage = True` passes it the leverage h.

    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
    >>> print(fit(x, y, cov_type=HC0()).bse.round(3))
    [1.123 0.419]
    """

    name = "HC0"
    leverage = False

    def prepared(self, n: int) -> Covariance:
        """Itself."""
        return self

    def state_size(self, p: int, n: int) -> int:
        """M."""
        return p * (p + 1) // 2

    def corrected(self, square: Array, h: Array | None, scores: Scores) -> Array:
        """(w ε)², corrected for the leverage h of its observation."""
        return square

    def factor(self, scores: Scores) -> Array | float:
        """The small-sample factor."""
        return 1.0

    def meat(self, scores: Scores) -> Meat:
        """M = Σ corrected((w ε)²) ψψᵀ."""
        M = scores.heteroscedastic(partial(self.corrected, scores=scores), leverage=self.leverage)
        return Meat(M, self.factor(scores))


@jax.tree_util.register_static
@dataclass(frozen=True)
class HC1(HC0):
    """HC0 times nobs / df_resid; `cov_type="HC1"`."""

    name = "HC1"

    def factor(self, scores: Scores) -> Array:
        """nobs / df_resid."""
        return scores.nobs / scores.df


@jax.tree_util.register_static
@dataclass(frozen=True)
class HC2(HC0):
    """HC0 with (w ε)² / (1 − h), unbiased if all variances are equal; `cov_type="HC2"`."""

    name = "HC2"
    leverage = True

    def corrected(self, square: Array, h: Array | None, scores: Scores) -> Array:
        """(w ε)² / (1 − h)."""
        return square / residual_share(h)


@jax.tree_util.register_static
@dataclass(frozen=True)
class HC3(HC0):
    """HC0 with (w ε)² / (1 − h)², close to the jackknife; `cov_type="HC3"`."""

    name = "HC3"
    leverage = True

    def corrected(self, square: Array, h: Array | None, scores: Scores) -> Array:
        """(w ε)² / (1 − h)²."""
        share = residual_share(h)
        return square / (share * share)


def residual_share(h: Array | None) -> Array:
    """1 − h; NaN where that is 0 to rounding, since the residual is then 0 whatever the error."""
    assert h is not None
    return jnp.where(1 - h > MIN_RESIDUAL_SHARE, 1 - h, jnp.nan)


@pytree
class _Grouping:
    """The rows in the order of their groups.

    Attributes:
        order: the rows, (n,).
        begins: whether a row in this order begins a group, (n,).
    """

    order: Any
    begins: Any

    @classmethod
    def of(cls, codes: np.ndarray) -> _Grouping:
        """From the number of the group of each row."""
        order = np.argsort(codes, kind="stable").astype(np.int32)
        return cls(order, np.append(True, np.diff(codes[order]) != 0))


@pytree
class Cluster:
    """Any correlation within groups, M = Σ_g S_g S_gᵀ of the sums S_g of scores in a group.

    With two columns of groups, errors that share either group are correlated: M of the first plus M of the
    second minus that of their intersection. The factor is G / (G − 1) · (nobs − 1) / df_resid for G groups,
    and tests with `use_t` have G − 1 degrees of freedom, of the smaller G for two, as in statsmodels.

    Args:
        groups: (n,), the group of each observation, labels of any kind; or (n, 2).

    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
    >>> print(fit(x, y, cov_type=Cluster(["a", "a", "b", "b", "c", "c"])).bse.round(3))
    [1.794 0.553]
    """

    groupings: tuple[_Grouping, ...]

    name = "cluster"

    def __init__(self, groups: Any):
        if isinstance(groups, Tracer):
            raise TypeError(
                "groups need values and there are none under jit or vmap; close over them instead"
            )
        shape = groups.shape if hasattr(groups, "shape") else (len(groups),)
        columns = [groups]
        if len(shape) == 2:
            table = groups.to_numpy() if hasattr(groups, "to_numpy") else groups
            columns = [table[:, k] for k in range(shape[1])]
        if len(shape) not in (1, 2) or len(columns) > 2:
            raise ValueError(f"groups has shape {shape}: pass (n,), or (n, 2) for two-way clusters")
        codes = [_codes(column) for column in columns]
        if len(codes) == 2:
            codes.append(codes[0].astype(np.int64) * (codes[1].max() + 1) + codes[1])
        object.__setattr__(self, "groupings", tuple(map(_Grouping.of, codes)))

    def __repr__(self) -> str:
        groups = [int(np.sum(grouping.begins)) for grouping in self.groupings[:2]]
        return f"Cluster({' × '.join(map(str, groups))} groups)"

    def prepared(self, n: int) -> Cluster:
        """Itself, if it has a group for every observation."""
        length = len(self.groupings[0].order)
        if length != n:
            raise ValueError(
                f"groups has {length} labels and y {n} observations: pass a label for every "
                f"observation, ({n},)"
            )
        return self

    def state_size(self, p: int, n: int) -> int:
        """M and the sum of a group."""
        return p * (p + 3) // 2

    def meat(self, scores: Scores) -> Meat:
        """M of one grouping, or M₁ + M₂ − M₁₂."""
        sums = [_sum_over_groups(grouping, scores) for grouping in self.groupings]
        factors = [g / jnp.maximum(g - 1, 1) * ((scores.nobs - 1) / scores.df) for _, g in sums]
        if len(sums) == 1:
            return Meat(sums[0][0], factors[0], sums[0][1])
        scaled = [M.map(partial(jnp.multiply, f)) for (M, _), f in zip(sums, factors, strict=True)]
        first, second, both = scaled
        M = add(add(first, second), both.map(jnp.negative))
        return Meat(M, 1.0, jnp.minimum(sums[0][1], sums[1][1]))


def _sum_over_groups(grouping: _Grouping, scores: Scores) -> tuple[Symmetric, Array]:
    """Σ_g S_g S_gᵀ, and the number of groups with valid observations."""
    order, begins = (jnp.asarray(a).reshape(scores.n) for a in (grouping.order, grouping.begins))
    zero, S, M = scores.zeros()

    @jax.checkpoint
    def step(k: Any, state: tuple) -> tuple:
        M, S, any_valid, groups = state
        begin = begins[k]
        M = add(M, outer(S, jnp.where(begin, jnp.ones_like(zero), 0)))
        groups = groups + jnp.where(begin & any_valid, 1, 0).astype(zero.dtype)
        row = scores.row(order[k])
        S = elementwise(lambda s, a: jnp.where(begin, 0, s) + row.score * a, S, row.psi)
        return M, S, jnp.where(begin, False, any_valid) | row.valid, groups

    M, S, any_valid, groups = lax.fori_loop(0, scores.n, step, (M, S, zero > 0, zero))
    return add(M, outer(S, jnp.ones_like(zero))), groups + any_valid


@jax.tree_util.register_static
@dataclass(frozen=True)
class HAC:
    """Newey and West's covariance for heteroscedastic errors that correlate with those shortly before.

    M = Σ_i s_i s_iᵀ + Σ_l k_l Σ_i (s_i s_{i−l}ᵀ + s_{i−l} s_iᵀ), Bartlett's weights k_l = 1 − l / (L + 1).
    Lags count valid observations.

    Args:
        maxlags: L, the largest lag; ⌊4 (nobs / 100)^(2/9)⌋ of each data set if omitted.

    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
    >>> print(fit(x, y, cov_type=HAC(maxlags=1)).bse.round(3))
    [1.188 0.412]
    """

    maxlags: int | None = None

    name = "HAC"

    def __post_init__(self) -> None:
        whole = isinstance(self.maxlags, int | np.integer) and not isinstance(self.maxlags, bool)
        if self.maxlags is not None and not (whole and self.maxlags >= 0):
            raise ValueError(f"maxlags is a whole number, at least 0, or None; got {self.maxlags!r}")

    def prepared(self, n: int) -> Covariance:
        """Itself."""
        return self

    def state_size(self, p: int, n: int) -> int:
        """M, and four vectors for every lag."""
        return p * (p + 5) // 2 + 4 * p * (1 + self._largest_lag(n))

    def _largest_lag(self, n: int) -> int:
        return int(_default_lags(n)) if self.maxlags is None else min(int(self.maxlags), n - 1)

    def meat(self, scores: Scores) -> Meat:
        """M = Σ s sᵀ + s fᵀ + f sᵀ with f_i = Σ_l k_l s_{i−l}."""
        nobs = scores.nobs
        L = _default_lags(nobs) if self.maxlags is None else jnp.full_like(nobs, float(self.maxlags))
        largest = self._largest_lag(scores.n)
        bartlett = [jnp.maximum(1 - lag / (L + 1), 0) for lag in range(1, largest + 1)]

        # Entry by entry: arrays of all entries of one row take three times as long.
        def step(state: tuple, row: Row) -> tuple:
            M, previous = state  # scores of the last valid observations, newest first
            s = elementwise(partial(jnp.multiply, row.score), row.psi)
            f = elementwise(lambda a: a / 2, s)  # half of s: s fᵀ + f sᵀ then contains s sᵀ
            for weight, lagged in zip(bartlett, previous, strict=True):
                f = elementwise(jnp.add, f, elementwise(partial(jnp.multiply, weight), lagged))
            shifted = [s, *previous[:-1]] if previous else []
            previous = [
                elementwise(partial(jnp.where, row.valid), new, old)
                for new, old in zip(shifted, previous, strict=True)
            ]
            return add(M, symmetric_outer(s, f)), previous

        _, zeros, M = scores.zeros()
        return Meat(scores.over_rows(step, (M, [zeros] * largest))[0])


def _default_lags(nobs: Any) -> Any:
    """Newey and West's ⌊4 (nobs / 100)^(2/9)⌋."""
    if isinstance(nobs, int):
        return np.floor(4 * (nobs / 100) ** (2 / 9))
    return jnp.floor(4 * (nobs / 100) ** (2 / 9))


BY_NAME = {covariance.name: covariance for covariance in (HC0, HC1, HC2, HC3)}


def covariance_of(cov_type: Any, n: int) -> Covariance | None:
    """The covariance that `cov_type` names or is, None for a nonrobust one."""
    if isinstance(cov_type, str) and cov_type == "nonrobust":
        return None
    if isinstance(cov_type, str) and cov_type in BY_NAME:
        return BY_NAME[cov_type]()
    if isinstance(cov_type, str) and cov_type in ("cluster", "HAC"):
        now = "Cluster(groups)" if cov_type == "cluster" else "HAC(maxlags=None)"
        raise ValueError(f'cov_type="{cov_type}" has numbers of its own: pass cov_type={now}')
    if isinstance(cov_type, str | type) or not isinstance(cov_type, Covariance):
        names = ", ".join(repr(name) for name in ("nonrobust", *BY_NAME))
        raise ValueError(f"cov_type is one of {names}, or Cluster(groups) or HAC(maxlags); got {cov_type!r}")
    return cov_type.prepared(n)


def _codes(groups: Any) -> np.ndarray:
    """A number for each label."""
    labels = np.asarray(groups)
    missing = np.ma.getmaskarray(groups) if isinstance(groups, np.ma.MaskedArray) else _is_missing(labels)
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"groups has {missing.sum()} missing labels, the first at observation {first}: give those "
            "observations a label, or y a NaN and any label"
        )
    try:
        return np.unique(labels, return_inverse=True)[1]
    except TypeError:  # of kinds that cannot be sorted together
        numbers: dict[Any, int] = {}
        return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def _is_missing(labels: np.ndarray) -> np.ndarray:
    """Which labels are None, NaN, NaT or pandas' NA: those that do not equal themselves, and None."""
    if labels.dtype != object:
        return labels != labels

    def missing(label: Any) -> bool:
        try:
            return label is None or bool(label != label)
        except TypeError:  # the truth of pandas' NA is not known
            return True

    return np.array([missing(label) for label in labels])
