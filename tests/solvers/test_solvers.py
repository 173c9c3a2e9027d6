"""Gradient descent on a cost of the user's own, in slots."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

from jaxreg import GradientDescent, Line, Linear, Logistic, Newton, Polynomial, Status, fit, residuals
from jaxreg.gaps import observed

pytestmark = pytest.mark.slow

N, M, SLOTS = 24, 7, 3
FIELDS = ("params", "cost", "ssr", "nobs", "status", "digits")


def robust_cost(traces=None):
    """The pseudo-Huber cost as a function object of its own, for which everything is compiled anew."""

    def pseudo_huber(params, x, y, weights=None, *, ansatz):
        if traces is not None:
            traces.append(1)
        seen = observed(x, y, weights, ansatz)
        w = jnp.where(seen, 1 if weights is None else weights, 0)
        x = jnp.where(seen[:, None] if ansatz.x_is_vector else seen, x, 0)
        e = residuals(params, x, jnp.where(seen, y, 0), ansatz=ansatz)
        return jnp.sum(w * (jnp.sqrt(1 + e**2) - 1)) / jnp.sum(w)

    return pseudo_huber


def quartic(params, x, y, weights=None, *, ansatz):
    """A cost whose gradient grows without bound, so that large steps diverge."""
    return jnp.mean(residuals(params, x, y, ansatz=ansatz) ** 4)


PSEUDO_HUBER = robust_cost()
LINE = Line()
QUICK = GradientDescent(learning_rate=0.9, steps=3000, tol=1e-5)
CLOSE = GradientDescent(learning_rate=0.9, steps=5000, tol=1e-11)


def features(x, ansatz):
    """φ of NumPy's own, (n, p)."""
    if ansatz == Linear(intercept=False):
        return x
    if ansatz == Linear():
        return np.column_stack([np.ones(len(x)), x])
    return np.vander(x, 2 if ansatz == Line() else ansatz.degree + 1, increasing=True)


def minimum(x, y, w=None, ansatz=LINE):
    """The minimum of the pseudo-Huber cost of one data set in float64, by scipy."""
    design = features(x.astype("f8"), ansatz)
    w = np.ones(len(y)) if w is None else w.astype("f8")
    there = ~np.isnan(y) & ~np.isnan(design).any(axis=1) & (w != 0)
    X, y, w = design[there], y[there].astype("f8"), w[there] / w[there].sum()

    def S(theta):
        return w @ (np.sqrt(1 + (y - X @ theta) ** 2) - 1)

    def slope(theta):
        e = y - X @ theta
        return -X.T @ (w * e / np.sqrt(1 + e**2))

    def curvature(theta):
        e = y - X @ theta
        return (X.T * w / (1 + e**2) ** 1.5) @ X

    start = np.linalg.lstsq(X, y)[0]
    found = optimize.minimize(S, start, jac=slope, hess=curvature, method="trust-exact", tol=1e-12)
    theta = found.x - np.linalg.solve(curvature(found.x), slope(found.x))
    return theta, S(theta)


def column(a, i, own_axes):
    return None if a is None else a[..., i] if a.ndim == own_axes else a


def assert_is_minimum(found, x, y, w=None, ansatz=LINE, near=1e-5):
    for i in range(y.shape[1]):
        own_x = column(x, i, 2 + ansatz.x_is_vector)
        params, cost = minimum(own_x, y[:, i], column(w, i, 2), ansatz)
        np.testing.assert_allclose(found.params[:, i], params, rtol=near, atol=near)
        np.testing.assert_allclose(found.cost[i], cost, rtol=near)


def assert_same(found, whole, columns):
    for name in FIELDS:
        expected = np.asarray(getattr(whole, name))[..., columns]
        np.testing.assert_array_equal(np.asarray(getattr(found, name)), expected, err_msg=name)


@pytest.fixture
def data(rng):
    x = rng.normal(2, 1, size=N)
    y = 1 + 2 * x[:, None] + rng.normal(size=(N, M))
    y[3] += 6  # what a robust cost is for
    y[rng.random((N, M)) < 0.15] = np.nan
    w = rng.uniform(0.5, 2, size=(N, M))
    w[rng.random((N, M)) < 0.1] = 0
    return x, y, w


@pytest.fixture
def slots(monkeypatch):
    """Fewer slots than data sets, for functions that were not compiled before."""
    monkeypatch.setattr("jaxreg.solvers.descent.MAX_SLOTS", SLOTS)


