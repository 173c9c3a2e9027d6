"""`Fit`: what `fit` returns, the params of every data set and what is known about them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg import status
from jaxreg._typing import Array, Float, Int
from jaxreg.ansatz import Ansatz
from jaxreg.data import inputs
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.sums import columns_of
from jaxreg.inference import report
from jaxreg.inference.differentiable import differentiable
from jaxreg.inference.statistics import Inference, Prediction
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.status import Status


@pytree
class Fit(Inference):
    """The fitted params of every data set and what is known about them; `fit(...)` makes it.

    A pytree: it goes through `jit`, `vmap` (with `out_axes=-1`) and `jax.tree.map`. `fit[i]` is the fit
    of one data set, `fit[i, j]` of one in a grid, `fit[2:5]` of some.

    Attributes:
        estimate: what all results are made of; see `Estimate`.
        ansatz: the ansatz that was fitted.
        cov_type: what kind of covariance bse and tests are made with.
        use_t: whether tests of params are Student's, or normal.
        constant: without an intercept, the column of a shared x that is constant, "implicit" where columns
            add up to one, or None: then sums of squares are not about the mean.
    """

    estimate: Estimate
    ansatz: Ansatz = static()
    cov_type: str = static(default="nonrobust")
    use_t: bool = static(default=True)
    constant: int | str | None = static(default=None)

    @property
    def params(self) -> Float[Array, "p *batch"]:
        """θ; for a line `intercept, slope = fit.params`."""
        return self.estimate.params

    @property
    def bse(self) -> Float[Array, "p *batch"]:
        """Standard errors of the params."""
        return self.estimate.bse

    @property
    def nobs(self) -> Int[Array, "*batch"]:
        """How many observations are valid."""
        return self.estimate.nobs

    @property
    def status(self) -> Int[Array, "*batch"]:
        """A `jaxreg.Status` code."""
        return self.estimate.status

    @property
    def digits(self) -> Int[Array, "*batch"]:
        """How many decimal digits of every param are correct, at most 7 in float32 and 15 in float64.

        Against the exact solution for the data in the dtype of y. Bounded, not estimated: often there are
        more. 0 where there are no params, and for costs whose exact solution is not known. Subnormal numbers
        count as 0.
        """
        return self.estimate.digits

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data sets, () for a single one."""
        if self.params.shape[1:] != self.status.shape:
            raise ValueError(
                f"params {self.params.shape} and data sets {self.status.shape} do not go together; a fit "
                "under vmap keeps the params in front with out_axes=-1"
            )
        return self.status.shape

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the params."""
        return self.ansatz.names(self._columns)

    @property
    def _columns(self) -> int:
        """How many columns x has where it is a vector."""
        return self._p - self.ansatz.has_intercept

    def predict(
        self, x: Any, interval: str | None = None, alpha: Any = 0.05, weights: Any = None
    ) -> Array | Prediction:
        """f(θ, x) of every data set, and an interval around it; NaN where there are no params.

        Computed around the data, where no digit is lost to a large offset of x. Intervals of a fit with
        cluster errors and `use_t` are those of Student's t with groups − 1 degrees of freedom, as its tests
        are; statsmodels takes nobs − p there.

        Args:
            x: one number, (n,) for all data sets or (n, *batch) for each its own; where the ansatz
                takes vectors (n, k) or (n, k, *batch).
            interval: "confidence" for limits of f(θ, x), "prediction" for those of a new observation.
            alpha: 1 − the confidence.
            weights: of the new observations, 1 if not given: a number, or of the shape of the result.

        Returns:
            (n, *batch) in units of y, (*batch) for one number; with an interval a `Prediction` of
            mean, lower and upper.

        >>> from jaxreg import fit
        >>> found = fit(np.arange(3.0), np.array([1.0, 3.0, 6.0]))
        >>> found.predict(np.array([10.0])).round(3).tolist()
        [25.833]
        >>> found.predict(1.0, "prediction").upper.round(3).tolist()
        9.323
        """
        if interval not in (None, "confidence", "prediction"):
            raise ValueError(f'interval is "confidence", "prediction" or None, got {interval!r}')
        away = inputs.new_x(
            x, self.params.dtype, self.ansatz, self.shape, self._columns, self.estimate.x_origin
        )
        if interval is None:
            return _predict(self, away)
        if interval == "confidence":
            weights = None
        else:
            weights = inputs.new_weights(weights, jax.eval_shape(_predict, self, away).shape)
        return Prediction(*_limits(self, away, weights, self._quantile(alpha)))

    def summary(self, alpha: float = 0.05) -> str:
        """A table: of one data set as statsmodels prints it, of many quantiles and counts.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).summary().splitlines()[-2])
        slope               0.9     0.2646      3.402    0.07662    -0.2384      2.038
        """
        self._need_values("summary")
        return report.of_many(self, alpha) if self.shape else report.of_one(self, alpha)

    def to_pandas(self) -> Any:
        """A pandas table (extra `frame`): a row per param of one data set, or a row per data set of many."""
        self._need_values("to_pandas")
        return report.to_pandas(self)

    def to_xarray(self, dims: tuple[str, ...] | None = None, coords: Any = None) -> Any:
        """An xarray Dataset (extra `xarray`) of params, errors, tests and what else is known.

        Args:
            dims: what the axes of the data sets are called.
            coords: coordinates of them, as xarray takes them.
        """
        self._need_values("to_xarray")
        return report.to_xarray(self, dims, coords)

    def describe(self) -> str:
        """How many data sets ended how, with a sentence of advice for each code.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(3.0), np.array([1.0, 3.0, 5.0])).describe())
        1 ok: fitted.
        """
        return status.describe(self.status)

    def raise_for_status(self) -> Fit:
        """The fit itself if every data set has params and the search for them ended.

        Raises:
            FitError: if one ended otherwise than `ok` or `exact_fit`; says how many, which and why.

        >>> from jaxreg import fit
        >>> fit(np.arange(3.0), np.ones((3, 2))).raise_for_status().shape
        (2,)
        >>> fit(np.arange(3.0), np.full((3, 2), np.nan)).raise_for_status()
        Traceback (most recent call last):
        ...
        jaxreg.status.FitError: 2 of 2 data sets failed
        2 no_observations at 0, 1: not one valid observation (all NaN, or all weights 0); nothing to fit.
        """
        self._need_values("raise_for_status")
        status.raise_for(self.status)
        return self

    def _need_values(self, name: str) -> None:
        if isinstance(self.status, Tracer):
            raise TypeError(f"{name} needs values and there are none under jit or vmap; look at status there")

    def __getitem__(self, index: Any) -> Fit:
        if not self.shape:
            raise TypeError("this is the fit of a single data set; there is nothing to index")
        index = index if isinstance(index, tuple) else (index,)
        others = () if any(i is Ellipsis for i in index) else (...,)
        if not any(isinstance(i, Tracer) for i in index):
            np.broadcast_to(False, self.shape)[index]  # JAX would clamp an index that is out of range

        def of(leaf: Array) -> Array:
            xp: Any = np if isinstance(leaf, np.ndarray) else jnp  # which would copy a view of one entry
            if leaf.ndim == len(self.shape):
                return leaf[(*index, *others)]
            return xp.moveaxis(xp.moveaxis(leaf, 0, -1)[(*index, *others, slice(None))], -1, 0)

        return in_own_precision(jax.tree.map)(of, self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("this is the fit of a single data set; it has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Fit]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if isinstance(self.params, Tracer):
            return f"<Fit of {self.ansatz} to data sets {self.shape}, traced>"
        arrays = isinstance(self.params, jax.Array | np.ndarray)
        if not arrays or self.params.shape[1:] != self.status.shape:
            return f"Fit(params={self.params!r}, …)"
        return _many(self) if self.shape else _single(self)


@differentiable
def _predict(found: Fit, x: Array) -> Array:
    """y_origin + Σ c_k ψ_k(t), with x as it is from x_origin."""
    e = found.estimate
    terms = [c * psi for c, psi in zip(e.coefs, _basis(found, x), strict=True)]
    value = reduce(jnp.add, terms)
    return value if e.y_origin is None else value + e.y_origin.astype(value.dtype)


@differentiable
def _limits(found: Fit, x: Array, weights: Any, quantile: Array) -> tuple[Array, Array, Array]:
    mean = _predict(found, x)
    reach = quantile * found._deviation(_basis(found, x), weights)
    return mean, mean - reach, mean + reach


def _basis(found: Fit, x: Array) -> list[Array]:
    """ψ(t) of new x, where a shared x has axes of length 1 for the data sets."""
    e, ansatz = found.estimate, found.ansatz
    if x.ndim <= 1 + ansatz.x_is_vector:
        x = x.reshape(*x.shape, *(1,) * len(found.shape))
    center, scale = (columns_of(ansatz, a, 0) for a in (e.x_center, e.x_scale))
    columns = columns_of(ansatz, x, 1)
    return ansatz.basis([(a - c) * (1 / s) for a, c, s in zip(columns, center, scale, strict=True)])


def _single(found: Fit) -> str:
    """The repr of one data set: a line per param, with its standard error."""
    code = Status(int(found.status))
    head = f"Fit of {found.ansatz} to {int(found.nobs)} observations, {code.name}"
    errors = np.asarray(found.bse)
    return "\n".join(
        [head]
        + [
            f"  {name:<9} {value: .6g} ± {error:.2g}"
            for name, value, error in zip(found.names, np.asarray(found.params), errors, strict=True)
        ]
    )


def _many(found: Fit) -> str:
    """The repr of many data sets: how they ended and the quartiles of each param."""
    counted = ", ".join(f"{n} {code.name}" for code, n in status.counts(found.status).items())
    head = f"Fit of {found.ansatz} to {' × '.join(map(str, found.shape))} data sets: {counted}"
    lines = [head]
    for name, values in zip(found.names, np.asarray(found.params), strict=True):
        known = values[np.isfinite(values)]
        if known.size:
            low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
            lines.append(f"  {name:<9} median {middle: .4g}, half of them in [{low:.4g}, {high:.4g}]")
    return "\n".join(lines)
