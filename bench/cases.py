"""The cases: data, jaxreg, one read of the data (the limit) and other libraries; targets are ratios."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench import faces, peers
from bench.compilation import Compiled, compilation
from bench.devices import Launched, can_compile
from bench.measure import Ratio, Row, Runner, at_most, compare, last_line_of, lines_of
from jaxreg import (
    HAC,
    Association,
    ClosedForm,
    GradientDescent,
    Huber,
    Linear,
    Logistic,
    Quantile,
    Ridge,
    associate,
    fit,
    gaussian_peak,
)

CHECKED = 300  # data sets whose params are compared with those of float64
GAPS = 0.1

NUMPY_PRODUCT = "NumPy's XᵀY"
NORMAL_EQUATIONS = "numpy normal equations"
PLAIN_DESCENT = "jit(vmap(scan(grad)))"
FROM_NUMPY = "jaxreg, NumPy arrays in"
WITHIN_TWO_READS = ("jaxreg", "limit", 2.0)
NUMPY_IN = (FROM_NUMPY, "jaxreg", 1.5)

read_one = jax.jit(lambda a: jnp.sum(a * a))
read_two = jax.jit(lambda a, b: jnp.sum(a * b))


def lines(n: int, m: int, *, gaps: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A shared x, an x for each data set, and noisy lines in float32: on the shared x if with gaps."""
    rng = np.random.default_rng(seed)
    shared = np.linspace(-1, 2, n, dtype="f4")
    own = rng.standard_normal((n, m), dtype="f4")
    y = rng.standard_normal((n, m), dtype="f4") + 1 + (shared[:, None] if gaps else own)
    if gaps:
        y[rng.random((n, m), dtype="f4") < GAPS] = np.nan
    return shared, own, y