@pytest.mark.parametrize(
    ("dtype", "own_x", "weighting"),
    [("f8", False, "none"), ("f8", True, "shared"), ("f8", False, "own"), ("f4", True, "own")],
)
def test_the_minimum_is_that_of_scipy(data, rng, slots, dtype, own_x, weighting):
    x, y, w = data
    if own_x:
        x = x[:, None] + rng.normal(size=y.shape)
        x[7, 2] = np.nan
    x, y, w = (a.astype(dtype) for a in (x, y, w))
    w = {"none": None, "shared": w[:, 0], "own": w}[weighting]
    found = fit(x, y, weights=w, cost=robust_cost(), solver=CLOSE if dtype == "f8" else QUICK)
    np.testing.assert_array_equal(found.status, Status.ok)
    assert found.params.dtype == dtype
    assert_is_minimum(found, x, y, w, near=1e-8 if dtype == "f8" else 1e-3)


@pytest.mark.parametrize("ansatz", [Polynomial(2), Linear()], ids=repr)
def test_any_ansatz_has_its_minimum(data, rng, ansatz, monkeypatch):
    monkeypatch.setattr("jaxreg.solvers.descent.SLOT_ELEMENTS", 2 * SLOTS * N)
    x, y, w = data
    if ansatz.x_is_vector:
        x = np.stack([x[:, None] + rng.normal(size=y.shape), rng.normal(size=y.shape)], axis=1)
    found = fit(x, y, weights=w, ansatz=ansatz, cost=robust_cost(), solver=CLOSE)
    np.testing.assert_array_equal(found.status, Status.ok)
    assert_is_minimum(found, x, y, w, ansatz, near=1e-7)


@pytest.mark.parametrize(
    ("optimizer", "learning_rate"),
    [(optax.adam, 0.01), (optax.sgd(0.2, momentum=0.8), None)],
    ids=["adam", "momentum"],
)
def test_any_optimizer_reaches_the_minimum(data, slots, optimizer, learning_rate):
    x, y, w = data
    solver = GradientDescent(optimizer, learning_rate=learning_rate, steps=5000, tol=1e-7)
    found = fit(x, y, weights=w, cost=robust_cost(), solver=solver)
    np.testing.assert_array_equal(found.status, Status.ok)
    assert_is_minimum(found, x, y, w, near=2e-5)


