"""Fits by the programs for NVIDIA GPUs, which the CPU computes here."""

import jax
import numpy as np
import pytest
import statsmodels.api as sm

from jaxreg import (
    ClosedForm,
    Cluster,
    GradientDescent,
    Huber,
    Linear,
    Logistic,
    Poisson,
    Polynomial,
    fit,
    moments,
)
from jaxreg.data import source
from jaxreg.engine import cascade, operation
from jaxreg.engine.rows import ROWS
from jaxreg.numerics.vectors import lists_up_to
from jaxreg.solvers import reweighting

pytestmark = pytest.mark.either_mode
SLOW = pytest.mark.slow
N, M = 37, 21  # in no other test: programs are cached


def on_cuda(function, *args):
    with lists_up_to(ROWS["cuda"].listed):
        return function(*args, rows=ROWS["cuda"])


@pytest.fixture(autouse=True)
def _an_nvidia_gpu(monkeypatch):
    monkeypatch.setattr(source, "_default_platform", lambda: "gpu")
    monkeypatch.setattr(source, "is_on_host", lambda a: False)
    monkeypatch.setattr(cascade, "by_platform", on_cuda)
    monkeypatch.setattr(operation, "by_platform", on_cuda)
    monkeypatch.setattr(reweighting, "by_platform", on_cuda)


def assert_agrees(found, design, y, w=None, **options):
    """With statsmodels, for every data set; design is (n, p) or (n, p, m)."""
    for i in range(y.shape[1]):
        X = design if design.ndim == 2 else design[..., i]
        seen = np.isfinite(y[:, i])
        weights = np.ones(len(y)) if w is None else w if w.ndim == 1 else w[:, i]
        expected = sm.WLS(y[seen, i].astype(float), X[seen].astype(float), weights[seen]).fit(**options)
        np.testing.assert_allclose(found.params[:, i], expected.params, rtol=3e-6, atol=1e-6)
        np.testing.assert_allclose(found.bse[:, i], expected.bse, rtol=3e-6)
        assert found.nobs[i] == seen.sum()


SHARED = [  # number of columns, intercept, gaps
    *[(1, False, True), (2, True, False), (3, False, False), (4, True, True), (5, False, False)],
    *[(6, True, False), (6, False, True), (7, True, True), (8, False, False)],
]


@pytest.mark.parametrize(
    ("k", "intercept", "gaps"), [(5, True, True), *(pytest.param(*case, marks=SLOW) for case in SHARED)]
)
def test_shared_designs(rng, k, intercept, gaps):
    x, y = rng.normal(size=(N, k)).astype("f4"), rng.normal(size=(N, M)).astype("f4")
    if gaps:
        y[rng.random(y.shape) < 0.1] = np.nan
    found = fit(x, y, ansatz=Linear(intercept=intercept))
    assert_agrees(found, sm.add_constant(x) if intercept else x, y)


@pytest.mark.parametrize("degree", [4, *(pytest.param(d, marks=SLOW) for d in (1, 2, 3, 5, 6, 7))])
def test_polynomials_under_jit(rng, degree):
    x, y = np.linspace(-1, 1, N, dtype="f4"), rng.normal(size=(N, M)).astype("f4")
    y[rng.random(y.shape) < 0.1] = np.nan
    fast = ClosedForm(precision="fast")
    found = jax.jit(lambda y: fit(x, y, ansatz=Polynomial(degree), solver=fast))(y)
    assert_agrees(found, np.vander(x.astype(float), degree + 1, increasing=True), y)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "weighted", "cov_type"),
    [
        *[(1, True, "nonrobust"), (3, False, "nonrobust"), (5, False, "HC3"), (7, True, "HC3")],
    ],
)
def test_own_designs_and_weights(rng, k, weighted, cov_type):
    x, y = rng.normal(size=(N, k, M)).astype("f4"), rng.normal(size=(N, M)).astype("f4")
    w = rng.uniform(0.5, 2, size=y.shape).astype("f4") if weighted else None
    y[rng.random(y.shape) < 0.1] = np.nan
    found = fit(x, y, ansatz=Linear(), weights=w, cov_type=cov_type)
    design = np.concatenate([np.ones((N, 1, M)), x], axis=1)
    assert_agrees(found, design, y, w, cov_type=cov_type)


@pytest.mark.parametrize("transform", [jax.jit, pytest.param(lambda f: f, marks=SLOW)])
def test_clusters(rng, transform):
    x, y = rng.normal(size=(N, 4)).astype("f4"), rng.normal(size=(N, M)).astype("f4")
    groups = rng.integers(0, 9, N)
    found = transform(lambda y: fit(x, y, ansatz=Linear(), cov_type=Cluster(groups)))(y)
    options = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    assert_agrees(found, sm.add_constant(x), y, **options)


@pytest.mark.slow
def test_descents_and_moments(rng):
    x, y = rng.normal(size=(N, 5)).astype("f4"), rng.normal(size=(N, M)).astype("f4")
    y[3, 4] = np.nan
    expected = fit(x, y, ansatz=Linear())
    found = fit(x, y, ansatz=Linear(), solver=GradientDescent(steps=3000))
    np.testing.assert_allclose(found.params, expected.params, atol=1e-4)
    design = np.where(np.isnan(y[:, 4, None]), np.nan, sm.add_constant(x))
    gram = np.nanmean(design[:, :, None] * design[:, None], axis=0)
    np.testing.assert_allclose(moments(x, y, ansatz=Linear()).gram[..., 4], gram, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "n", [86_830, pytest.param(309_691, marks=SLOW)]
)  # whose first turn has fewer rows than a reduction elements
def test_any_number_of_rows(n):
    x, y = np.linspace(-1, 1, n, dtype="f4"), np.linspace(0, 3, 2 * n, dtype="f4").reshape(n, 2) ** 2
    found = jax.jit(lambda y: fit(x, y).params)(y)
    np.testing.assert_allclose(found[::-1], np.polyfit(x, y.astype(float), 1), rtol=1e-5)


def test_robust_fits(rng):
    x, y = np.linspace(-1, 1, N), rng.standard_t(2, size=(N, M))
    y[rng.random(y.shape) < 0.1] = np.nan
    found = fit(x, y, cost=Huber())
    for i in range(M):
        seen = np.isfinite(y[:, i])
        expected = sm.RLM(y[seen, i], sm.add_constant(x[seen])).fit(tol=1e-13, maxiter=1000)
        np.testing.assert_allclose(found.params[:, i], expected.params, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(found.bse[:, i], expected.bse, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("cost", "k"), [(Poisson(), 1), (Logistic(), 3)])
def test_likelihoods(rng, cost, k):
    x = rng.normal(size=(N, k))
    X = sm.add_constant(x)
    mu = np.exp(X @ (0.3 * np.ones(k + 1)))[:, None] * np.ones(M)
    is_logistic = isinstance(cost, Logistic)
    y = (rng.random((N, M)) < mu / (1 + mu)) * 1.0 if is_logistic else rng.poisson(mu) * 1.0
    family = sm.families.Binomial() if is_logistic else sm.families.Poisson()
    found = fit(x, y, ansatz=Linear(), cost=cost)
    for i in range(M):
        expected = sm.GLM(y[:, i], X, family=family).fit(tol=1e-13, tol_criterion="params")
        np.testing.assert_allclose(found.params[:, i], expected.params, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.bse[:, i], expected.bse, rtol=1e-6)
