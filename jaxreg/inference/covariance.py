"""Robust covariances: each sums the meat M of the sandwich from the scores s_i = w_i ε_i ψ_i.

The interface is `jaxreg.engine.sandwich.Covariance`; nonrobust errors come from engine.turning_point.

Source: J. G. MacKinnon and H. White, J. Econometrics 29 (1985) 305; K.-Y. Liang and S. L. Zeger,
Biometrika 73 (1986) 13; A. C. Cameron, J. B. Gelbach and D. L. Miller, J. Bus. Econ. Stat. 29 (2011) 238;
W. K. Newey and K. D. West, Econometrica 55 (1987) 703.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
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

MIN_RESIDUAL_SHARE = 2.0**-36  # the smallest 1 − h that still has four correct digits


@jax.tree_util.register_static
@dataclass(frozen=True)
class HC0:
    """White's covariance for heteroscedastic errors, M = Σ (w ε)² ψψᵀ; also `cov_type="HC0"`.

    Every error has a variance of its own. HC0 is biased in small samples; prefer HC3.

    To define another covariance of this kind, subclass it, register the subclass in the same way, and give it
    a `name` and a method `corrected`; with `leverage = True` the latter gets the leverage h.

    Source: H. White, Econometrica 48 (1980) 817.

    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
    >>> print(fit(x, y, cov_type=HC0()).bse.round(3))
    [1.123 0.419]
    """

    name = "HC0"
    leverage = False

    def prepared(self, n: int) -> Covariance:
        """Return self."""
        return self

    def state_size(self, p: int, n: int) -> int:
        """Number of entries of M."""
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
    """HC0 times the small-sample factor nobs / df_resid; also `cov_type="HC1"`.

    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
    >>> print(fit(x, y, cov_type="HC1").bse.round(3))
    [1.375 0.514]
    """

    name = "HC1"

    def factor(self, scores: Scores) -> Array:
        """nobs / df_resid."""
        return scores.nobs / scores.df


@jax.tree_util.register_static
@dataclass(frozen=True)
class HC2(HC0):
    """HC0 with (w ε)² / (1 − h), where h is the leverage; also `cov_type="HC2"`.

    Unbiased if all errors have the same variance. NaN for a data set with h = 1 at an observation, whose
    residual is 0 whatever its error.

    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
    >>> print(fit(x, y, cov_type="HC2").bse.round(3))
    [1.555 0.601]
    """

    name = "HC2"
    leverage = True

    def corrected(self, square: Array, h: Array | None, scores: Scores) -> Array:
        """(w ε)² / (1 − h)."""
        return square / residual_share(h)


@jax.tree_util.register_static
@dataclass(frozen=True)
class HC3(HC0):
    """HC0 with (w ε)² / (1 − h)², where h is the leverage; also `cov_type="HC3"`.

    Close to the jackknife, and the best choice for small samples. NaN for a data set with h = 1 at an
    observation, whose residual is 0 whatever its error.

    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
    >>> print(fit(x, y, cov_type="HC3").bse.round(3))
    [2.191 0.866]
    """

    name = "HC3"
    leverage = True

    def corrected(self, square: Array, h: Array | None, scores: Scores) -> Array:
        """(w ε)² / (1 − h)²."""
        share = residual_share(h)
        return square / (share * share)


def residual_share(h: Array | None) -> Array:
    """1 − h; NaN where it is 0 up to rounding, since the residual is then 0 whatever the error."""
    assert h is not None
    return jnp.where(1 - h > MIN_RESIDUAL_SHARE, 1 - h, jnp.nan)


@pytree
class _Grouping:
    """The rows sorted by group.

    Attributes:
        order: row numbers, (n,).
        begins: whether a row, in this order, is the first of its group, (n,).
    """

    order: Any
    begins: Any

    @classmethod
    def of(cls, codes: np.ndarray) -> _Grouping:
        """From the integer code of the group of each row."""
        order = np.argsort(codes, kind="stable").astype(np.int32)
        return cls(order, np.append(True, np.diff(codes[order]) != 0))


@pytree
class Cluster:
    """Covariance for errors that correlate within groups, M = Σ_g S_g S_gᵀ with S_g = Σ_{i∈g} s_i.

    The small-sample factor for G groups is G / (G − 1) · (nobs − 1) / df_resid, and tests with `use_t` have
    G − 1 degrees of freedom, as in statsmodels. With two columns of groups, errors that share a group in
    either column correlate: M is that of the first plus that of the second minus that of their intersection,
    and G for the degrees of freedom is the smaller one. Where that M is
    indefinite, bse and tests are NaN.

    Args:
        groups: (n,), a label of any type for the group of each observation; or (n, 2) for two-way clusters.

    Raises:
        ValueError: if a label is missing, or the shape is neither of these.
        TypeError: if the labels are traced by `jit` or `vmap`.

    Source: K.-Y. Liang and S. L. Zeger, Biometrika 73 (1986) 13; for two-way clusters A. C. Cameron,
    J. B. Gelbach and D. L. Miller, J. Bus. Econ. Stat. 29 (2011) 238.

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
                "groups needs concrete values; there are none under jit or vmap: close over groups instead"
            )
        if isinstance(groups, str) or not hasattr(groups, "__len__"):
            raise TypeError(f"groups are a label for each observation, (n,); got {groups!r}")
        if not hasattr(groups, "shape") and all(isinstance(label, list) for label in groups):
            groups = np.asarray(groups)  # a list of lists is a table; tuples are labels
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
        """Itself, checked to have a group for every observation."""
        count = len(self.groupings[0].order)
        if count != n:
            raise ValueError(
                f"groups has {count} labels and y {n} observations: pass a label for every "
                f"observation, ({n},)"
            )
        return self

    def state_size(self, p: int, n: int) -> int:
        """M and the sum of a group."""
        return p * (p + 3) // 2

    def meat(self, scores: Scores) -> Meat:
        """M of one grouping, or M₁ + M₂ − M₁₂ of two."""
        sums = [_sum_over_groups(grouping, scores) for grouping in self.groupings]
        factors = [g / jnp.maximum(g - 1, 1) * ((scores.nobs - 1) / scores.df) for _, g in sums]
        if len(sums) == 1:
            return Meat(sums[0][0], factors[0], sums[0][1])
        scaled = [M.map(partial(jnp.multiply, f)) for (M, _), f in zip(sums, factors, strict=True)]
        first, second, intersection = scaled
        M = add(add(first, second), intersection.map(jnp.negative))
        return Meat(M, 1.0, jnp.minimum(sums[0][1], sums[1][1]), is_definite=False)


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
    """Newey and West's covariance for heteroscedastic and autocorrelated errors.

    M = Σ_i s_i s_iᵀ + Σ_l k_l Σ_i (s_i s_{i−l}ᵀ + s_{i−l} s_iᵀ), with Bartlett's weights
    k_l = 1 − l / (L + 1) for lags l = 1 … L. Observations must be in the order of time; lags count the valid
    ones only.

    Args:
        maxlags: L, the largest lag. If omitted, ⌊4 (nobs / 100)^(2/9)⌋ for each data set.

    Raises:
        ValueError: if maxlags is not an integer of 0 or more.

    Source: W. K. Newey and K. D. West, Econometrica 55 (1987) 703.

    >>> from jaxreg import fit
    >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
    >>> print(fit(x, y, cov_type=HAC(maxlags=1)).bse.round(3))
    [1.188 0.412]
    """

    maxlags: int | None = None

    name = "HAC"

    def __post_init__(self) -> None:
        is_integer = isinstance(self.maxlags, int | np.integer) and not isinstance(self.maxlags, bool)
        if self.maxlags is not None and not (is_integer and self.maxlags >= 0):
            raise ValueError(f"maxlags is an integer of 0 or more, or None; got {self.maxlags!r}")

    def prepared(self, n: int) -> Covariance:
        """Return self."""
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

        # Elementwise on lists of entries: stacked arrays of a row take three times as long.
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
    """The covariance object of `cov_type`, checked against n observations; None for "nonrobust"."""
    if isinstance(cov_type, str) and cov_type == "nonrobust":
        return None
    if isinstance(cov_type, str) and cov_type in BY_NAME:
        return BY_NAME[cov_type]()
    if isinstance(cov_type, str) and cov_type in ("cluster", "HAC"):
        replacement = "Cluster(groups)" if cov_type == "cluster" else "HAC(maxlags=None)"
        raise ValueError(f'cov_type="{cov_type}" needs arguments: pass cov_type={replacement}')
    if isinstance(cov_type, type) and isinstance(getattr(cov_type, "name", None), str):
        raise ValueError(f"cov_type is an object: pass {cov_type.__name__}(…), not the class")
    if isinstance(cov_type, str | type) or not isinstance(cov_type, Covariance):
        names = ", ".join(repr(name) for name in ("nonrobust", *BY_NAME))
        raise ValueError(
            f"cov_type is one of {names}, Cluster(groups), HAC(maxlags), or an object of your own; got "
            f"{cov_type!r}"
        )
    _check_fields(cov_type)
    prepared = cov_type.prepared(n)
    if any(leaf is prepared for leaf in jax.tree.leaves(prepared)):
        raise TypeError(
            f"{type(prepared).__name__} is not a pytree: decorate the class with "
            "jax.tree_util.register_static"
        )
    return prepared