@pytest.mark.parametrize("tol", [None, 1e-4])
def test_waiting_for_a_slot_changes_nothing(data, monkeypatch, tol):
    x, y, w = data
    solver = GradientDescent(learning_rate=0.9, steps=40, tol=tol)
    together = fit(x, y, weights=w, cost=robust_cost(), solver=solver)
    monkeypatch.setattr("jaxreg.solvers.descent.SLOT_ELEMENTS", SLOTS * N)
    waiting = fit(x, y, weights=w, cost=robust_cost(), solver=solver)
    np.testing.assert_allclose(waiting.params, together.params, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(waiting.status, together.status)


def test_a_slow_data_set_leaves_the_quick_ones_as_they_are_alone(rng, dtype, slots):
    """One point far out leaves residuals at the start at which the cost has next to no curvature."""
    slow = 3
    x = rng.normal(size=N).astype(dtype)
    y = (x[:, None] + 0.1 * rng.normal(size=(N, M))).astype(dtype)
    y[0, slow] = 3000
    cost, solver = robust_cost(), GradientDescent(learning_rate=0.9, steps=40, tol=1e-6)
    whole = fit(x, y, cost=cost, solver=solver)
    np.testing.assert_array_equal(whole.status == Status.not_converged, np.arange(M) == slow)
    np.testing.assert_array_equal(whole.status == Status.ok, np.arange(M) != slow)
    for i in range(M):
        assert_same(fit(x, y[:, i], cost=cost, solver=solver), whole, i)


def test_too_few_steps_are_not_converged(data, slots):
    x, y, _ = data
    found = fit(x, y, cost=robust_cost(), solver=GradientDescent(steps=2, tol=1e-5))
    np.testing.assert_array_equal(found.status, Status.not_converged)
    assert np.isfinite(found.params).all()
    unmoved = fit(x, y, cost=PSEUDO_HUBER, solver=GradientDescent(steps=0, tol=1e-5))
    np.testing.assert_allclose(unmoved.params, fit(x, y).params, rtol=1e-4)
    np.testing.assert_array_equal(unmoved.status, Status.not_converged)


def test_one_that_diverges_leaves_the_others_alone(rng, dtype, slots):
    x = rng.normal(size=N).astype(dtype)
    y = (x[:, None] + 0.5 * rng.normal(size=(N, M))).astype(dtype)
    y[:5, 2] += 1000  # a quartic cost in units of the variance is steep for large deviations

    def cost(*arguments, **options):  # a function of its own
        return quartic(*arguments, **options)

    solver = GradientDescent(learning_rate=0.02, steps=2000, tol=1e-3)
    found = fit(x, y, cost=cost, solver=solver)
    np.testing.assert_array_equal(found.status == Status.diverged, np.arange(M) == 2)
    assert np.isnan(found.params[:, 2]).all()
    assert np.isnan(found.cost[2])
    others = np.arange(M) != 2
    assert np.isfinite(found.params[:, others]).all()
    clean = fit(x, np.where(others, y, y[:, :1]), cost=cost, solver=solver)
    np.testing.assert_array_equal(found.params[:, others], clean.params[:, others])


def test_data_sets_without_a_fit_get_their_status_and_no_params(data):
    x, y, _ = data
    bad = {1: Status.no_observations, 2: Status.too_few_observations, 4: Status.invalid_data}
    clean = fit(x, y, cost=PSEUDO_HUBER, solver=QUICK)
    y[:, 1], y[1:, 2], y[2, 4] = np.nan, np.nan, np.inf
    found = fit(x, y, cost=PSEUDO_HUBER, solver=QUICK)
    for i in range(M):
        if i in bad:
            assert found.status[i] == bad[i]
            assert np.isnan(found.params[:, i]).all()
        else:
            assert_same(found[i], clean, i)


@pytest.mark.parametrize("own_x", [False, True], ids=["shared x", "own x"])
def test_gradients_are_finite_differences_and_0_where_nothing_is(rng, own_x, monkeypatch):
    monkeypatch.setattr("jaxreg.solvers.descent.MAX_SLOTS", SLOTS)
    n, m = 9, 4
    x = rng.normal(size=(n, m) if own_x else n)
    y = x.reshape(n, -1) + rng.normal(size=(n, m))
    w = rng.uniform(0.5, 2, size=(n, m))
    y[2, 1], y[5, 0], y[:, 3], w[4, 1] = np.nan, np.nan, np.nan, 0
    mix = rng.normal(size=(2, m))
    cost = robust_cost()

    def total(x, y, w):
        found = fit(x, y, weights=w, cost=cost, solver=CLOSE)
        return jnp.sum(jnp.where(found.status == Status.ok, mix * found.params, 0))

    with jax.enable_x64(True):
        gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*map(jnp.asarray, (x, y, w)))

    def explicit(x, y, w):
        ends = [minimum(column(x, i, 2), y[:, i], w[:, i])[0] @ mix[:, i] for i in range(m - 1)]
        return sum(ends)

    arguments = [x, y, w]
    for j, found in enumerate(gradients):
        assert np.isfinite(found).all()
        expected = np.zeros(arguments[j].shape)
        for at in np.ndindex(*expected.shape):
            ends = []
            for step in (1e-5, -1e-5):
                changed = [a.copy() for a in arguments]
                changed[j][at] += step
                if j == 2 and w[at] == 0:
                    changed[j][at] = 0  # a gap stays one
                ends.append(explicit(*changed))
            expected[at] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    there = ~np.isnan(y) & (w != 0)
    assert np.all(np.asarray(gradients[1])[~there] == 0)
    assert np.all(np.asarray(gradients[2])[~there] == 0)
    assert np.all(np.asarray(gradients[1])[there] != 0)
    assert not own_x or np.all(np.asarray(gradients[0])[~there] == 0)


def test_the_gradient_of_the_cost_is_that_of_the_data_alone(rng):
    """At the minimum Ṡ does not feel the params move: ∂S/∂yᵢ = ψ'(eᵢ) / n."""
    x, y = rng.normal(size=9), rng.normal(size=(9, 4))

    def total(y):
        return jnp.sum(fit(x, y, cost=PSEUDO_HUBER, solver=CLOSE).cost)

    with jax.enable_x64(True):
        found = jax.jit(jax.grad(total))(jnp.asarray(y))
    for i in range(4):
        params, _ = minimum(x, y[:, i])
        e = y[:, i] - params[0] - params[1] * x
        np.testing.assert_allclose(found[:, i], e / np.sqrt(1 + e**2) / 9, rtol=1e-8, atol=1e-11)


