"""`Stream`: least squares of observations that arrive, fade and leave."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._typing import Array, Int
from jaxreg.ansatz import Ansatz, Features, Line, Linear, compiled_ansatz
from jaxreg.curves.curve import Curve
from jaxreg.data import checks
from jaxreg.data.labels import Labels, check_columns, check_dims, labels_of
from jaxreg.data.source import Columns, source_of
from jaxreg.engine import running_sums
from jaxreg.engine.moments import Moments
from jaxreg.engine.rows import padded_length
from jaxreg.engine.running_estimate import estimate_of_running_sums, moments_of_running_sums
from jaxreg.engine.running_sums import RunningSums
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.result import Fit
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree, static


@pytree
class Stream:
    """Least squares of observations that arrive, fade and leave, with the inference of `fit`.

    A stream keeps G = Σ λ^age w z zᵀ of z = (1, ψ(x), y) for every data set, and no observations. `update`
    adds rows and `downdate` removes them, both return a new stream, and `fit` solves the normal equations:

        G ← λ G + w z zᵀ,    G ← G − w z zᵀ.

    The sums are in double-double of float64, whatever the dtype, and their center follows the observations.
    So the fit is that of all observations at once to the rounding of the dtype, in whatever chunks they
    came. A row that is removed leaves 2⁻¹⁰⁴ of the sums behind (2⁻¹⁰⁰ for float32 data): after 10⁶ rows in
    and out a sliding window is as exact as a fresh fit of it. `Fit.digits` bounds what was left behind, too.

    Forgetting: each row multiplies the weights of those before it by λ, also a row that is a gap, in chunks
    as one by one. The params are those of the recursive least squares filter that starts from nothing, and of
    weighted least squares with weights λ^age. `nobs` is then the effective number of observations Σ λ^age, at
    most 1 / (1 − λ), from which df_resid = nobs − p, bse and p-values follow: they are those of present
    params that drift. With nobs up to p there are params without errors (`exact_fit`). `llf` is discounted:
    Σ λ^age log P(y).

    A stream is a pytree of arrays of the dtype of the data: it passes through `jit`, `vmap` and `pickle`, and
    is the carry of a `lax.scan` once it has had an update, such as with a row of NaN. It has no derivatives.

    Args:
        ansatz: linear in its params: `Line()`, `Polynomial(degree)`, `Linear()` or `Features(…)`.
        forgetting: λ, above 0 and at most 1; None to forget nothing.

    Raises:
        TypeError: if the ansatz is a `Curve` or none.
        ValueError: if λ is out of range.

    Source: for G, S. Haykin, Adaptive Filter Theory, 5th ed., chapter 10; for the degrees of freedom, M. West
    and J. Harrison, Bayesian Forecasting and Dynamic Models, 2nd ed., section 10.8.

    >>> x, y = np.arange(6.0), np.array([1.0, 3.0, 4.0, 8.0, 9.0, 10.0])
    >>> stream = Stream()
    >>> for rows in (slice(0, 2), slice(2, 6)):
    ...     stream = stream.update(x[rows], y[rows])
    >>> print(stream.fit().params.round(4), stream.fit().bse.round(4))
    [1.0476 1.9143] [0.5951 0.1966]
    >>> window = stream.downdate(x[:2], y[:2]).fit()  # the last four rows
    >>> print(window.params.round(4), window.nobs)
    [1.1 1.9] 4
    >>> recent = Stream(forgetting=0.5).update(x, y).fit()
    >>> print(recent.params.round(4), recent.nobs)
    [1.8988 1.672 ] 1.96875
    """

    ansatz: Ansatz | Features | Curve = static(default=Line())
    forgetting: float | None = static(default=None)
    _sums: RunningSums | None = None
    _labels: Labels = static(default=Labels())

    def __post_init__(self) -> None:
        if isinstance(self.ansatz, type) or not hasattr(self.ansatz, "predict"):
            raise TypeError(f"ansatz is an object such as Line() or Polynomial(2), got {self.ansatz!r}")
        if isinstance(self.ansatz, Curve):
            raise TypeError("a Curve is not linear in its params and needs all observations; call fit")
        λ: Any = self.forgetting
        if λ is None:
            return
        is_number = isinstance(λ, int | float | np.number) and not isinstance(λ, bool)
        if not is_number or not 0 < λ <= 1:
            raise ValueError(
                f"forgetting is a number above 0 and at most 1, such as 0.99, or None; got {λ!r}"
            )
        object.__setattr__(self, "forgetting", None if λ == 1 else float(λ))

    @classmethod
    def of(cls, moments: Moments) -> Stream:
        """The stream of the observations of these moments, which add up faster, in float64.

        Moments lack Σ log w, and without an intercept ⟨y⟩: `llf` is then NaN, as is `centered_tss` in the
        latter case. Their rounding is that of `fit`, and is not counted in `digits`.
        """
        if not isinstance(moments, Moments):
            raise TypeError(f"of takes Moments, got {type(moments).__name__}")
        return cls(moments.ansatz, None, in_own_precision(running_sums.of_moments)(moments))

    def update(self, x: Any, y: Any, weights: Any = None) -> Stream:
        """The stream with these observations.

        A program is compiled for each number of rows, outside of transformations for 1, 8, 12, 16, 24, 32, …
        rows, to which a chunk is padded.

        Args:
            x: (n,), shared by all data sets, or (n, *batch); (n, k) or (n, k, *batch) for an ansatz of
                vectors. A single row is `x[None]`.
            y: (n, *batch), NaN in gaps. The first chunk determines the dtype.
            weights: inverse variances, (n,) or (n, *batch).

        Raises:
            ValueError, TypeError: if shapes or dtypes do not fit together, or do not fit the first chunk.
                Data sets with an infinite value, or with a negative or NaN weight, have the status
                `invalid_data` until these observations are removed.
        """
        return self._with_rows(x, y, weights, 1)

    def downdate(self, x: Any, y: Any, weights: Any = None) -> Stream:
        """The stream without these observations, the inverse of `update`; also of gaps and invalid ones.

        Args:
            x: as it was added; in any chunks and any order.
            y: the same.
            weights: the same.

        Raises:
            ValueError: if a data set has fewer observations (within `jit` its status is then
                `too_few_observations`), the stream forgets, or as for `update`.
        """
        if self.forgetting is not None:
            raise ValueError(
                "a stream that forgets has no downdate, since the weights of the rows have changed; pass "
                "forgetting=None for a sliding window"
            )
        if self._sums is None:
            raise ValueError("there are no observations to remove; call update first")
        stream = self._with_rows(x, y, weights, -1)
        nobs, invalid = stream.nobs, stream._needed().invalid
        if not isinstance(nobs, Tracer) and np.any(too_many := (nobs < 0) | (invalid < 0)):
            raise ValueError(
                f"downdate removes more observations than there are, in {np.sum(too_many)} of {nobs.size} "
                "data sets"
            )
        return stream

    def fit(self, cov_type: str = "nonrobust") -> Fit:
        """The fit of the observations of the stream, with nonrobust errors.

        For a `Linear(intercept=False)` R² and F are about 0, also where a column is constant.

        Raises:
            ValueError: if there has been no update, or for a robust `cov_type`, which needs the observations.
        """
        if cov_type != "nonrobust":
            raise ValueError(
                f"a stream has nonrobust errors, since it keeps no observations; got cov_type={cov_type!r}: "
                "call jaxreg.fit on the observations"
            )
        sums = self._needed()
        estimate = in_own_precision(partial(estimate_of_running_sums, forgets=self.forgetting is not None))(
            sums
        )
        return Fit(Fitted(estimate, sums.ansatz), self.ansatz, self._labels)

    def moments(self) -> Moments:
        """The averages of the observations of the stream, for `closed_form` and `exact_flow`."""
        return in_own_precision(moments_of_running_sums)(self._needed())

    @property
    def nobs(self) -> Int[Array, "*batch"]:
        """Number of valid observations, of any age."""
        return self._needed().nobs

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data sets, () for a single one."""
        return self._needed().nobs.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the fit, that of the first chunk."""
        return self._needed().dtype

    def __add__(self, other: Stream) -> Stream:
        """The stream of the observations of both, which keep their ages."""
        if not isinstance(other, Stream):
            return NotImplemented
        if (self.ansatz, self.forgetting) != (other.ansatz, other.forgetting):
            raise ValueError(f"{self!r} and {other!r} do not add: ansatz and forgetting must agree")
        if self._sums is None or other._sums is None:
            return self if other._sums is None else other
        a, b = self._sums, other._sums
        if (a.words.shape, a.dtype) != (b.words.shape, b.dtype):
            raise ValueError(
                f"streams of data sets {self.shape} in {a.dtype} and of data sets {other.shape} in {b.dtype} "
                "do not add: shapes, dtypes and numbers of columns must agree"
            )
        return replace(self, _sums=in_own_precision(running_sums.added)(a, b))

    def __repr__(self) -> str:
        forgetting = "" if self.forgetting is None else f", forgetting={self.forgetting}"
        return f"Stream({self.ansatz}{forgetting})"

    def _needed(self) -> RunningSums:
        if self._sums is None:
            raise ValueError("the stream has no observations and no shape yet; call update first")
        return self._sums

    def _with_rows(self, x: Any, y: Any, weights: Any, sign: int) -> Stream:
        check_dims(x, y, weights)
        labels = self._labels
        if self._sums is None:
            labels = labels_of(x, y, isinstance(self.ansatz, Linear))
        check_columns(labels.columns, x)
        ansatz = compiled_ansatz(self.ansatz)
        source = source_of(checks.design_of(self.ansatz, x), y, weights, None, "omit", ansatz)
        k = source.x.shape[1] if ansatz.x_is_vector else 1
        sums = self._sums
        if sums is None:
            sums = running_sums.empty(ansatz, k, source.batch, source.dtype)
        _check_chunk(sums, source.batch, k)
        columns = replace(source, dtype=sums.dtype).whole()
        n = len(columns.y)
        if not source.is_traced and not isinstance(jnp.zeros(()), Tracer):
            columns = _padded(columns)
        add = partial(running_sums.with_rows, forgetting=self.forgetting, sign=sign)
        sums = in_own_precision(add)(sums, columns[:3], columns[4:6], n)
        return replace(self, _sums=sums, _labels=labels)


def _check_chunk(sums: RunningSums, batch: tuple[int, ...], k: int) -> None:
    """Raise if a chunk has other data sets or columns than the stream."""
    if batch != sums.nobs.shape:
        raise ValueError(f"the stream has data sets of shape {sums.nobs.shape}, and y of this chunk {batch}")
    center = sums.scaling.x_center
    if sums.ansatz.x_is_vector and k != len(center):
        raise ValueError(f"the stream has {len(center)} columns of x, and this chunk {k}")


def _padded(columns: Columns) -> Columns:
    """The columns with rows that are not counted, up to one of few lengths."""
    n = len(columns.y)
    more = 0 if n == 1 else padded_length(n) - n

    def pad(a: Any) -> Any:
        xp: Any = np if isinstance(a, np.ndarray) else jnp
        return xp.pad(a, ((0, more), *((0, 0),) * (a.ndim - 1)))

    return columns._replace(
        **{name: jax.tree.map(pad, getattr(columns, name)) for name in ("x", "y", "weights")}
    )
