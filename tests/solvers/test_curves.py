"""Fits of curves, against scipy, statsmodels and NIST's certified values."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import nist_nonlinear
import numpy as np
import pytest
from scipy.optimize import curve_fit, minimize

from jaxreg import (
    ClosedForm,
    Cluster,
    Curve,
    Fit,
    GaussNewton,
    Huber,
    Poisson,
    Status,
    exponential_decay,
    fit,
    gaussian_peak,
    load,
    logistic_growth,
    mean_loss,
    mean_squared_error,
    moments,
    power_law,
    sine,
)

SLOW = pytest.mark.slow
M = 12
X = np.linspace(0.2, 5, 40)


def decay(params, x):
    amplitude, rate = params
    return amplitude * jnp.exp(-rate * x)


DECAY = Curve(decay, ("amplitude", "rate"), start=(1.0, 1.0))


def decays(rng, m=M):
    """y of decays with noise."""
    amplitude, rate = rng.uniform(1, 5, m), rng.uniform(0.2, 1.5, m)
    return amplitude * np.exp(-rate * X[:, None]) + 0.05 * rng.normal(size=(len(X), m))


def with_gaps(y, rng):
    return np.where(rng.random(y.shape) < 0.1, np.nan, y)


def scipy_fit(function, x, y, start, sigma=None):
    """Params and standard errors of one data set."""
    ok = ~np.isnan(y)
    sigma = None if sigma is None else sigma[ok]
    params, cov = curve_fit(function, x[ok], y[ok], p0=start, sigma=sigma, ftol=1e-14, xtol=1e-14)
    return params, np.sqrt(np.diag(cov))


CASES = {
    "exponential_decay": (
        exponential_decay,
        lambda x, offset, amplitude, rate: offset + amplitude * np.exp(-rate * x),
        lambda rng: (rng.uniform(-2, 2), rng.choice([-1, 1]) * rng.uniform(3, 9), rng.uniform(0.4, 3)),
    ),
    "gaussian_peak": (
        gaussian_peak,
        lambda x, b, h, c, w: b + h * np.exp(-((x - c) ** 2) / (2 * w * w)),
        lambda rng: (
            rng.uniform(0, 2),
            rng.choice([-1, 1]) * rng.uniform(3, 9),
            rng.uniform(1.5, 4),
            rng.uniform(0.3, 0.9),
        ),
    ),
    "logistic_growth": (
        logistic_growth,
        lambda x, k, r, c: k / (1 + np.exp(-r * (x - c))),
        lambda rng: (rng.uniform(1, 20), rng.uniform(1.5, 5), rng.uniform(1, 4)),
    ),
    "power_law": (
        power_law,
        lambda x, a, b: a * x**b,
        lambda rng: (rng.choice([-1, 1]) * rng.uniform(1, 20), rng.uniform(-1.5, 3)),
    ),
    "sine": (
        sine,
        lambda x, o, a, f, p: o + a * np.sin(2 * np.pi * f * x + p),
        lambda rng: (rng.uniform(1, 20), rng.uniform(1, 5), rng.uniform(0.4, 3), rng.uniform(-3, 3)),
    ),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW if n != "gaussian_peak" else ()) for n in CASES])
def test_ready_curves_find_their_start(name):
    """With gaps, against scipy from the true params."""
    curve, function, draw = CASES[name]
    rng = np.random.default_rng(3)
    truths = [draw(rng) for _ in range(M)]
    clean = np.stack([function(X, *truth) for truth in truths], axis=1)
    y = with_gaps(clean + 0.02 * np.ptp(clean, axis=0) * rng.normal(size=clean.shape), rng)
    fits = fit(X, y, ansatz=curve)
    assert fits.status.tolist() == [Status.ok] * M
    for i, truth in enumerate(truths):
        params, bse = scipy_fit(function, X, y[:, i], truth)
        if name == "sine":  # the same curve for other signs and phases
            np.testing.assert_allclose(fits.bse[:3, i], bse[:3], rtol=1e-4)
            np.testing.assert_allclose(fits.predict(X)[:, i], function(X, *params), rtol=1e-5, atol=1e-6)
            continue
        np.testing.assert_allclose(fits.params[:, i], params, rtol=1e-5)
        np.testing.assert_allclose(fits.bse[:, i], bse, rtol=1e-4)


@SLOW
@pytest.mark.parametrize("name", nist_nonlinear.MODELS)
def test_certified_sets(name):
    """From start 2 all digits that double precision holds, from start 1 these or no status `ok`."""
    certified = nist_nonlinear.SETS[name]
    in_single = [("float32", 4)] if name in ("BoxBOD", "ENSO", "Lanczos3", "Nelson") else []
    for dtype, digits in (("float64", 9), *in_single):
        x, y = nist_nonlinear.data(name, dtype)
        names = tuple(f"b{k}" for k in range(len(certified["params"])))
        near, far = (
            fit(x, y, ansatz=Curve(nist_nonlinear.MODELS[name], names, tuple(start), x_is_vector=x.ndim == 2))
            for start in reversed(certified["starts"])
        )
        assert near.status == Status.ok
        for result in (near, far) if far.status == Status.ok else (near,):
            np.testing.assert_allclose(result.params, certified["params"], rtol=10.0**-digits)
            np.testing.assert_allclose(
                result.bse, certified["bse"], rtol=1e-3 if dtype == "float32" else 1e-7
            )


@SLOW
def test_weights_statistics_and_intervals():
    rng = np.random.default_rng(0)
    y = with_gaps(decays(rng), rng)
    weights = rng.uniform(0.5, 2, size=y.shape)
    fits = fit(X, y, ansatz=DECAY, weights=weights)
    for i in range(3):
        ok = ~np.isnan(y[:, i])
        w, yi = weights[ok, i], y[ok, i]
        params, bse = scipy_fit(
            lambda x, a, b: a * np.exp(-b * x), X, y[:, i], (1, 1), 1 / np.sqrt(weights[:, i])
        )
        np.testing.assert_allclose(fits.params[:, i], params, rtol=1e-6)
        np.testing.assert_allclose(fits.bse[:, i], bse, rtol=1e-5)
        n, ssr = ok.sum(), np.sum(w * (yi - params[0] * np.exp(-params[1] * X[ok])) ** 2)
        tss = np.sum(w * (yi - np.average(yi, weights=w)) ** 2)
        llf = -n / 2 * (np.log(2 * np.pi * ssr / n) + 1) + np.log(w).sum() / 2
        for found, expected in (
            (fits.ssr, ssr),
            (fits.scale, ssr / (n - 2)),
            (fits.rsquared, 1 - ssr / tss),
            (fits.rsquared_adj, 1 - ssr / tss * (n - 1) / (n - 2)),
            (fits.centered_tss, tss),
            (fits.uncentered_tss, np.sum(w * yi**2)),
            (fits.llf, llf),
            (fits.aic, 4 - 2 * llf),
        ):
            np.testing.assert_allclose(found[i], expected, rtol=1e-8)
        J = np.stack([np.exp(-params[1] * X), -params[0] * X * np.exp(-params[1] * X)], axis=1)
        cov = np.linalg.inv((J[ok].T * w) @ J[ok]) * ssr / (n - 2)
        np.testing.assert_allclose(fits.cov_params()[..., i], cov, rtol=1e-5)
        mean, lower, upper = (a[:, i] for a in fits.predict(X, interval="confidence"))
        np.testing.assert_allclose(mean, params[0] * np.exp(-params[1] * X), rtol=1e-6)
        half_width = np.sqrt(np.einsum("ni,ij,nj->n", J, cov, J))
        ratio = (upper - lower) / 2 / half_width
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)  # the quantile of Student's t
    assert np.isnan(fits.fvalue).all()
    np.testing.assert_allclose(fits.resid(X, y)[:, 0], y[:, 0] - fits.predict(X)[:, 0], atol=1e-12)


@SLOW
@pytest.mark.parametrize("cov_type", ["HC0", "HC1", "HC2", "HC3", Cluster(np.arange(40) // 5)])
def test_robust_covariances(cov_type):
    """Against formulas with the Jacobian."""
    y = decays(np.random.default_rng(1), 2)
    fits = fit(X, y, ansatz=DECAY, cov_type=cov_type)
    J, e = np.asarray(DECAY.jacobian(fits.params, X))[..., 0], np.asarray(fits.resid(X, y))[:, 0]
    bread = np.linalg.inv(J.T @ J)
    h = np.einsum("ni,ij,nj->n", J, bread, J)
    n = len(X)
    if isinstance(cov_type, str):
        squares = {"HC0": e**2, "HC1": e**2 * n / (n - 2), "HC2": e**2 / (1 - h), "HC3": (e / (1 - h)) ** 2}
        meat = (J.T * squares[cov_type]) @ J
    else:
        sums = (J * e[:, None]).reshape(8, 5, 2).sum(axis=1)
        meat = sums.T @ sums * 8 / 7 * (n - 1) / (n - 2)
    np.testing.assert_allclose(fits.bse[:, 0], np.sqrt(np.diag(bread @ meat @ bread)), rtol=1e-8)


@SLOW
def test_likelihoods_and_losses_of_curves():
    rng = np.random.default_rng(2)

    def log_mean(params, x):
        background, amplitude = params
        return jnp.log(background + amplitude * jnp.exp(-x))

    curve = Curve(log_mean, ("background", "amplitude"), (1.0, 1.0), {"background": (0, None)})
    y = rng.poisson(2 + 30 * np.exp(-X)) * 1.0
    counts = fit(X, y, ansatz=curve, cost=Poisson())

    def loss(t):
        mu = t[0] + t[1] * np.exp(-X)
        return np.sum(mu - y * np.log(mu))

    best = minimize(loss, (2, 30), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})
    np.testing.assert_allclose(counts.params, best.x, rtol=1e-6)
    mu = best.x[0] + best.x[1] * np.exp(-X)
    J = np.stack([np.ones_like(X), np.exp(-X)], axis=1)
    np.testing.assert_allclose(counts.bse, np.sqrt(np.diag(np.linalg.inv((J.T / mu) @ J))), rtol=1e-5)
    np.testing.assert_allclose(counts.predict(X), mu, rtol=1e-6)

    def log_cosh(y, f):
        return jnp.logaddexp(y - f, f - y)

    y = decays(rng, 1)[:, 0]
    robust = fit(X, y, ansatz=DECAY, cost=mean_loss(log_cosh))
    best = minimize(
        lambda t: np.sum(np.logaddexp(residual := y - t[0] * np.exp(-t[1] * X), -residual)),
        (2, 0.5),
        method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-14},
    )
    np.testing.assert_allclose(robust.params, best.x, rtol=1e-5)


def test_hopeless_data_sets_have_a_status_and_leave_the_others_alone():
    rng = np.random.default_rng(4)
    y = np.tile(decays(rng, 1), (1, 8))
    y[:, 1] = np.nan
    y[1:, 2] = np.nan
    y[2:, 3] = np.nan
    y[4, 4] = np.inf
    y[:, 5] = 0
    y[:, 6] = 2
    for power in (200, -200):  # squares overflow or underflow
        assert fit(X, y[:, 0] * 10.0**power, ansatz=DECAY).status == Status.out_of_range
    fits = fit(X, y, ansatz=DECAY)
    names = [Status(int(s)).name for s in fits.status]
    assert names[:6] == [
        "ok",
        "no_observations",
        "too_few_observations",
        "exact_fit",
        "invalid_data",
        "undetermined",
    ]
    np.testing.assert_allclose(fits.params[:, 6], [2, 0], atol=1e-12)
    assert np.isnan(fits.params[:, [1, 2, 4, 5]]).all()
    alone = fit(X, y[:, 0], ansatz=DECAY)
    np.testing.assert_allclose(alone.params, fits.params[:, 0], rtol=1e-9)
    np.testing.assert_allclose(fits.params[:, 7], fits.params[:, 0], rtol=1e-12)

    plateau = replace(DECAY, start=(1.0, -500.0))
    redundant = Curve(lambda p, x: (p[0] + p[1]) * x, ("a", "b"), (1.0, 2.0))
    for curve in (plateau, redundant, replace(DECAY, start=(np.nan, 1.0))):
        assert fit(X, y[:, 0], ansatz=curve).status == Status.undetermined
    assert fit(X, y[:, 0], ansatz=DECAY, solver=GaussNewton(steps=1)).status == Status.not_converged


def test_bounds():
    y = decays(np.random.default_rng(5), 6)
    free = fit(X, y, ansatz=DECAY)
    wide = fit(X, y, ansatz=replace(DECAY, bounds={"amplitude": (0, None), "rate": (0, 10)}))
    np.testing.assert_allclose(wide.params, free.params, rtol=1e-7)
    np.testing.assert_allclose(wide.bse, free.bse, rtol=1e-6)
    for start in ((2.0, 0.01), (2.0, 0.0), (2.0, 1.9), (2.0, 9.0)):  # anywhere between the bounds, or beyond
        curve = replace(DECAY, start=start, bounds={"rate": (0, 2)})
        np.testing.assert_allclose(fit(X, y, ansatz=curve).params, free.params, rtol=1e-7)
    limit = float(np.median(free.params[1]))
    narrow = fit(X, y, ansatz=replace(DECAY, bounds={"rate": (None, limit)}))
    is_beyond = np.asarray(free.params[1]) > limit
    assert narrow.status.tolist() == np.where(is_beyond, Status.at_bound, Status.ok).tolist()
    assert is_beyond.any()
    assert np.isnan(narrow.bse[:, is_beyond]).all()
    from_below = fit(X, y, ansatz=replace(DECAY, bounds={"rate": (limit, None)}))
    is_below = np.asarray(free.params[1]) < limit
    assert from_below.status.tolist() == np.where(is_below, Status.at_bound, Status.ok).tolist()
    robust = fit(X, y, ansatz=replace(DECAY, bounds={"rate": (None, limit)}), cov_type="HC1")
    np.testing.assert_array_equal(np.isnan(robust.bse), np.isnan(narrow.bse))
    for i in np.flatnonzero(is_beyond):
        best, _ = curve_fit(
            lambda x, a, b: a * np.exp(-b * x), X, y[:, i], (1, limit / 2), bounds=([0, 0], [99, limit])
        )
        np.testing.assert_allclose(narrow.params[:, i], best, rtol=1e-3)


@SLOW
def test_transformations():
    rng = np.random.default_rng(6)
    y = with_gaps(decays(rng, 3), rng)
    fits = fit(X, y, ansatz=DECAY)
    with jax.enable_x64(True):
        in_jit = jax.jit(lambda x, y: fit(x, y, ansatz=DECAY))(X, y)
        for name in ("params", "bse", "rsquared", "llf"):
            np.testing.assert_allclose(getattr(in_jit, name), getattr(fits, name), rtol=1e-7)
        mapped = jax.vmap(lambda y: fit(X, y, ansatz=DECAY).params, in_axes=1, out_axes=1)(jnp.asarray(y))
        np.testing.assert_allclose(mapped, fits.params, rtol=1e-7)
        starts = jnp.array([[1.0, 1.0], [3.0, 0.5]])
        of_starts = jax.vmap(lambda s: fit(X, y[:, 0], ansatz=replace(DECAY, start=s)).params)(starts)
        np.testing.assert_allclose(of_starts[0], of_starts[1], rtol=1e-7)


@SLOW
def test_derivatives_of_the_fit():
    """In y, x and weights, against differences of fits."""
    rng = np.random.default_rng(7)
    y = with_gaps(decays(rng, 2), rng)
    y[0] = np.abs(y[0]) + np.nan_to_num(y[0])  # no gap where differences are taken
    y[:, 1] = np.where(np.arange(40) < 39, y[:, 1], np.nan)
    arguments = [y, X, rng.uniform(0.5, 2, size=y.shape)]

    def total(y, x, weights):
        result = fit(x, y, ansatz=DECAY, weights=weights)
        weighted = jnp.sum(result.params * jnp.array([[1.0], [2.0]]))
        return weighted + jnp.sum(result.bse) + jnp.sum(result.rsquared)

    with jax.enable_x64(True):
        gradients = jax.grad(total, argnums=(0, 1, 2))(*map(jnp.asarray, arguments))
        assert all(np.isfinite(g).all() for g in gradients)
        valid = np.flatnonzero(~np.isnan(y[:, 0]))
        for which, index in ((0, (valid[3], 0)), (1, (valid[5],)), (2, (valid[8], 0))):
            ends = []
            for h in (1e-4, -1e-4):
                moved = [np.array(a) for a in arguments]
                moved[which][index] += h
                ends.append(float(total(*moved)))
            np.testing.assert_allclose(gradients[which][index], (ends[0] - ends[1]) / 2e-4, rtol=1e-4)
        gap = tuple(np.argwhere(np.isnan(y))[0])
        assert gradients[0][gap] == 0


def test_float32_data_and_costs_take_curves():
    y = decays(np.random.default_rng(8), 2)
    single = fit(X.astype("float32"), y.astype("float32"), ansatz=DECAY)
    assert single.params.dtype == np.float32
    np.testing.assert_allclose(single.params, fit(X, y, ansatz=DECAY).params, rtol=1e-5)
    cost = mean_squared_error(single.params[:, 0], X, y[:, 0], ansatz=DECAY)
    np.testing.assert_allclose(cost, single.cost[0], rtol=1e-4)


@SLOW
def test_save_load_and_concatenate(tmp_path):
    y = decays(np.random.default_rng(9), 4)
    fits = fit(X, y, ansatz=DECAY)
    fits.save(tmp_path / "decays.npz")
    loaded = load(tmp_path / "decays.npz", ansatz=DECAY)
    assert loaded.names == ("amplitude", "rate")
    np.testing.assert_array_equal(loaded.params, fits.params)
    parts = [fit(X, y[:, :2], ansatz=DECAY), fit(X, y[:, 2:], ansatz=DECAY)]
    np.testing.assert_allclose(Fit.concatenate(parts).params, fits.params, rtol=1e-9)
    assert "Curve(decay: amplitude, rate)" in fits[0].summary()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fit(X, X, ansatz=Curve(decay, ("a", "b"))), "has no start"),
        (lambda: fit(X, X, ansatz=Curve(decay, ("a", "b"), (1, 2, 3))), r"shape \(3,\): pass \(2,\)"),
        (lambda: fit(X, X, ansatz=Curve(lambda p, x: p, ("a", "b"), (1, 2))), "returns one number"),
        (lambda: fit(X, X, ansatz=Curve(lambda p, x: np.exp(x), ("a",), (1,))), "jax.numpy"),
        (lambda: fit(X, X, ansatz=DECAY, cost=Huber()), "curves are fitted with"),
        (lambda: fit(X, X, ansatz=DECAY, solver=ClosedForm()), "does not fit curves"),
        (lambda: fit(X, X, solver=GaussNewton()), "GaussNewton fits curves"),
        (lambda: moments(X, X, ansatz=DECAY), "not linear|ansatz"),
        (lambda: Curve(decay, ("a", "a")), "differ"),
        (lambda: Curve(decay, "a"), "strings|names"),
        (lambda: Curve(3, ("a",)), "is a function|Callable"),
        (lambda: Curve(decay, ("a", "b"), bounds={"c": (0, 1)}), "bounds name c"),
        (lambda: Curve(decay, ("a", "b"), bounds={"a": (1, 0)}), "low < high"),
        (lambda: Curve(decay, ("a", "b"), bounds={"a": 1}), "a pair"),
        (lambda: Curve(decay, ("a", "b"), bounds=[(0, 1)]), "dictionary"),
    ],
)
def test_mistakes_have_messages(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@SLOW
def test_years_as_x():
    """The search runs about the center of x."""
    rng = np.random.default_rng(10)
    years = np.arange(1950.0, 2021.0, 2)
    t = years - 1985
    noise = 0.02 * rng.normal(size=len(years))
    cases = (
        (exponential_decay, 2 + 3 * np.exp(-0.05 * t), (0, 2)),
        (logistic_growth, 9 / (1 + np.exp(-0.2 * t)), (0, 1)),
        (gaussian_peak, 1 + 9 * np.exp(-(t**2) / 100), (0, 1, 3)),
        (sine, 5 + 2 * np.sin(2 * np.pi * 0.09 * t + 1), (0, 1, 2)),
    )
    for curve, clean, unshifted in cases:
        there, here = fit(years, clean + noise, ansatz=curve), fit(t, clean + noise, ansatz=curve)
        assert there.status == here.status == Status.ok
        for name in ("params", "bse"):
            np.testing.assert_allclose(
                getattr(there, name)[list(unshifted)], getattr(here, name)[list(unshifted)], rtol=1e-5
            )
        np.testing.assert_allclose(there.predict(years), here.predict(t), rtol=1e-5, atol=1e-8)


@SLOW
def test_a_rate_without_amplitude_is_not_determined():
    y = np.full(len(X), 3.0)
    for curve in (exponential_decay, sine):
        assert fit(X, y, ansatz=curve).status == Status.undetermined


@SLOW
def test_units_of_sigma_do_not_matter():
    rng = np.random.default_rng(11)
    y, sigma = decays(rng, 2), rng.uniform(0.02, 0.1, len(X))
    expected = fit(X, y, ansatz=DECAY, sigma=sigma)
    for unit in (2.0**-60, 2.0**60):
        found = fit(X, y, ansatz=DECAY, sigma=sigma * unit)
        np.testing.assert_array_equal(found.status, expected.status)
        np.testing.assert_allclose(found.params, expected.params, rtol=1e-9)
        np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-8)


@SLOW
def test_derivatives_of_robust_errors():
    """Of a curve and of a robust cost, against differences."""
    y = decays(np.random.default_rng(12), 1)[:, 0]
    with jax.enable_x64(True):
        for options in ({"ansatz": DECAY, "cov_type": "HC3"}, {"cost": Huber(), "cov_type": "HC1"}):

            def total(y, options=options):
                return jnp.sum(fit(X, y, **options).bse)

            step = np.zeros(len(X))
            step[6] = 1e-5
            difference = (total(y + step) - total(y - step)) / 2e-5
            np.testing.assert_allclose(jax.grad(total)(jnp.asarray(y))[6], difference, rtol=1e-5)


@SLOW
def test_the_cost_of_a_likelihood_has_derivatives_within_bounds():
    rng = np.random.default_rng(13)
    curve = Curve(lambda p, x: jnp.log(p[0] + p[1] * jnp.exp(-x)), ("a", "b"), (1.0, 1.0), {"a": (0, None)})
    y, offset = rng.poisson(2 + 30 * np.exp(-X)) * 1.0, 0.1 * rng.normal(size=len(X))

    def total(y, offset):
        return jnp.sum(fit(X, y, ansatz=curve, cost=Poisson(), offset=offset).params ** 2)

    with jax.enable_x64(True):
        gradients = jax.grad(total, (0, 1))(jnp.asarray(y), jnp.asarray(offset))
        step = np.zeros(len(X))
        step[5] = 1e-4
        for gradient, moves in zip(gradients, ((step, 0), (0, step)), strict=True):
            difference = total(y + moves[0], offset + moves[1]) - total(y - moves[0], offset - moves[1])
            np.testing.assert_allclose(gradient[5], difference / 2e-4, rtol=1e-5)