def exact(
    design: Callable[[int], np.ndarray], y: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Least squares of the first data sets in float64."""
    params = []
    for i in range(min(CHECKED, y.shape[1])):
        root = 1.0 if weights is None else np.sqrt(weights[:, i].astype("f8"))
        X, b = (design(i).astype("f8").T * root).T, y[:, i].astype("f8") * root
        valid = ~np.isnan(b)
        params.append(np.linalg.lstsq(X[valid], b[valid], rcond=None)[0])
    return np.stack(params, axis=1)


def line_design(x: np.ndarray) -> Callable[[int], np.ndarray]:
    """The design matrix (1, x) of data set i."""
    return lambda i: np.stack([np.ones(len(x)), x if x.ndim == 1 else x[:, i]], axis=1)


def ours(m: int, *args: Any, **options: Any) -> Runner:
    """`fit` of arrays on the device."""
    return Runner("jaxreg", lambda: fit(*args, **options), m, lambda result: result.params)


def numpy_in(m: int, x: np.ndarray, y: np.ndarray) -> Runner:
    """`fit` of NumPy arrays."""
    return Runner(FROM_NUMPY, lambda: fit(x, y), m, lambda result: result.params)


def limit(m: int, *arrays: Any) -> Runner:
    """One read of the same arrays."""
    return Runner("limit", lambda: read_one(*arrays) if len(arrays) == 1 else read_two(*arrays), m)


def peer(method: str, run: Callable[[], Any], fits: int) -> Runner:
    """A method whose call returns the params."""
    return Runner(method, run, fits, lambda params: params)


def shared_x(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """No gaps: ≤ 2 × the limit; NumPy arrays in ≤ 1.5 × arrays on the device."""
    n, m = 300, int(250_000 * scale)
    x, y = lines(n, m)[::2]
    on_device = jnp.asarray(y)
    runners = [limit(m, on_device), ours(m, jnp.asarray(x), on_device)]
    if on_cpu:
        runners += [numpy_in(m, x, y), peer("numpy centered", lambda: peers.numpy_centered(x[:, None], y), m)]
    rows = compare("shared x", runners, exact(line_design(x), y))
    return at_most(rows, WITHIN_TWO_READS, NUMPY_IN)


def own_x(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """≤ 2 × the limit; NumPy arrays in ≤ 1.5 × arrays on the device."""
    n, m = 256, int(65_536 * scale)
    _, x, y = lines(n, m)
    on_device = jnp.asarray(x), jnp.asarray(y)
    runners = [limit(m, *on_device), ours(m, *on_device)]
    if on_cpu:
        design = np.stack([np.ones_like(x.T), x.T], axis=2)
        runners += [
            numpy_in(m, x, y),
            peer("numpy centered", lambda: peers.numpy_centered(x, y), m),
            peer("scipy loop", peers.looped(peers.scipy_line, x, y), peers.LOOP),
            peer("statsmodels loop", peers.looped(peers.statsmodels_line, x, y), peers.LOOP),
        ]
        if peers.are_installed("torch"):
            runners += [
                peer("torch centered", peers.torch_centered(x, y), m),
                peer("torch.linalg.lstsq", peers.torch_lstsq(design, y), m),
            ]
        if peers.are_installed("lineax"):
            runners.append(peer("lineax QR vmap", peers.lineax_qr(design, y), m))
        if peers.are_installed("polars"):
            runners.append(peer("polars group_by", peers.polars_lines(x, y), m))
    rows = compare("own x", runners, exact(line_design(x), y))
    return at_most(rows, WITHIN_TWO_READS, NUMPY_IN)


def gaps(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """≤ 5.5 × the limit, ≥ 100 × faster than xarray; NumPy arrays in ≤ 1.5 × arrays on the device."""
    n, m = 300, int(250_000 * scale)
    x, _, y = lines(n, m, gaps=True)
    on_device = jnp.asarray(y)
    runners = [limit(m, on_device), ours(m, jnp.asarray(x), on_device)]
    if on_cpu:
        subset = y[:, : max(2_000, m // 100)]
        runners += [
            numpy_in(m, x, y),
            peer("numpy masked", lambda: peers.numpy_lines(x, y), m),
            peer("xarray.polyfit", peers.xarray_polyfit(x, subset), subset.shape[1]),
        ]
        if peers.are_installed("sklearn"):
            runners.append(peer("scikit-learn loop", peers.looped(peers.sklearn_line, x, y), peers.LOOP))
    rows = compare("gaps", runners, exact(line_design(x), y))
    return at_most(rows, ("jaxreg", "limit", 5.5), ("jaxreg", "xarray.polyfit", 0.01), NUMPY_IN)


def weights(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """≤ 4 × the limit over both arrays."""
    n, m = 300, int(65_536 * scale)
    x, _, y = lines(n, m, gaps=True)
    w = np.random.default_rng(1).uniform(0.5, 2, (n, m)).astype("f4")
    on_device = jnp.asarray(y), jnp.asarray(w)
    runners = [limit(m, *on_device), ours(m, jnp.asarray(x), on_device[0], weights=on_device[1])]
    if on_cpu:

        def loop() -> np.ndarray:
            params = []
            for i in range(peers.LOOP):
                valid = ~np.isnan(y[:, i])
                params.append(np.polyfit(x[valid], y[valid, i], 1, w=np.sqrt(w[valid, i]))[::-1])
            return np.stack(params, axis=1)

        runners.append(peer("np.polyfit loop", loop, peers.LOOP))
    rows = compare("weights", runners, exact(line_design(x), y, w))
    return at_most(rows, ("jaxreg", "limit", 4.0))


def squared(params: Any, x: Any, y: Any) -> Any:
    """The mean squared error of a line without gaps."""
    return jnp.mean((y - params[0] - params[1] * x) ** 2)


def descent(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """1,000 steps of gradient descent ≤ 1.5 × the closed form on the same data."""
    n, m, steps, rate = 200, int(65_536 * scale), 1000, 0.1
    _, x, y = lines(n, m)
    on_device = jnp.asarray(x), jnp.asarray(y)
    solver = GradientDescent(steps=steps, learning_rate=rate)
    closed = Runner("closed form", lambda: fit(*on_device), m, lambda result: result.params)
    runners = [limit(m, *on_device), ours(m, *on_device, solver=solver), closed]
    subset_size = max(256, m // 32)
    subset = jnp.asarray(x[:, :subset_size]), jnp.asarray(y[:, :subset_size])
    naive = peers.vmapped_descent(squared, rate, steps)
    runners.append(peer(PLAIN_DESCENT, lambda: naive(*subset), subset_size))
    if peers.are_installed("jaxopt"):
        import jaxopt

        optimizer = jaxopt.GradientDescent(squared, maxiter=steps, stepsize=rate, acceleration=False, tol=0)
        one = partial(optimizer.run, jnp.zeros(2))
        mapped = jax.jit(jax.vmap(lambda x, y: one(x, y).params, in_axes=1, out_axes=1))
        runners.append(peer("jaxopt", lambda: mapped(*subset), subset_size))
    if on_cpu and peers.are_installed("torch"):
        runners.append(
            peer(
                "torch loop",
                peers.torch_descent(x[:, :subset_size], y[:, :subset_size], rate, steps),
                subset_size,
            )
        )
    return at_most(compare("descent", runners, exact(line_design(x), y)), ("jaxreg", "closed form", 1.5))


def pseudo_huber(params: Any, x: Any, y: Any, weights: Any = None, *, ansatz: Any) -> Any:
    """A user's cost."""
    residual = y - ansatz.predict(params, x)
    return jnp.mean(jnp.sqrt(1 + residual**2) - 1)


def plain_huber(params: Any, x: Any, y: Any) -> Any:
    """The same cost for jit(vmap(scan(grad)))."""
    return jnp.mean(jnp.sqrt(1 + (y - params[0] - params[1] * x) ** 2) - 1)


def user_cost(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """100 steps with a user's cost ≤ 0.5 × jit(vmap(scan(grad))), and within jit ≤ 1 ×."""
    n, m, steps, rate = 200, int(65_536 * scale), 100, 0.5
    _, x, y = lines(n, m)
    on_device = jnp.asarray(x), jnp.asarray(y)
    naive = peers.vmapped_descent(plain_huber, rate, steps)
    fixed = GradientDescent(optax.sgd, learning_rate=rate, steps=steps)
    compiled = jax.jit(lambda x, y: fit(x, y, cost=pseudo_huber, solver=fixed).params)
    stopped = GradientDescent(optax.sgd, learning_rate=rate, steps=steps, tol=1e-4)
    runners = [
        limit(m, *on_device),
        ours(m, *on_device, cost=pseudo_huber, solver=fixed),
        peer("jaxreg under jit", lambda: compiled(*on_device), m),
        Runner("jaxreg, tol=1e-4", lambda: fit(*on_device, cost=pseudo_huber, solver=stopped), m),
        peer(PLAIN_DESCENT, lambda: naive(*on_device), m),
    ]
    with jax.enable_x64(True):
        subset = (jnp.asarray(a[:, :CHECKED], jnp.float64) for a in (x, y))
        reference = np.asarray(peers.vmapped_descent(plain_huber, rate, 10 * steps)(*subset))
    rows = compare("user's cost", runners, reference)
    return at_most(rows, ("jaxreg", PLAIN_DESCENT, 0.5), ("jaxreg under jit", PLAIN_DESCENT, 1.0))


def robust(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Huber's cost with gaps: ≤ 1/300 × a loop of statsmodels' RLM."""
    n, m = 100, int(100_000 * scale)
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 2, n, dtype="f4")
    y = (1 + x[:, None] + rng.standard_t(2, size=(n, m))).astype("f4")
    y[rng.random(y.shape) < GAPS] = np.nan
    on_device = jnp.asarray(y)
    runners = [limit(m, on_device), ours(m, jnp.asarray(x), on_device, cost=Huber())]
    reference = None
    if on_cpu:
        loop = peers.looped(peers.statsmodels_huber, x, y)
        runners.append(peer("statsmodels RLM loop", loop, peers.LOOP))
        reference = loop()
    rows = compare("Huber, gaps", runners, reference)
    return at_most(rows, ("jaxreg", "statsmodels RLM loop", 1 / 300))


def logistic(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """p = 4: ≤ 1/200 × a loop of statsmodels' Logit, ≤ 1/20 × one of scikit-learn."""
    n, m = 200, int(50_000 * scale)
    rng = np.random.default_rng(0)
    X, beta = rng.standard_normal((n, 3), dtype="f4"), 0.7 * rng.standard_normal((3, m), dtype="f4")
    y = (rng.random((n, m)) < 1 / (1 + np.exp(-X @ beta))).astype("f4")
    X_device, on_device = jnp.asarray(X), jnp.asarray(y)
    runners = [limit(m, on_device), ours(m, X_device, on_device, ansatz=Linear(), cost=Logistic())]
    reference = None
    if on_cpu:
        loop = peers.looped(peers.statsmodels_logit, X, y)
        runners.append(peer("statsmodels Logit loop", loop, peers.LOOP))
        reference = loop()
        if peers.are_installed("sklearn"):
            runners.append(peer("scikit-learn loop", peers.looped(peers.sklearn_logistic, X, y), peers.LOOP))
    rows = compare("logistic, p = 4", runners, reference)
    targets = [("jaxreg", "statsmodels Logit loop", 1 / 200), ("jaxreg", "scikit-learn loop", 1 / 20)]
    return at_most(rows, *targets)


def quantile(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """A line with gaps: ≤ 1/50 × a loop of statsmodels' QuantReg. At 0.5 the params would not be unique."""
    n, m = 100, int(20_000 * scale)
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 2, n)
    y = 1 + x[:, None] + rng.standard_t(2, size=(n, m))
    y[rng.random(y.shape) < GAPS] = np.nan
    with jax.enable_x64(True):
        on_device = jnp.asarray(y)
        runners = [limit(m, on_device), ours(m, jnp.asarray(x), on_device, cost=Quantile(peers.Q))]
        reference = None
        if on_cpu:
            runners.append(
                peer("statsmodels QuantReg loop", peers.looped(peers.statsmodels_quantile, x, y), peers.LOOP)
            )
            loop = peers.looped(peers.scipy_quantile, x, y)
            runners.append(peer("scipy linprog loop", loop, peers.LOOP))
            reference = loop()
        rows = compare("quantile 0.37, gaps", runners, reference)
    return at_most(rows, ("jaxreg", "statsmodels QuantReg loop", 1 / 50))


def peaks(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Gaussian peaks of 50 points: ≤ 1/50 × a loop of curve_fit, ≤ 1/5 × jit(vmap(optimistix))."""
    n, m = 50, int(100_000 * scale)
    rng = np.random.default_rng(0)
    x = np.linspace(0, 10, n)
    background, height = rng.uniform(0, 2, m), rng.uniform(3, 10, m)
    center, width = rng.uniform(3, 7, m), rng.uniform(0.5, 1.5, m)
    y = background + height * np.exp(-((x[:, None] - center) ** 2) / (2 * width**2))
    y += 0.3 * rng.standard_normal((n, m))
    with jax.enable_x64(True):
        on_device = jnp.asarray(y)
        runners = [limit(m, on_device), ours(m, x, on_device, ansatz=gaussian_peak)]
        reference = None
        if on_cpu:
            loop = peers.looped(peers.scipy_peak, x, y)
            runners.append(peer("scipy curve_fit loop", loop, peers.LOOP))
            reference = loop()
            if peers.are_installed("optimistix"):
                solve, few = peers.optimistix_peaks(x), on_device[:, : m // 20]
                runners.append(peer("jit(vmap(optimistix LM))", lambda: solve(few), few.shape[1]))
        rows = compare("Gaussian peaks, n = 50", runners, reference)
    targets = [("jaxreg", "scipy curve_fit loop", 1 / 50), ("jaxreg", "jit(vmap(optimistix LM))", 1 / 5)]
    return at_most(rows, *targets)


def ridge(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """A shared design, p = 32, 20 alphas: by GCV ≤ 1/20 × RidgeCV."""
    n, k, m = 200, 32, int(50_000 * scale)
    rng = np.random.default_rng(0)
    X, alphas = rng.standard_normal((n, k)), np.logspace(-2, 4, 20)
    y = X @ (0.3 * rng.standard_normal((k, m))) + 3 * rng.standard_normal((n, m))
    with jax.enable_x64(True):
        X_device, on_device = jnp.asarray(X), jnp.asarray(y)
        ours_by = partial(fit, X_device, on_device, ansatz=Linear())
        by_gcv, by_loo = (partial(ours_by, cost=Ridge.choose(alphas, by)) for by in ("gcv", "loo"))
        runners = [
            limit(m, on_device),
            Runner("jaxreg", by_gcv, m),
            Runner("jaxreg, leaving one out", by_loo, m, lambda result: result.params),
        ]
        reference = None
        if on_cpu and peers.are_installed("sklearn"):
            run = partial(peers.sklearn_ridge, X, y, alphas)
            runners.append(peer("scikit-learn RidgeCV", run, m))
            reference = run()[:, :CHECKED]
        rows = compare("ridge, 20 alphas, p = 32", runners, reference)
    return at_most(rows, ("jaxreg", "scikit-learn RidgeCV", 1 / 20))


def design_shared(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """No gaps: ≤ 3 × the product XᵀY in NumPy."""
    n, m, p = 2000, int(50_000 * scale), 32
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p), dtype="f4")
    Y = rng.standard_normal((n, m), dtype="f4") + X[:, :1]
    X_device, Y_device = jnp.asarray(X), jnp.asarray(Y)
    product = jax.jit(partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    runners = [
        limit(m, Y_device),
        Runner(
            "jaxreg", lambda: fit(X_device, Y_device, ansatz=Linear(False)), m, lambda result: result.params
        ),
        Runner("the product XᵀY", lambda: product(X_device.T, Y_device), m),
    ]
    if on_cpu:
        runners += [
            Runner(NUMPY_PRODUCT, lambda: X.T @ Y, m),
            peer("np.linalg.lstsq", lambda: peers.numpy_lstsq(X, Y), m),
        ]
        if peers.are_installed("sklearn"):
            from sklearn.linear_model import LinearRegression

            model = LinearRegression(fit_intercept=False)
            runners.append(peer("scikit-learn", lambda: model.fit(X, Y).coef_.T, m))
    rows = compare("shared design, p = 32", runners, exact(lambda i: X, Y))
    return at_most(rows, ("jaxreg", NUMPY_PRODUCT, 3.0))


def design_gaps(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """≤ 0.7 × NumPy's normal equations, gaps filled with zeros; ≥ 50 × faster than a loop of lstsq."""
    n, m, p = 300, int(100_000 * scale), 8
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p), dtype="f4")
    y = rng.standard_normal((n, m), dtype="f4") + X[:, :1]
    y[rng.random((n, m), dtype="f4") < GAPS] = np.nan
    X_device, y_device = jnp.asarray(X), jnp.asarray(y)
    runners = [limit(m, y_device), ours(m, X_device, y_device, ansatz=Linear(False))]
    if on_cpu:
        subset = y[:, : max(512, m // 50)]

        def normal_equations() -> np.ndarray:
            valid = ~np.isnan(subset)
            A = np.einsum("ni,nm,nj->mij", X, valid.astype("f4"), X, optimize=True)
            b = X.T @ np.where(valid, subset, 0)
            return np.linalg.solve(A, b.T[..., None])[..., 0].T

        runners += [
            peer("np.linalg.lstsq loop", peers.looped(peers.numpy_lstsq, X, y), peers.LOOP),
            peer(NORMAL_EQUATIONS, normal_equations, subset.shape[1]),
        ]
    rows = compare("shared design, p = 8, gaps", runners, exact(lambda i: X, y))
    return at_most(rows, ("jaxreg", NORMAL_EQUATIONS, 0.7), ("jaxreg", "np.linalg.lstsq loop", 0.02))


def design_own(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """≤ 0.7 × NumPy's normal equations, ≥ 3 × faster than torch.linalg.lstsq."""
    n, m, p = 100, int(100_000 * scale), 4
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p, m), dtype="f4")
    y = rng.standard_normal((n, m), dtype="f4") + X[:, 0]
    on_device = jnp.asarray(X), jnp.asarray(y)
    runners = [
        Runner("limit", lambda: read_one(on_device[0]) + read_one(on_device[1]), m),
        ours(m, *on_device, ansatz=Linear(False)),
    ]
    if on_cpu:
        design = np.ascontiguousarray(X.transpose(2, 0, 1))
        runners.append(peer(NORMAL_EQUATIONS, peers.numpy_solve(design, y), m))
        if peers.are_installed("torch"):
            runners.append(peer("torch.linalg.lstsq", peers.torch_lstsq(design, y), m))
        if peers.are_installed("lineax"):
            runners.append(peer("lineax QR vmap", peers.lineax_qr(design, y), m))
    rows = compare("own design, p = 4", runners, exact(lambda i: X[..., i], y))
    return at_most(rows, ("jaxreg", NORMAL_EQUATIONS, 0.7), ("jaxreg", "torch.linalg.lstsq", 1 / 3))


def every_pair(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Every y on every x with 10 covariates, n = 500: ≤ 2 × NumPy's product XᵀY; a time per pair."""
    n, k, m = 500, 20_000, int(10_000 * scale)
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((n, columns), dtype="f4") for columns in (k, m))
    covariates = rng.standard_normal((n, 10))
    y[:, :CHECKED] += 0.5 * x[:, :CHECKED]

    def slopes(result: Association) -> np.ndarray:
        own = (result.x_index == result.y_index) & (result.y_index < CHECKED)
        return result.slope[own][None]

    runners = [
        Runner("jaxreg", lambda: associate(x, y, covariates, keep=1e-12), k * m, slopes),
        Runner("jaxreg, the best of each y", lambda: associate(x, y, covariates), k * m, slopes),
    ]
    reference = None
    if on_cpu:
        blocks = range(0, m, 2048)

        def product() -> None:
            for i in blocks:  # the whole would not fit into memory
                x.T @ y[:, i : i + 2048]

        runners.append(Runner(NUMPY_PRODUCT, product, k * m))
        if peers.are_installed("statsmodels"):
            run = partial(peers.statsmodels_slopes, x[:, :CHECKED], y[:, :CHECKED], covariates)
            runners.append(peer("statsmodels loop", run, CHECKED))
            reference = run()
    rows = compare("every y on every x", runners, reference)
    return at_most(rows, ("jaxreg", NUMPY_PRODUCT, 2.0), ("jaxreg, the best of each y", NUMPY_PRODUCT, 2.0))


def under_vmap(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """≤ 1.2 × the batched call, temporaries ≤ 0.5 × the data; ≤ 2 × and ≤ 1.2 × if mapped over axis 0."""
    n, m = 300, int(20_000 * scale)
    x, _, y = lines(n, m, gaps=True)
    x_device, y_device, y_transposed = jnp.asarray(x), jnp.asarray(y), jnp.asarray(y.T)
    jitted = jax.jit(fit)
    mapped_last = jax.jit(jax.vmap(fit, in_axes=(None, 1), out_axes=-1))
    mapped_first = jax.jit(jax.vmap(fit, in_axes=(None, 0), out_axes=-1))
    runners = [
        limit(m, y_device),
        Runner("jaxreg", lambda: jitted(x_device, y_device), m, lambda result: result.params),
        Runner("in_axes=1", lambda: mapped_last(x_device, y_device), m, lambda result: result.params),
        Runner("in_axes=0", lambda: mapped_first(x_device, y_transposed), m, lambda result: result.params),
    ]
    rows = compare("under vmap", runners, exact(line_design(x), y))
    return [
        *at_most(rows, ("in_axes=1", "jaxreg", 1.2), ("in_axes=0", "jaxreg", 2.0)),
        temporaries("in_axes=1", mapped_last, 0.5, x_device, y_device),
        temporaries("in_axes=0", mapped_first, 1.2, x_device, y_transposed),
    ]


def temporaries(method: str, function: Any, target: float, x: Any, y: Any) -> Ratio:
    """The temporary memory of a compiled function, without arguments and results, relative to the data."""
    bytes_used = function.lower(x, y).compile().memory_analysis().temp_size_in_bytes
    return Ratio(
        "under vmap", f"{method}, temporaries", bytes_used / 1e6, "the data", y.nbytes / 1e6, target, "MB"
    )


def growth(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Time per fit for m = 10⁴ to 10⁷; from 10⁵ on within 25%."""
    rows, n = [], 30
    x = jnp.arange(n, dtype="f4")
    for m in (10**4, 10**5, 10**6, int(10**7 * scale)):
        y = jnp.asarray(np.random.default_rng(0).standard_normal((n, m), dtype="f4"))
        rows += compare(f"growth, m = {m:,}", [limit(m, y), ours(m, x, y)])
    return rows


def memmap(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Peak of anonymous memory ≤ 1.5 GB; time ≤ 1.5 × that of an array in memory."""
    n, m = 300, int(4_000_000 * scale)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "y.f4"
        _write(path, n, m)
        output = last_line_of("bench.child", "memmap", str(path), str(n), str(m))
    from_disk, in_memory, peak = (float(word) for word in output.split())
    rows = [
        Row("memmap", "jaxreg", from_disk, None, 1.0, None, 0.0),
        Row("memmap", "NumPy array in memory", in_memory, None, in_memory / from_disk, None, 0.0),
    ]
    peak_row = Row(f"memmap, peak of RssAnon {peak:.2f} GB", "jaxreg", from_disk, None, 1.0, None, 0.0)
    return [*at_most(rows, ("jaxreg", "NumPy array in memory", 1.5)), peak_row]


def float64(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """float64 data with gaps, few of which need double-double; each precision."""
    n, m = 300, int(100_000 * scale)
    x, _, y = (a.astype("f8") for a in lines(n, m, gaps=True))
    y += 2 * x[:, None]
    with jax.enable_x64(True):
        x_device, y_device = jnp.asarray(x), jnp.asarray(y)
        first_few = y_device[:, : max(1, m // 50)]
        runners = [
            limit(m, y_device),
            ours(m, x_device, y_device),
            Runner(
                "fast",
                lambda: fit(x_device, y_device, solver=ClosedForm(precision="fast")),
                m,
                lambda result: result.params,
            ),
            Runner(
                "certified",
                lambda: fit(x_device, first_few, solver=ClosedForm(precision="certified")),
                first_few.shape[1],
                lambda result: result.params,
            ),
        ]
        if on_cpu:
            runners.append(peer("numpy masked", lambda: peers.numpy_lines(x, y), m))
        return compare("float64", runners, exact(line_design(x), y))


def gradient(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """≤ 4 × the fit, both compiled; also the time of writing two arrays of the size of the data."""
    n, m = 300, int(65_536 * scale)
    x, own, y = lines(n, m, gaps=True)
    rows = []
    for name, x_device in (("shared x", jnp.asarray(x)), ("own x", jnp.asarray(own))):
        y_device = jnp.asarray(y)

        def sum_of_results(x: Any, y: Any) -> Any:
            result = fit(x, y)
            return jnp.sum(result.params) + jnp.sum(result.bse)

        value, gradients = jax.jit(sum_of_results), jax.jit(jax.grad(sum_of_results, argnums=(0, 1)))
        doubled = jax.jit(lambda x, y: (2 * x, 2 * y))
        runners = [
            Runner("jaxreg", partial(value, x_device, y_device), m),
            Runner("its gradient in x and y", partial(gradients, x_device, y_device), m),
            Runner("2x and 2y", partial(doubled, x_device, y_device), m),
        ]
        rows += at_most(compare(f"gradient, {name}", runners), ("its gradient in x and y", "jaxreg", 4.0))
    return rows


STATISTICS = (
    "tvalues", "pvalues", "log10_pvalues", "ssr", "centered_tss", "uncentered_tss", "ess", "scale",
    "rsquared", "rsquared_adj", "fvalue", "f_pvalue", "llf", "aic", "bic", "nobs", "df_resid", "df_model",
)  # fmt: skip


def inference(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """All statistics of every line ≤ 1.5 × the time of params and bse; HC1 ≤ 2.5 ×."""
    n, m = 300, int(250_000 * scale)
    x, _, y = lines(n, m, gaps=True)
    x_device, y_device = jnp.asarray(x), jnp.asarray(y)

    def all_statistics() -> Any:
        result = fit(x_device, y_device)
        return result.params, result.conf_int(), result.cov_params(), [getattr(result, a) for a in STATISTICS]

    def robust(cov_type: str | HAC) -> Any:
        return fit(x_device, y_device, cov_type=cov_type).bse

    runners = [
        ours(m, x_device, y_device),
        Runner("all statistics", all_statistics, m),
        *(Runner(kind, partial(robust, kind), m) for kind in ("HC1", "HC3")),
        Runner("HAC", partial(robust, HAC()), m),
    ]
    rows = compare("inference", runners)
    return at_most(rows, ("all statistics", "jaxreg", 1.5), ("HC1", "jaxreg", 2.5))


def start(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Seconds of `import jaxreg` after `import jax` ≤ 0.3; of a first line ≤ 1.5; of a second shape ≤ 1."""
    names = ("import jaxreg", "first fit of a line", "a second shape")
    seconds = np.array([last_line_of("bench.child", "start").split() for _ in range(3)], float)
    return [
        Row(f"start: {name}", "jaxreg", 0.0, None, None, None, float(median))
        for name, median in zip(names, np.median(seconds, axis=0), strict=True)
    ]


def _write(path: Path, n: int, m: int) -> None:
    """Write noise with gaps row by row, each row shifted by one column against the previous one."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(n + m, dtype="f4")
    noise[rng.random(n + m) < GAPS] = np.nan
    with path.open("wb") as file:
        for i in range(n):
            (noise[i : i + m] + np.float32(0.01 * i)).tofile(file)


def devices(scale: float, on_cpu: bool) -> list[Launched]:
    """Programs for an H200, an H100 and a TPU v5e, compiled here: launches, bytes and a modelled time."""
    chips = [chip for chip in ("H200", "H100", "v5e") if can_compile(chip)]
    if not chips:
        raise ModuleNotFoundError('this case needs: python -m pip install "jaxreg[devices]"')
    return [Launched(**json.loads(line)) for chip in chips for line in lines_of("bench.devices", chip)]


CASES: dict[str, Callable[[float, bool], list[Row | Ratio] | list[Compiled] | list[Launched]]] = {
    "shared_x": shared_x,
    "own_x": own_x,
    "gaps": gaps,
    "weights": weights,
    "descent": descent,
    "user_cost": user_cost,
    "robust": robust,
    "logistic": logistic,
    "quantile": quantile,
    "peaks": peaks,
    "ridge": ridge,
    "design_shared": design_shared,
    "design_gaps": design_gaps,
    "design_own": design_own,
    "every_pair": every_pair,
    "under_vmap": under_vmap,
    "growth": growth,
    "inference": inference,
    "float64": float64,
    "gradient": gradient,
    "memmap": memmap,
    "data_arrays": faces.data_arrays,
    "stores": faces.stores,
    "groups": faces.groups,
    "ragged": faces.ragged,
    "windows": faces.windows,
    "start": start,
    "compile": compilation,
    "devices": devices,
}