def _check_fields(covariance: Any) -> None:
    """Raise where settings are not fields: programs compiled for one would be reused for another."""
    if not is_dataclass(covariance):
        return
    others = set(getattr(covariance, "__dict__", ())) - {field.name for field in fields(covariance)}
    if others:
        raise TypeError(
            f"{type(covariance).__name__} has settings that are not fields ({', '.join(sorted(others))}): "
            "declare them, and decorate the class with @dataclass(frozen=True)"
        )


def _codes(groups: Any) -> np.ndarray:
    """An integer code for each label."""
    labels = np.asarray(groups)
    missing = np.ma.getmaskarray(groups) if isinstance(groups, np.ma.MaskedArray) else _is_missing(labels)
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"groups has {missing.sum()} missing labels, the first at observation {first}: give these "
            "observations a label; to exclude them, set y to NaN as well"
        )
    try:
        return np.unique(labels, return_inverse=True)[1]
    except TypeError:  # labels of several types, which cannot be sorted
        codes: dict[Any, int] = {}
        return np.array([codes.setdefault(label, len(codes)) for label in labels])


def _is_missing(labels: np.ndarray) -> np.ndarray:
    """Whether each label is None, NaN, NaT or pandas' NA; all but None do not equal themselves."""
    if labels.dtype != object:
        return labels != labels

    def missing(label: Any) -> bool:
        try:
            return label is None or bool(label != label)
        except TypeError:  # pandas' NA has no truth value
            return True

    return np.array([missing(label) for label in labels])
