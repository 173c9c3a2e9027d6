"""`Fit`, the result of `fit`: the params of every data set and their inference."""

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
from jaxreg.ansatz import Ansatz, Features
from jaxreg.curves.curve import Curve
from jaxreg.data.checks import design_of
from jaxreg.data.labels import Labels, check_columns
from jaxreg.inference import comparison, contrasts, html, prediction, report, statistics, storage
from jaxreg.inference.comparison import LikelihoodRatioTest
from jaxreg.inference.contrasts import FTest, TTest
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.prediction import Prediction
from jaxreg.numerics.html import are_numbers
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree, static


@pytree
class Fit:
    """The result of `fit`: the params of every data set and their inference.

    Statistics have the names and numbers of statsmodels, and the data sets on their last axes: `(*batch)` is
    the shape of y without axis 0. A data set that could not be fitted has NaN, and a `status` that says why.

    Index a fit by data sets: `result[2]`, `result[2, 5]` in a grid, `result[2:5]` for several. A fit is a
    pytree, which passes through `jit`, `jax.tree.map`, and `vmap` with `out_axes=-1`.

    Attributes:
        params: θ, (p, *batch).
        bse: standard errors of the params, (p, *batch).
        nobs: number of valid observations, (*batch).
        status: `jaxreg.Status` codes, (*batch).
        digits: number of correct decimal digits of the least accurate param, (*batch).
        ansatz: the ansatz that was fitted.
        cov_type: name of the covariance of bse and tests, such as "nonrobust" or "HC3".
        use_t: whether params are tested with Student's t instead of the normal distribution.
        labels: dimensions and coordinates of y, and names of the columns of x.

    >>> from jaxreg import fit
    >>> result = fit(np.arange(3.0), np.array([[1.0, 0.0], [3.0, 1.0], [6.0, 4.0]]))  # two data sets
    >>> intercept, slope = result.params
    >>> print(slope, result[1].pvalues.round(3))
    [2.5 2. ] [0.732 0.179]
    """

    _fitted: Fitted
    ansatz: Ansatz | Features | Curve = static()
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
    def nobs(self) -> Int[Array, "*batch"] | Float[Array, "*batch"]:
        """Number of valid observations; Σ λ^age of a stream that forgets."""
        return self._fitted.estimate.nobs

    @property
    def status(self) -> Int[Array, "*batch"]:
        """`jaxreg.Status` codes, put in words by `describe`."""
        return self._fitted.estimate.status

    @property
    def digits(self) -> Int[Array, "*batch"]:
        """Number of correct decimal digits of every param, at most 7 in float32 and 15 in float64.

        A lower bound, not an estimate, of the agreement with the exact solution for the data in the dtype of
        y. On a TPU, whose float64 is a pair of float32, the relative error of an operation is taken as 2⁻⁴⁵.
        0 for data sets without params, and for costs other than the mean squared error. Subnormal params
        have 0 digits.
        """
        return self._fitted.estimate.digits

    @property
    def cov_type(self) -> str:
        """Name of the covariance of bse and tests, such as "nonrobust" or "HC3"."""
        return self._fitted.cov_type

    @property
    def use_t(self) -> bool:
        """Whether params are tested with Student's t instead of the normal distribution."""
        return self._fitted.use_t

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data sets, () for a single one."""
        if self.params.shape[1:] != self.status.shape:
            raise ValueError(
                f"params have shape {self.params.shape} and data sets {self.status.shape}; return a fit from "
                "vmap with out_axes=-1, which keeps the params on axis 0"
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
    def df_resid(self) -> Array:
        """Residual degrees of freedom nobs − p, at least 0; nobs − effective_dof of a ridge regression."""
        return statistics.df_resid(self._fitted)

    @property
    def effective_dof(self) -> Array:
        """Degrees of freedom of the fit: p, or the trace of the hat matrix of a ridge regression."""
        return statistics.effective_dof(self._fitted)

    @property
    def alpha(self) -> Float[Array, "*batch"]:
        """The strength of the penalty of a ridge regression, given or chosen; 0 for other costs."""
        return statistics.alpha(self._fitted)

    @property
    def df_model(self) -> Int[Array, "*batch"]:
        """Number of params other than the constant."""
        return jnp.full_like(self.nobs, self._fitted.regressors, dtype=jnp.int32)

    @property
    def cost(self) -> Float[Array, "*batch"]:
        """S(θ): the mean squared error in units of y², or the value of another cost."""
        return statistics.cost(self._fitted)

    @property
    def ssr(self) -> Float[Array, "*batch"]:
        """Sum of squared residuals Σ w ε(θ)², in units of y² (times weight)."""
        return statistics.ssr(self._fitted)

    @property
    def ess(self) -> Float[Array, "*batch"]:
        """Explained sum of squares: the reduction of ssr relative to the intercept-only model.

        Without a constant, the reduction relative to θ = 0.
        """
        return statistics.ess(self._fitted)

    @property
    def scale(self) -> Float[Array, "*batch"]:
        """σ̂² = ssr / df_resid, the variance of an observation of weight 1.

        For a robust cost the scale s of the residuals, not its square; for a likelihood the dispersion, which
        is 1 for shares and counts.
        """
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

        NaN if y is constant.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).rsquared)
        0.8526315...
        """
        return statistics.rsquared(self._fitted)

    @property
    def rsquared_adj(self) -> Float[Array, "*batch"]:
        """Adjusted R², 1 − (1 − R²) (nobs − 1) / df_resid; nobs in place of nobs − 1 without a constant."""
        return statistics.rsquared_adj(self._fitted)

    @property
    def tvalues(self) -> Float[Array, "p *batch"]:
        """t statistics params / bse, of the hypotheses θ = 0."""
        return statistics.tvalues(self._fitted)

    @property
    def pvalues(self) -> Float[Array, "p *batch"]:
        """Two-sided p-values P(|T| > |t|) of the hypotheses θ = 0.

        T has Student's distribution, or the normal one if `use_t` is False.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).pvalues)
        [0.85857864 0.07661948]
        """
        return statistics.pvalues(self._fitted)

    @property
    def log10_pvalues(self) -> Float[Array, "p *batch"]:
        """log₁₀ of the p-values; finite where the p-values underflow to 0."""
        return statistics.log10_pvalues(self._fitted)

    @property
    def fvalue(self) -> Float[Array, "*batch"]:
        """The F statistic of all params but the constant; with a robust covariance that of an `f_test`.

        NaN if a robust covariance of these params is singular, for example with fewer clusters than params.
        """
        return statistics.fvalue(self._fitted)

    @property
    def f_pvalue(self) -> Float[Array, "*batch"]:
        """The p-value of the F statistic, P(F > fvalue)."""
        return statistics.f_pvalue(self._fitted)

    @property
    def llf(self) -> Float[Array, "*batch"]:
        """Log-likelihood: for normal errors −nobs/2 (log(2π ssr / nobs) + 1) + ½ Σ log w.

        NaN for costs that are not likelihoods.
        """
        return statistics.llf(self._fitted)

    @property
    def deviance(self) -> Float[Array, "*batch"]:
        """Twice the log-likelihood of the saturated model minus that of the fit; NaN without a likelihood.

        >>> from jaxreg import Poisson, fit
        >>> print(fit(np.arange(4.0), np.array([1.0, 1.0, 4.0, 9.0]), cost=Poisson()).deviance.round(4))
        0.407
        """
        return statistics.deviance(self._fitted)

    @property
    def pearson_chi2(self) -> Float[Array, "*batch"]:
        """Pearson's χ², Σ w (y − μ)² / V(μ) with the variance V of a likelihood; NaN without one."""
        return statistics.pearson_chi2(self._fitted)

    @property
    def aic(self) -> Float[Array, "*batch"]:
        """Akaike's information criterion −2 llf + 2p."""
        return statistics.aic(self._fitted)

    @property
    def bic(self) -> Float[Array, "*batch"]:
        """Schwarz's (Bayesian) information criterion −2 llf + p log nobs."""
        return statistics.bic(self._fitted)

    def conf_int(self, alpha: Any = 0.05) -> Float[Array, "2 p *batch"]:
        """(lower, upper) limits of the params with confidence 1 − alpha: `low, high = result.conf_int()`.

        >>> from jaxreg import fit
        >>> low, high = fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).conf_int()
        >>> print(low.round(3), high.round(3))
        [-2.23  -0.238] [2.03  2.038]
        """
        return statistics.conf_int(self._fitted, alpha)

    def cov_params(self) -> Float[Array, "p p *batch"]:
        """The covariance matrix of the params, whose diagonal is bse².

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).cov_params().round(3))
        [[ 0.245 -0.105]
         [-0.105  0.07 ]]
        """
        return statistics.cov_params(self._fitted)

    def t_test(self, contrast: Any, value: Any = 0.0) -> TTest:
        """Test the hypothesis cᵀθ = value in every data set: t = (cᵀθ − value) / √(cᵀ cov c).

        Args:
            contrast: c, (p,), or (q, p) for q separate tests; or text with the names of the params, such as
                "x1 = x2" or "slope = 1" (needs formulaic, extra `frame`).
            value: a number, or (q,) for q tests; the same for all data sets.

        Returns:
            `TTest` with fields of shape (*batch), or (q, *batch) for q tests.

        Raises:
            ValueError: if the shape is another one, a row is all 0 or not finite, or a name is unknown.

        >>> from jaxreg import fit
        >>> line = fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0]))
        >>> print(line.t_test([1, 10]).effect)  # the line at x = 10
        8.89999...
        """
        return contrasts.t_test(self._fitted, self.names, contrast, value)

    def f_test(self, contrasts_: Any, value: Any = 0.0) -> FTest:
        """Test the joint hypothesis C θ = v: F = (Cθ − v)ᵀ (C cov Cᵀ)⁻¹ (Cθ − v) / q.

        NaN if C cov Cᵀ is singular. The rank of a robust covariance is at most the number of clusters, or of
        observations with a residual other than 0.

        Args:
            contrasts_: C, (q, p), with linearly independent rows; or text, as for `t_test`.
            value: v, a number or (q,); the same for all data sets.

        Returns:
            `FTest` with fields of shape (*batch).

        Raises:
            ValueError: if rows are linearly dependent, or as for `t_test`.

        >>> from jaxreg import fit
        >>> line = fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0]))
        >>> print(line.f_test([[0, 1]]).fvalue, line.fvalue)
        11.571428... 11.571428...
        """
        return contrasts.f_test(self._fitted, self.names, contrasts_, value)

    def compare(self, restricted: Fit) -> FTest | LikelihoodRatioTest:
        """Test this fit against a restricted fit of the same data: F = Δssr / Δp / scale.

        For a likelihood the statistic is 2 Δllf, whose distribution is χ² with Δp degrees of freedom.

        Args:
            restricted: a fit of the same data with fewer params, such as a polynomial of lower degree.

        Returns:
            `FTest` or `LikelihoodRatioTest` with fields of shape (*batch); NaN for data sets with another
            number of observations in the restricted fit, or where its ssr is smaller or its llf larger: then
            it is not a special case of this fit.

        Raises:
            TypeError: if `restricted` is not a fit.
            ValueError: if it does not have fewer params or is a fit of other data; or if a covariance or the
                cost is robust, for which there is `f_test`.

        >>> from jaxreg import Polynomial, fit
        >>> x, y = np.arange(6.0), np.array([0.0, 1.0, 1.0, 3.0, 7.0, 12.0])
        >>> print(fit(x, y, ansatz=Polynomial(2)).compare(fit(x, y)).pvalue)
        0.00785183...
        """
        if not isinstance(restricted, Fit):
            raise TypeError(f"compare takes a Fit with fewer params, got {type(restricted).__name__}")
        return comparison.compare(self._fitted, restricted._fitted)

    def predict(
        self,
        x: Any,
        interval: str | None = None,
        alpha: Any = 0.05,
        weights: Any = None,
        offset: Any = 0.0,
    ) -> Array | Prediction:
        """f(θ, x) for every data set, optionally with an interval; NaN for data sets without params.

        For a cost with a link the mean of y, such as e^f for `Poisson`; the limits are those of f, mapped in
        the same way.

        It is computed in the centered basis of the fit, where large offsets of x cost no digits. With
        `Cluster` errors and `use_t`, intervals use Student's t with G − 1 degrees of freedom for G groups, as
        do the tests; statsmodels uses nobs − p for intervals.

        Args:
            x: a number, (n,), shared by all data sets, or (n, *batch); (n, k) or (n, k, *batch) for an ansatz
                of vectors.
            interval: "confidence" for an interval of f(θ, x), "prediction" for one of a new observation.
            alpha: 1 − the confidence.
            weights: of the new observations, 1 if omitted: a number, or of the shape of the result.
            offset: added to f, as in `fit`: a number, or an array that broadcasts against the result. It is
                the logarithm of an exposure.

        Returns:
            (n, *batch) in units of y, or (*batch) if x is a number; with an interval a `Prediction` of mean,
            lower and upper.

        Raises:
            ValueError: if x has another shape, or is a DataFrame with other columns than that of the fit, or
                an option has another value.

        >>> from jaxreg import fit
        >>> line = fit(np.arange(3.0), np.array([1.0, 3.0, 6.0]))
        >>> line.predict(np.array([10.0])).round(3).tolist()
        [25.833]
        >>> line.predict(1.0, "prediction").upper.round(3).tolist()
        9.323
        """
        _ = self.shape
        return prediction.predict(self._fitted, self._design(x), interval, alpha, weights, offset)

    def fittedvalues(self, x: Any) -> Float[Array, "n *batch"]:
        """f(θ, x), the same as `predict(x)`. Pass the x of the fit, which a `Fit` does not store.

        >>> from jaxreg import fit
        >>> x, y = np.arange(3.0), np.array([1.0, 3.0, 6.0])
        >>> fit(x, y).fittedvalues(x).round(3).tolist()
        [0.833, 3.333, 5.833]
        """
        _ = self.shape
        return prediction.fittedvalues(self._fitted, self._design(x))

    def resid(self, x: Any, y: Any) -> Float[Array, "n *batch"]:
        """Residuals y − f(θ, x), NaN in gaps. Pass the data of the fit, which a `Fit` does not store.

        Args:
            x: as for `predict`.
            y: (n, *batch).

        Returns:
            (n, *batch) in units of y.

        >>> from jaxreg import fit
        >>> x, y = np.arange(3.0), np.array([1.0, 3.0, 6.0])
        >>> fit(x, y).resid(x, y).round(3).tolist()
        [0.167, -0.333, 0.167]
        """
        _ = self.shape
        return prediction.residuals(self._fitted, self._design(x), y)

    def summary(self, alpha: float = 0.05) -> str:
        """A table as text: of one data set in the layout of statsmodels, of a batch quantiles and counts.

        Args:
            alpha: 1 − the confidence of the intervals; for a batch, the level of significance.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(4.0), np.array([0.0, 1.0, 1.0, 3.0])).summary().splitlines()[-2])
        slope               0.9     0.2646      3.402    0.07662    -0.2384      2.038
        """
        self._need_values("summary")
        table = report.summary_of_batch if self.shape else report.summary_of_one
        return table(self._fitted, str(self.ansatz), self.names, alpha)

    def to_pandas(self, index: Any = None) -> Any:
        """A pandas DataFrame (extra `frame`): a row per param of one data set, or per data set of a batch.

        Args:
            index: labels of the rows; the coordinates of y if omitted.

        >>> from jaxreg import fit
        >>> result = fit(np.arange(3.0), np.array([[1.0, 0.0], [3.0, 1.0], [6.0, 4.0]]))
        >>> print(result.to_pandas(["left", "right"])[["slope", "slope_bse", "nobs"]].round(3))
               slope  slope_bse  nobs
        left     2.5      0.289     3
        right    2.0      0.577     3
        """
        self._need_values("to_pandas")
        return report.to_pandas(self._fitted, self.names, self.labels, index)

    def to_xarray(self, dims: tuple[str, ...] | str | None = None, coords: Any = None) -> Any:
        """An xarray Dataset (extra `xarray`) of params, errors, tests and goodness of fit.

        Args:
            dims: names of the axes of the data sets; the dimensions of y if omitted.
            coords: their coordinates, as xarray takes them; those of y if both arguments are omitted.

        Raises:
            ValueError: if the number of names is not that of the axes.

        >>> from jaxreg import fit
        >>> result = fit(np.arange(3.0), np.array([[1.0, 0.0], [3.0, 1.0], [6.0, 4.0]]))
        >>> result.to_xarray("station", {"station": ["a", "b"]}).slope.sel(station="b").item()
        2.0
        """
        self._need_values("to_xarray")
        return report.to_xarray(self._fitted, str(self.ansatz), self.names, self.labels, dims, coords)

    def save(self, path: str | Path) -> None:
        """Write the fit to an .npz file, which `jaxreg.load` reads; a failed write leaves no incomplete file.

        An ansatz that holds code, such as `Features`, is not saved; pass it to `load`.

        Args:
            path: ends in .npz.

        Raises:
            ValueError: if the path does not end in .npz.
        """
        self._need_values("save")
        storage.save(Path(path), self._fitted, self.ansatz, self.labels)

    @classmethod
    def concatenate(cls, fits: Sequence[Fit], axis: int = -1) -> Fit:
        """Concatenate fits of different data sets to one fit, for example of blocks fitted one after another.

        Dimensions of y are kept, with the coordinates that all fits have.

        Args:
            fits: of one ansatz, covariance and dtype.
            axis: the batch axis along which they are concatenated.

        Raises:
            TypeError: if `fits` is empty or holds something else.
            ValueError: if ansatz, covariance or dtype differ, or there is no such axis.

        >>> from jaxreg import fit
        >>> x, y = np.arange(3.0), np.arange(12.0).reshape(3, 4)
        >>> Fit.concatenate([fit(x, y[:, :2]), fit(x, y[:, 2:])]).shape
        (4,)
        """
        if not fits or not all(isinstance(f, Fit) for f in fits):
            raise TypeError("concatenate takes a list of fits that is not empty")
        if len({(f.ansatz, f.labels.columns) for f in fits}) > 1:
            raise ValueError("concatenate takes fits of one ansatz, with the same names")
        fitted = storage.concatenate([f._fitted for f in fits], len(fits[0].shape), axis)
        return cls(fitted, fits[0].ansatz, Labels.concatenated([f.labels for f in fits], axis))

    def describe(self) -> str:
        """The number of data sets with each status, with a sentence that explains it.

        >>> from jaxreg import fit
        >>> print(fit(np.arange(3.0), np.array([1.0, 3.0, 5.0])).describe())
        1 ok: fitted.
        """
        self._need_values("describe")
        return status.describe(self.status)

    def raise_for_status(self) -> Fit:
        """Return the fit itself if every data set was fitted, and raise an error otherwise.

        Raises:
            FitError: if a data set has a status other than `ok` and `exact_fit`; says how many, which, why.

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

    def _design(self, x: Any) -> Any:
        """New x as the compiled ansatz takes it; a data frame must have the columns of the fit."""
        check_columns(self.labels.columns, x)
        return design_of(self.ansatz, x)

    def _need_values(self, name: str) -> None:
        if isinstance(self.status, Tracer):
            raise TypeError(
                f"{name} needs concrete values; there are none under jit or vmap: use `status` there"
            )

    def __getitem__(self, index: Any) -> Fit:
        if not self.shape:
            raise TypeError("this is the fit of a single data set, which has no axis to index")
        index = index if isinstance(index, tuple) else (index,)
        remaining_axes = () if any(i is Ellipsis for i in index) else (...,)
        if not any(isinstance(i, Tracer) for i in index):
            np.broadcast_to(False, self.shape)[index]  # raises IndexError, where JAX would clamp the index

        def at(leaf: Array) -> Array:
            xp: Any = np if isinstance(leaf, np.ndarray) else jnp  # jnp would copy a view of a NumPy array
            if leaf.ndim == len(self.shape):
                return leaf[(*index, *remaining_axes)]
            return xp.moveaxis(xp.moveaxis(leaf, 0, -1)[(*index, *remaining_axes, slice(None))], -1, 0)

        fitted = in_own_precision(jax.tree.map)(at, self._fitted)
        return Fit(fitted, self.ansatz, self.labels.at(index, len(self.shape)))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("this is the fit of a single data set, which has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Fit]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        params, codes = self.params, self.status
        are_arrays = all(isinstance(a, jax.Array | np.ndarray) for a in (params, codes))
        if not are_arrays or params.shape[1:] != codes.shape:  # leaves that jax.tree.map or vmap has changed
            return f"Fit(params={params!r}, …)"
        return report.short_repr(self._fitted, str(self.ansatz), self.names)

    def _repr_html_(self) -> str | None:
        """A table for notebooks; None, for which they show the text, if there are no values."""
        e = self._fitted.estimate
        leaves = (e.params, e.bse, e.nobs, e.status, *jax.tree.leaves(self))
        is_whole = are_numbers(*leaves) and e.params.shape[1:] == e.status.shape
        return html.table_of_fit(self._fitted, str(self.ansatz), self.names) if is_whole else None


def load(path: str | Path, ansatz: Ansatz | Features | Curve | None = None) -> Fit:
    """Load a fit that was written by `Fit.save`; never executes code from the file.

    Args:
        path: of the .npz file.
        ansatz: the ansatz of the fit if it holds code, such as `Features`; otherwise it is in the file.

    Returns:
        The `Fit`, equal to the saved one, with NumPy arrays.

    Raises:
        ValueError: if the file was not written by `Fit.save`, or by a newer version of it, or if it needs an
            ansatz.

    >>> import tempfile
    >>> from jaxreg import fit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit(np.arange(3.0), np.array([1.0, 3.0, 5.0])).save(f"{folder}/line.npz")
    ...     print(load(f"{folder}/line.npz").params)
    [1. 2.]
    """
    return Fit(*storage.load(Path(path), ansatz))
