"""`Fit`: what `fit` returns, the params of every data set and their inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg import status
from jaxreg._typing import Array, Float, Int
from jaxreg.ansatz import Ansatz, Features, design
from jaxreg.data.labels import Labels
from jaxreg.inference import comparison, contrasts, prediction, report, statistics, storage
from jaxreg.inference.contrasts import FTest, TTest
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.prediction import Prediction
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree, static


@pytree
class Fit:
    """The fitted params of every data set and their inference; `fit(...)` makes it.

    A pytree: it goes through `jit`, `vmap` (with `out_axes=-1`) and `jax.tree.map`. `fit[i]` is the fit
    of one data set, `fit[i, j]` of one in a grid, `fit[2:5]` of several.

    Attributes:
        params: θ, (p, *batch).
        bse: standard errors, (p, *batch).
        nobs: number of valid observations, (*batch).
        status: `jaxreg.Status` codes, (*batch).
        digits: correct decimal digits of the params, (*batch).
        ansatz: the ansatz that was fitted.
        cov_type: the kind of covariance that bse and tests use, such as "nonrobust" or "HC3".
        use_t: whether params are tested with Student's t, or with the normal distribution.
        labels: dimensions, coordinates and names that came with x and y.
    """

    _fitted: Fitted
    ansatz: Ansatz | Features = static()
    labels: Labels = static(default=Labels())

    @property
    def params(self) -> Float[Array, "p *batch"]:
        """θ; for a line `intercept, slope = fit.params`."""
        return self._fitted.estimate.params

    @property
    def bse(self) -> Float[Array, "p *batch"]:
        """Standard errors of the params."""
        return self._fitted.estimate.bse

    @property
    def nobs(self) -> Int[Array, "*batch"]:
        """Number of valid observations."""
        return self._fitted.estimate.nobs

    @property
    def status(self) -> Int[Array, "*batch"]:
        """A `jaxreg.Status` code."""
        return self._fitted.estimate.status

    @property
    def digits(self) -> Int[Array, "*batch"]:
        """Number of correct decimal digits of every param, at most 7 in float32 and 15 in float64.

        Relative to the exact solution for the data in the dtype of y. A lower bound, not an estimate. 0 where
        there are no params, and for costs whose exact solution is not known. Subnormal numbers count as 0.
        """
        return self._fitted.estimate.digits

    @property
    def cov_type(self) -> str:
        """The kind of covariance that bse and tests use, such as "nonrobust" or "HC3"."""
        return self._fitted.cov_type

    @property
    def use_t(self) -> bool:
        """Whether params are tested with Student's t, or with the normal distribution."""
        return self._fitted.use_t

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
        intercept = ("intercept",) * self._fitted.ansatz.has_intercept
        columns = getattr(self.ansatz, "names", None) or self.labels.columns
        return (
            self.ansatz.param_names(self._fitted.p - len(intercept))
            if columns is None
            else (*intercept, *columns)
        )

    @property
    def df_resid(self) -> Int[Array, "*batch"]:
        """Residual degrees of freedom nobs − p, at least 0."""
        return self._fitted.df_resid

    @property
    def df_model(self) -> Int[Array, "*batch"]:
        """Number of params other than the constant."""
        return jnp.full_like(self.nobs, self._fitted.regressors)

    @property
    def cost(self) -> Float[Array, "*batch"]:
        """S(θ): the mean squared error, or the value of another cost."""
        return statistics.cost(self._fitted)

    @property
    def ssr(self) -> Float[Array, "*batch"]:
        """Sum of squared residuals Σ w ε(θ)², in units of y² (times weight)."""
        return statistics.ssr(self._fitted)

    @property
    def ess(self) -> Float[Array, "*batch"]:
        """Explained sum of squares: the reduction of ssr relative to the intercept-only model.

        Relative to y = 0 where there is no constant.
        """
        return statistics.ess(self._fitted)

    @property
    def scale(self) -> Float[Array, "*batch"]:
        """σ̂² = ssr / df_resid, the variance of an observation of weight 1."""
        return statistics.scale(self._fitted)

    @property
    def centered_tss(self) -> Float[Array, "*batch"]:
        """Σ w (y − ȳ)²."""
        return statistics.centered_tss(self._fitted)

    @property
    def uncentered_tss(self) -> Float[Array, "*batch"]:
        """Σ w y²."""
        return statistics.uncentered_tss(self._fitted)

    @property
    def rsquared(self) -> Float[Array, "*batch"]:
        """R² = ess / tss: the explained share of the variance, or of Σ w y² without a constant.

        NaN where there is no variance.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).rsquared)
        0.8526315...
        """
        return statistics.rsquared(self._fitted)

    @property
    def rsquared_adj(self) -> Float[Array, "*batch"]:
        """1 − (1 − R²) (nobs − 1) / df_resid; nobs itself without a constant."""
        return statistics.rsquared_adj(self._fitted)

    @property
    def tvalues(self) -> Float[Array, "p *batch"]:
        """params / bse."""
        return statistics.tvalues(self._fitted)

    @property
    def pvalues(self) -> Float[Array, "p *batch"]:
        """P(|T| > |t|) for θ = 0, T being Student's or, where `use_t` is False, normal.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).pvalues)
        [0.85857864 0.07661948]
        """
        return statistics.pvalues(self._fitted)

    @property
    def log10_pvalues(self) -> Float[Array, "p *batch"]:
        """log₁₀ of the p-values, which does not underflow where these do."""
        return statistics.log10_pvalues(self._fitted)

    @property
    def fvalue(self) -> Float[Array, "*batch"]:
        """The F statistic of all params but the constant; with a robust covariance that of an `f_test`.

        NaN where a robust covariance of these params is singular, such as one of fewer clusters than params.
        """
        return statistics.fvalue(self._fitted)

    @property
    def f_pvalue(self) -> Float[Array, "*batch"]:
        """P(F > fvalue)."""
        return statistics.f_pvalue(self._fitted)

    @property
    def llf(self) -> Float[Array, "*batch"]:
        """The log-likelihood −nobs/2 (log(2π ssr / nobs) + 1) + ½ Σ log w of normal errors."""
        return statistics.llf(self._fitted)

    @property
    def aic(self) -> Float[Array, "*batch"]:
        """Akaike's −2 llf + 2p."""
        return statistics.aic(self._fitted)

    @property
    def bic(self) -> Float[Array, "*batch"]:
        """Schwarz's −2 llf + p log nobs."""
        return statistics.bic(self._fitted)

    def conf_int(self, alpha: Any = 0.05) -> Float[Array, "2 p *batch"]:
        """(lower, upper) limits of the params with confidence 1 − alpha: `low, high = fit.conf_int()`."""
        return statistics.conf_int(self._fitted, alpha)

    def cov_params(self) -> Float[Array, "p p *batch"]:
        """The covariance of the params."""
        return statistics.cov_params(self._fitted)

    def t_test(self, contrast: Any, value: Any = 0.0) -> TTest:
        """Test cᵀθ = value, for every data set.

        Args:
            contrast: c, (p,), or (q, p) for q separate tests; or text with the names of the params, such as
                "x1 = x2" or "slope = 1" (needs formulaic, extra `frame`).
            value: the same for all data sets, a number, or (q,) for q tests.

        >>> from jaxreg import fit
        >>> line = fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0]))
        >>> print(line.t_test([1, 10]).effect)  # the line at x = 10
        8.89999...
        """
        return contrasts.t_test(self._fitted, self.names, contrast, value)

    def f_test(self, contrasts_: Any, value: Any = 0.0) -> FTest:
        """Test that C θ = value in all its rows: F = (Cθ − v)ᵀ (C cov Cᵀ)⁻¹ (Cθ − v) / q.

        NaN where C cov Cᵀ has no inverse. The rank of a robust covariance is at most that of its scores: the
        number of clusters, or of observations that are not fitted exactly.

        Args:
            contrasts_: C, (q, p), of independent rows; or text, as for `t_test`.
            value: the same for all data sets, a number, or (q,).

        >>> from jaxreg import fit
        >>> line = fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0]))
        >>> print(line.f_test([[0, 1]]).fvalue, line.fvalue)
        11.571428... 11.571428...
        """
        return contrasts.f_test(self._fitted, self.names, contrasts_, value)

    def compare(self, restricted: Fit) -> FTest:
        """Test this fit against a restricted one of the same data: F = Δssr / Δp / scale.

        Args:
            restricted: a fit of the same data sets with fewer params, such as a lower degree.

        Raises:
            TypeError: if it is not a fit.
            ValueError: if it does not have fewer params, is of other data, or if a covariance is robust: use
                `f_test` for these.

        Returns:
            `FTest`; NaN where the data sets have other observations, or where the restricted fit explains
            more: it is not a special case of this one.

        >>> from jaxreg import Polynomial, fit
        >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
        >>> print(fit(x, y, ansatz=Polynomial(2)).compare(fit(x, y)).pvalue)
        0.00785183...
        """
        if not isinstance(restricted, Fit):
            raise TypeError(f"compare takes the fit of fewer params, got {type(restricted).__name__}")
        return comparison.compare(self._fitted, restricted._fitted)

    def predict(
        self, x: Any, interval: str | None = None, alpha: Any = 0.05, weights: Any = None
    ) -> Array | Prediction:
        """f(θ, x) of every data set, and an interval around it; NaN where there are no params.

        Computed around the data, where no digit is lost to a large offset of x. Intervals of a fit with
        cluster errors and `use_t` are those of Student's t with groups − 1 degrees of freedom, as in its
        tests; statsmodels uses nobs − p there.

        Args:
            x: one number, (n,) for all data sets or (n, *batch) for each its own; where the ansatz
                takes vectors (n, k) or (n, k, *batch).
            interval: "confidence" for limits of f(θ, x), "prediction" for those of a new observation.
            alpha: 1 − the confidence.
            weights: of the new observations, 1 if omitted: a number, or of the shape of the result.

        Returns:
            (n, *batch) in units of y, (*batch) for one number; with an interval a `Prediction` of
            mean, lower and upper.

        >>> from jaxreg import fit
        >>> line = fit(np.arange(3.0), np.array([1.0, 3.0, 6.0]))
        >>> line.predict(np.array([10.0])).round(3).tolist()
        [25.833]
        >>> line.predict(1.0, "prediction").upper.round(3).tolist()
        9.323
        """
        _ = self.shape
        return prediction.predict(self._fitted, design(self.ansatz, x), interval, alpha, weights)

    def fittedvalues(self, x: Any) -> Float[Array, "n *batch"]:
        """f(θ, x) at the x of the fit, which a fit does not keep: `predict` by its statsmodels name."""
        return prediction.fittedvalues(self._fitted, design(self.ansatz, x))

    def resid(self, x: Any, y: Any) -> Float[Array, "n *batch"]:
        """Residuals y − f(θ, x) of the data that are passed, which a fit does not keep; NaN in gaps.

        >>> from jaxreg import fit
        >>> x, y = np.arange(3.0), np.array([1.0, 3.0, 6.0])
        >>> fit(x, y).resid(x, y).round(3).tolist()
        [0.167, -0.333, 0.167]
        """
        _ = self.shape
        return prediction.residuals(self._fitted, design(self.ansatz, x), y)

    def summary(self, alpha: float = 0.05) -> str:
        """A table: of one data set as statsmodels prints it, of a batch quantiles and counts.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).summary().splitlines()[-2])
        slope               0.9     0.2646      3.402    0.07662    -0.2384      2.038
        """
        self._need_values("summary")
        table = report.summary_of_batch if self.shape else report.summary_of_one
        return table(self._fitted, str(self.ansatz), self.names, alpha)

    def to_pandas(self, index: Any = None) -> Any:
        """A pandas table (extra `frame`): a row per param of one data set, or a row per data set of a batch.

        Args:
            index: labels of the rows; those that came with y if omitted.
        """
        self._need_values("to_pandas")
        return report.to_pandas(self._fitted, self.names, self.labels, index)

    def to_xarray(self, dims: tuple[str, ...] | str | None = None, coords: Any = None) -> Any:
        """An xarray Dataset (extra `xarray`) of params, errors, tests and goodness of fit.

        Args:
            dims: names of the axes of the data sets; those that came with y if omitted.
            coords: their coordinates, as xarray takes them; those that came with y if both are omitted.
        """
        self._need_values("to_xarray")
        return report.to_xarray(self._fitted, str(self.ansatz), self.names, self.labels, dims, coords)

    def save(self, path: str | Path) -> None:
        """Write the fit to an .npz file that `jaxreg.load` reads; written whole or not at all.

        Raises:
            ValueError: if the name does not end in .npz.
            TypeError: if the ansatz is not one of jaxreg's own; pass it to `load` then.
        """
        self._need_values("save")
        storage.save(Path(path), self._fitted, self.ansatz, self.labels)

    @classmethod
    def concatenate(cls, fits: Sequence[Fit], axis: int = -1) -> Fit:
        """One fit of the data sets of several, such as those of blocks that were fitted in turn.

        Args:
            fits: of one ansatz, covariance and dtype.
            axis: of the data sets along which they are joined.

        >>> from jaxreg import fit
        >>> x, y = np.arange(3.0), np.arange(12.0).reshape(3, 4)
        >>> Fit.concatenate([fit(x, y[:, :2]), fit(x, y[:, 2:])]).shape
        (4,)
        """
        if not fits or not all(isinstance(f, Fit) for f in fits):
            raise TypeError("concatenate takes a list of fits, not empty")
        if len({(f.ansatz, f.labels.columns) for f in fits}) > 1:
            raise ValueError("concatenate joins fits of one ansatz with the same names")
        joined = storage.concatenate([f._fitted for f in fits], len(fits[0].shape), axis)
        return cls(joined, fits[0].ansatz, Labels(columns=fits[0].labels.columns))

    def describe(self) -> str:
        """How many data sets ended in which status, with a sentence of advice for each.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(3.0), np.array([1.0, 3.0, 5.0])).describe())
        1 ok: fitted.
        """
        self._need_values("describe")
        return status.describe(self.status)

    def raise_for_status(self) -> Fit:
        """The fit itself if every data set was fitted.

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

        def at(leaf: Array) -> Array:
            xp: Any = np if isinstance(leaf, np.ndarray) else jnp  # which would copy a view of one entry
            if leaf.ndim == len(self.shape):
                return leaf[(*index, *others)]
            return xp.moveaxis(xp.moveaxis(leaf, 0, -1)[(*index, *others, slice(None))], -1, 0)

        fitted = in_own_precision(jax.tree.map)(at, self._fitted)
        return Fit(fitted, self.ansatz, self.labels.at(index, self.shape))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("this is the fit of a single data set; it has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Fit]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        params, end = self.params, self.status
        arrays = isinstance(params, jax.Array | np.ndarray) and isinstance(end, jax.Array | np.ndarray)
        if not arrays or params.shape[1:] != end.shape:
            return f"Fit(params={params!r}, …)"
        return report.short_repr(self._fitted, str(self.ansatz), self.names)


def load(path: str | Path, ansatz: Ansatz | Features | None = None) -> Fit:
    """The fit that `Fit.save` wrote; reads arrays and text, and never executes code from the file.

    Args:
        path: of the .npz file.
        ansatz: the ansatz of the fit, where it is not one of jaxreg's own.

    Raises:
        ValueError: if the file is not one of these, or of a newer version.

    >>> import tempfile
    >>> from jaxreg import fit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit(np.arange(3.0), np.array([1.0, 3.0, 5.0])).save(f"{folder}/line.npz")
    ...     print(load(f"{folder}/line.npz").params)
    [1. 2.]
    """
    return Fit(*storage.load(Path(path), ansatz))