def test_a_new_learning_rate_and_tolerance_compile_nothing_anew(data):
    x, y, _ = data
    traces = []
    cost = robust_cost(traces)
    fit(x, y, cost=cost, solver=GradientDescent(learning_rate=0.9, steps=50, tol=1e-3))
    once = len(traces)
    assert once > 0
    fit(x, 2 * y, cost=cost, solver=GradientDescent(learning_rate=0.8, steps=50, tol=1e-4))
    assert len(traces) == once


def test_the_mean_squared_error_with_weights_has_its_minimum(rng, dtype):
    """Many data sets: Σw/Σw rounds to 1 in most, and must not matter where it does not."""
    x = rng.normal(size=N).astype(dtype)
    y = (1 + 2 * x[:, None] + rng.normal(size=(N, 200))).astype(dtype)
    w = rng.uniform(0.5, 2, size=(N, 200)).astype(dtype)
    found = fit(x, y, weights=w, solver=GradientDescent())
    for i in range(200):
        expected = np.polyfit(x.astype("f8"), y[:, i].astype("f8"), 1, w=np.sqrt(w[:, i].astype("f8")))[::-1]
        np.testing.assert_allclose(found.params[:, i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_newtons_method_is_what_a_function_gets(data, dtype):
    """In float32 too to the last digits, since the search ends where the gradient is 0."""
    x, y, w = (a.astype(dtype) for a in data)
    y[:, 1] = np.nan
    y[5, 2] = np.inf
    found = fit(x, y, weights=w, cost=robust_cost())
    assert found.status.tolist() == [Status.ok, Status.no_observations, Status.invalid_data, *[0] * (M - 3)]
    assert np.isnan(found.params[:, 1:3]).all()
    keep = [i for i in range(M) if i not in (1, 2)]
    near = 1e-8 if dtype == "f8" else 1e-5
    assert_is_minimum(found[keep], x, y[:, keep], w[:, keep], near=near)
    alone = fit(x, y[:, :1], weights=w[:, :1], cost=robust_cost())
    np.testing.assert_array_equal(found.params[:, 0], alone.params[:, 0])


def test_newtons_method_says_where_there_is_no_minimum(data):
    x, y, _ = data

    def flat(params, x, y, weights=None, *, ansatz):
        return jnp.square(params[1] - 1)

    def falling(params, x, y, weights=None, *, ansatz):
        return jnp.exp(-params[0]) + jnp.square(params[1])

    def broken(params, x, y, weights=None, *, ansatz):
        return jnp.log(-1 - jnp.sum(params**2))

    statuses = [int(fit(x, y[:, 0], cost=cost).status) for cost in (flat, falling, broken)]
    assert statuses == [Status.undetermined, Status.no_minimum, Status.diverged]
    line = fit(x, 1 + 2 * x, cost=quartic)  # where it starts, without curvature
    assert line.status == Status.undetermined

    def far_away(params, x, y, weights=None, *, ansatz):
        return jnp.square(params[0] / 1e12 - 1) + jnp.square(params[1])

    far = fit(x, y[:, 0], cost=far_away)
    assert far.status == Status.not_converged
    few = fit(x, y[:, 0], cost=robust_cost(), solver=Newton(steps=1))
    assert few.status == Status.not_converged
    with pytest.raises(ValueError, match="takes no offset"):
        fit(x, (y[:, 0] > 0) * 1.0, cost=Logistic(), solver=Newton(), offset=x)


@pytest.mark.slow
def test_derivatives_of_newtons_method(data):
    x, y, w = data
    x, y, w = jnp.asarray(x), jnp.asarray(np.nan_to_num(y[:, :3], nan=1.0)), jnp.asarray(w[:, :3])

    def params(y, solver):
        return fit(x, y, weights=w, cost=robust_cost(), solver=solver).params.sum()

    newton, descent = (
        jax.jit(jax.grad(params), static_argnums=1)(y, solver)
        for solver in (Newton(), GradientDescent(steps=3000))
    )
    np.testing.assert_allclose(newton, descent, rtol=1e-3, atol=1e-4)
