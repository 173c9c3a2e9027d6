"""The flow against matrix exponentials, an integrator, single steps, and ridge regression."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.linalg

from jaxreg import (
    Line,
    Linear,
    Polynomial,
    Status,
    descend,
    exact_flow,
    learning_rates,
    linearized_flow,
    mean_squared_error,
    moments,
    momentum,
)

pytestmark = pytest.mark.slow_in("float64")
THETA = np.array([0.7, -1.2])


@pytest.fixture
def data(rng, dtype):
    x = rng.normal(size=30).astype(dtype) + dtype.type(0.5)
    return x, (1 + 2 * x + rng.normal(size=30)).astype(dtype)


def test_momentum_is_the_sums_of_equations_10_and_11(data, dtype):
    """Equations 8, 10, 11: p = ∂S is −(2/n)Σ(y − β₀ − β₁x) and −(2/n)Σx(y − β₀ − β₁x)."""
    x, y = data
    p = momentum(mean_squared_error, THETA.astype(dtype), x, y)
    theta = THETA.astype(dtype).astype("f8")
    e = y.astype("f8") - theta[0] - theta[1] * x.astype("f8")
    expected = [-2 / 30 * e.sum(), -2 / 30 * (x * e).sum()]
    np.testing.assert_allclose(p, expected, rtol=20 * np.finfo(dtype).eps)
    assert p.dtype == dtype


def test_the_moments_give_the_momentum_of_equations_12_and_13(data, dtype):
    """Equations 12, 13: −2[⟨y⟩ − β₀ − β₁⟨x⟩] and −2[⟨xy⟩ − β₀⟨x⟩ − β₁⟨x²⟩], against 10 and 11."""
    x, y = data
    m = moments(x, y)
    ((_, x1), (_, x2)), (y1, xy) = np.asarray(m.gram, "f8"), np.asarray(m.cross, "f8")
    b0, b1 = THETA
    from_moments = [-2 * (y1 - b0 - b1 * x1), -2 * (xy - b0 * x1 - b1 * x2)]
    e = y.astype("f8") - b0 - b1 * x.astype("f8")
    expected = [-2 * e.mean(), -2 * (x * e).mean()]
    np.testing.assert_allclose(from_moments, expected, rtol=20 * np.finfo(dtype).eps)


def test_momentum_of_integer_params_and_of_a_cost_of_many_numbers(data):
    x, y = data
    p = momentum(mean_squared_error, np.array([1, 2]), x, y)
    np.testing.assert_array_equal(p, momentum(mean_squared_error, np.array([1, 2], x.dtype), x, y))
    for of_params in (momentum, linearized_flow):
        with pytest.raises(ValueError, match=r"a cost returns one number, .* got shape \(2,\)"):
            of_params(lambda theta: theta**2, np.ones(2))


def test_momentum_is_zero_only_at_the_turning_point(data, dtype):
    """Equations 7 and 8."""
    x, y = data
    best = np.polyfit(x.astype("f8"), y.astype("f8"), 1)[::-1].astype(dtype)
    assert np.abs(momentum(mean_squared_error, best, x, y)).max() < 50 * np.finfo(dtype).eps
    assert np.abs(momentum(mean_squared_error, best + dtype.type(0.1), x, y)).max() > 0.1


@pytest.mark.parametrize(
    "ansatz", [Polynomial(2), pytest.param(Linear(intercept=False), marks=pytest.mark.slow)], ids=repr
)
def test_learning_rates_are_of_the_eigenvalues_of_the_curvature(rng, ansatz):
    x = rng.normal(size=(30, 2) if ansatz.x_is_vector else 30)
    y = rng.normal(size=(30, 3))
    y[4:9, 1] = np.nan
    rates = learning_rates(moments(x, y, ansatz=ansatz))
    with jax.enable_x64(True):
        features = np.asarray(ansatz.features(jnp.asarray(x)))
    for i in range(3):
        phi = features[~np.isnan(y[:, i])]
        eigenvalues = np.linalg.eigvalsh(2 * phi.T @ phi / len(phi))
        assert float(rates.largest[i]) == pytest.approx(2 / eigenvalues[-1], rel=1e-12)
        best = 2 / (eigenvalues[0] + eigenvalues[-1])
        assert float(rates.best[i]) == pytest.approx(best, rel=1e-12)


@pytest.mark.slow
def test_learning_rates_of_no_data_are_nan(dtype):
    y = np.full((5, 3), np.nan, dtype)
    y[:, 0] = 1
    y[:, 2] = np.inf
    rates = learning_rates(moments(np.arange(5, dtype=dtype), y))
    np.testing.assert_array_equal(np.isnan(rates.largest), [False, True, True])
    assert rates.largest.dtype == dtype


@pytest.mark.parametrize(("factor", "status"), [(0.97, Status.ok), (1.03, Status.diverged)])
def test_descents_converge_below_the_largest_rate_and_diverge_above_it(data, dtype, factor, status):
    """Equation 16: 'too large one may just miss the minimum completely'."""
    x, y = data
    alpha = factor * float(learning_rates(moments(x, y)).largest)
    start = THETA.astype(dtype)
    descent = descend(mean_squared_error, start, x, y, optimizer=optax.sgd(alpha), steps=20_000)
    assert descent.status == status
    if status == Status.ok:
        best = np.polyfit(x.astype("f8"), y.astype("f8"), 1)[::-1]
        np.testing.assert_allclose(descent.params, best, rtol=100 * np.finfo(dtype).eps)


def test_no_rate_shrinks_the_error_faster_than_the_best(rng):
    x = rng.normal(size=30) + 0.5
    y = rng.normal(size=30)
    best = float(learning_rates(moments(x, y)).best)
    phi = np.stack([np.ones(30), x], axis=1)
    H = 2 * phi.T @ phi / 30

    def shrinkage(alpha):
        return np.abs(np.linalg.eigvalsh(np.eye(2) - alpha * H)).max()

    others = best * np.array([0.5, 0.9, 0.99, 1.01, 1.1])
    assert shrinkage(best) < min(map(shrinkage, others))


# --- the flow, the iteration and the oscillation -------------------------------------------------

TIMES = np.array([0.0, 0.3, 2.0, 15.0])
ANSATZE = [
    Line(),
    *(pytest.param(a, marks=pytest.mark.slow) for a in (Polynomial(3), Linear(intercept=False))),
]


class Quadratic:
    """Three data sets with gaps, and H, θ* and S of each by numpy in float64."""

    def __init__(self, rng, dtype, ansatz):
        self.x = rng.uniform(-1, 1, size=(40, 2) if ansatz.x_is_vector else 40).astype(dtype)
        self.y = rng.normal(size=(40, 3)).astype(dtype)
        self.y[5:11, 1] = np.nan
        self.moments = moments(self.x, self.y, ansatz=ansatz)
        self.flow = exact_flow(self.moments)
        x = self.x.astype("f8")
        self.features = x if ansatz.x_is_vector else np.vander(x, len(self.flow.rates), increasing=True)
        self.start = rng.normal(size=len(self.flow.rates)).astype(dtype)

    def of(self, i):
        valid = ~np.isnan(self.y[:, i])
        phi, y = self.features[valid], self.y[valid, i].astype("f8")
        H = 2 * phi.T @ phi / len(phi)
        return H, np.linalg.lstsq(phi, y)[0], lambda theta: np.mean((y - phi @ theta) ** 2)


@pytest.fixture(params=ANSATZE, ids=repr)
def quadratic(request, rng, dtype):
    return Quadratic(rng, dtype, request.param)


def test_the_flow_is_the_matrix_exponential(quadratic, tol):
    """Equations 12 and 13: θ(t) = θ* + e^{−Ht}(θ₀ − θ*), with p = ∇S and S along it."""
    path = quadratic.flow.trajectory(quadratic.start, TIMES)
    for i in range(3):
        H, best, S = quadratic.of(i)
        for k, t in enumerate(TIMES):
            theta = best + scipy.linalg.expm(-H * t) @ (quadratic.start - best)
            np.testing.assert_allclose(path.params[k, :, i], theta, rtol=0, atol=5 * tol)
            np.testing.assert_allclose(path.momentum[k, :, i], H @ (theta - best), rtol=0, atol=5 * tol)
            assert float(path.cost[k, i]) == pytest.approx(S(theta), rel=5 * tol)
    np.testing.assert_array_equal(path.velocity, -path.momentum)
    assert path.params.dtype == quadratic.x.dtype


def test_the_iteration_is_that_of_single_steps(quadratic, tol):
    """Equation 16: k steps in closed form against the power of the iteration matrix."""
    alpha = 0.9 * quadratic.flow.learning_rates.largest.min()
    steps = np.array([0, 1, 2, 7, 400])
    path = quadratic.flow.iteration(quadratic.start, alpha, steps)
    for i in range(3):
        H, best, _ = quadratic.of(i)
        for j, k in enumerate(steps):
            P = np.linalg.matrix_power(np.eye(len(H)) - float(alpha) * H, k)
            expected = best + P @ (quadratic.start - best)
            np.testing.assert_allclose(path.params[j, :, i], expected, rtol=0, atol=20 * tol)
    np.testing.assert_allclose(path.times, alpha * steps, rtol=1e-6)


def test_descend_takes_the_same_steps(rng, dtype, tol):
    x, y = rng.normal(size=(2, 30)).astype(dtype)
    descent = descend(
        mean_squared_error, np.zeros(2, dtype), x, y, optimizer=optax.sgd(0.1), steps=50, history=True
    )
    path = exact_flow(moments(x, y)).iteration(np.zeros(2, dtype), 0.1, np.arange(51))
    np.testing.assert_allclose(path.params, descent.history.params, rtol=0, atol=10 * tol)
    np.testing.assert_allclose(path.cost, descent.history.cost, rtol=10 * tol)


def test_the_step_error_is_the_iteration_less_the_flow(quadratic, tol):
    alpha = 0.5 * quadratic.flow.learning_rates.largest.min()
    steps = np.array([0, 1, 5, 60])
    error = quadratic.flow.step_error(quadratic.start, alpha, steps)
    for i in range(3):
        H, best, _ = quadratic.of(i)
        for j, k in enumerate(steps):
            P = np.linalg.matrix_power(np.eye(len(H)) - float(alpha) * H, k)
            flow = scipy.linalg.expm(-H * float(alpha) * k)
            expected = (P - flow) @ (quadratic.start - best)
            np.testing.assert_allclose(error[j, :, i], expected, rtol=0, atol=20 * tol)


def test_the_step_error_falls_like_the_learning_rate(quadratic):
    """To first order −½αt H²e^{−Ht}(θ₀ − θ*), which a difference of the two would lose to rounding."""
    H, best, _ = quadratic.of(0)
    for steps in (1_000, 1_000_000):
        alpha = 2.0 / steps
        error = quadratic.flow.step_error(quadratic.start, alpha, steps)[:, 0]
        first = -alpha / 2 * 2.0 * H @ H @ scipy.linalg.expm(-2.0 * H) @ (quadratic.start - best)
        np.testing.assert_allclose(error, first, rtol=0, atol=(5 * alpha + 1e-5) * np.abs(first).max())


@pytest.mark.parametrize("friction", [0.0, "critical", 5.0])
def test_the_oscillation_solves_newtons_equation(quadratic, tol, friction):
    """θ̈ + γθ̇ = −∇S against scipy's integrator, on both sides of critical damping and at it."""
    if friction == "critical":
        friction = quadratic.flow.critical_friction[0]
    gamma = np.broadcast_to(np.asarray(friction), 3)
    velocity = 0.5 * quadratic.start[::-1]
    path = quadratic.flow.oscillation(quadratic.start, TIMES, friction, velocity)
    for i in range(3):
        H, best, _ = quadratic.of(i)
        p = len(best)

        def newton(t, state, H=H, best=best, p=p, gamma=float(gamma[i])):
            return np.concatenate([state[p:], -H @ (state[:p] - best) - gamma * state[p:]])

        start = np.concatenate([quadratic.start, velocity]).astype("f8")
        ends = scipy.integrate.solve_ivp(newton, (0, 15), start, "DOP853", TIMES, rtol=1e-12, atol=1e-12).y.T
        np.testing.assert_allclose(path.params[..., i], ends[:, :p], rtol=0, atol=20 * tol)
        np.testing.assert_allclose(path.velocity[..., i], ends[:, p:], rtol=0, atol=20 * tol)


def test_descent_with_momentum_discretizes_the_oscillation(rng):
    """optax.sgd(α, μ) at the times k√α with γ = (1 − μ)/√α: the error falls like √α."""
    x, y = rng.normal(size=(2, 30))
    flow, gamma = exact_flow(moments(x, y)), 0.8
    errors = []
    for h in (0.02, 0.01, 0.005):
        optimizer = optax.sgd(h**2, momentum=1 - gamma * h)
        descent = descend(mean_squared_error, np.zeros(2), x, y, optimizer=optimizer, steps=round(2 / h))
        errors.append(np.abs(descent.params - flow.oscillation(np.zeros(2), 2.0, gamma).params).max())
    assert errors[0] < 0.02
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, rtol=0.05)


def test_no_friction_converges_faster_than_the_critical_one(quadratic):
    """At late times the error falls with the slowest root of s² + γs + λ."""

    def slowest(gamma, rates):
        return max(np.roots([1, gamma, rate]).real.max() for rate in rates)

    for i in range(3):
        H, _, _ = quadratic.of(i)
        rates, best = np.linalg.eigvalsh(H), float(quadratic.flow.critical_friction[0, i])
        others = [slowest(factor * best, rates) for factor in (0.8, 0.99, 1.01, 1.2)]
        assert slowest(best, rates) < min(others)


def test_half_lives_condition_number_and_rates(quadratic, tol):
    for i in range(3):
        H, _, _ = quadratic.of(i)
        rates = np.linalg.eigvalsh(H)
        np.testing.assert_allclose(quadratic.flow.rates[:, i], rates, rtol=tol)
        np.testing.assert_allclose(quadratic.flow.half_lives[:, i], np.log(2) / rates, rtol=tol)
        assert float(quadratic.flow.condition_number[i]) == pytest.approx(rates[-1] / rates[0], rel=tol)
        V = np.asarray(quadratic.flow.directions[..., i], "f8")
        np.testing.assert_allclose(V @ np.diag(rates) @ V.T, H, rtol=0, atol=10 * tol)


def test_small_rates_keep_their_digits_next_to_large_ones(dtype):
    """An intercept beside raw calendar years, κ = 6·10⁹, where H in float32 has no second eigenvalue."""
    x = np.arange(1850, 2021).astype(dtype)
    flow = exact_flow(moments(x, np.zeros((171, 3), dtype)))
    with mpmath.workdps(40):
        phi = mpmath.matrix([[1, int(a)] for a in x])
        exact = mpmath.eigsy(2 * phi.T * phi / 171, eigvals_only=True)
    np.testing.assert_allclose(flow.rates[:, 0], [float(a) for a in exact], rtol=1e-6)


def test_early_stopping_is_shrinkage(quadratic, tol):
    """The effective degrees of freedom are the trace of ∂ŷ/∂y; the shrinkage is close to that of ridge."""
    times = np.array([0.1, 1.0, 10.0])
    for i in range(3):
        H, _, _ = quadratic.of(i)
        phi = quadratic.features[~np.isnan(quadratic.y[:, i])]
        for k, t in enumerate(times):
            to_params = (np.eye(len(H)) - scipy.linalg.expm(-H * t)) @ np.linalg.pinv(phi)
            dof = np.trace(phi @ to_params)
            assert float(quadratic.flow.effective_dof(times)[k, i]) == pytest.approx(dof, rel=10 * tol)
    shrinkage = quadratic.flow.shrinkage(times)
    ridge = quadratic.flow.rates / (quadratic.flow.rates + 1 / times[:, None, None])
    np.testing.assert_allclose(np.sum(shrinkage, axis=1), quadratic.flow.effective_dof(times), rtol=10 * tol)
    assert (shrinkage >= ridge * (1 - tol)).all()  # 1 − e^{−s} ≥ s/(1 + s)
    assert (shrinkage < 1.3 * ridge).all()  # and at most 29.9 % more


@pytest.mark.slow
def test_only_data_sets_without_moments_or_turning_point_are_nan(dtype):
    x = np.arange(6, dtype=dtype)
    y = np.ones((6, 3), dtype) * x[:, None]
    y[:, 1] = np.nan
    y[1:, 2] = np.nan  # one observation: the minimum of S is a valley
    path = exact_flow(moments(x, y)).trajectory(np.zeros(2, dtype), 1.0)
    np.testing.assert_array_equal(np.isnan(path.params[0]), [False, True, True])
    np.testing.assert_array_equal(np.isnan(exact_flow(moments(x, y)).rates[0]), [False, True, False])


@pytest.mark.parametrize(
    "ansatz", [Polynomial(0), pytest.param(Linear(intercept=False), marks=pytest.mark.slow)], ids=repr
)
def test_a_single_param_has_a_flow(rng, dtype, tol, ansatz):
    x = rng.uniform(1, 2, size=(20, 1) if ansatz.x_is_vector else 20).astype(dtype)
    y = rng.normal(size=(20, 3)).astype(dtype)
    phi = x.astype("f8").ravel() if ansatz.x_is_vector else np.ones(20)
    rate, best = 2 * np.mean(phi**2), phi @ y.astype("f8") / (phi @ phi)
    flow = exact_flow(moments(x, y, ansatz=ansatz))
    np.testing.assert_allclose(flow.rates, np.full((1, 3), rate), rtol=tol)
    end = flow.trajectory(np.ones(1, dtype), 0.3).params
    np.testing.assert_allclose(end[0], best + np.exp(-0.3 * rate) * (1 - best), rtol=0, atol=5 * tol)


def test_a_start_of_the_wrong_shape_is_an_error(rng):
    flow = exact_flow(moments(np.arange(5.0), rng.normal(size=(5, 3))))
    with pytest.raises(ValueError, match=r"a point has shape \(2,\) or \(2, 3\), got \(3,\)"):
        flow.trajectory(np.zeros(3), 1.0)


@pytest.mark.slow
def test_gradients_through_the_flow(rng):
    """Against a matrix exponential that JAX differentiates, in forward and reverse mode."""
    x, y = rng.normal(size=(2, 12))
    start, mix = np.full(3, 0.3), np.array([1.0, -2.0, 0.5])

    def end(x, y):
        path = exact_flow(moments(x, y, ansatz=Polynomial(2))).trajectory(start, 0.7)
        return path.params @ mix + path.cost

    def by_hand(x, y):
        phi = jnp.stack([jnp.ones(12), x, x**2], axis=1)
        A, b = phi.T @ phi / 12, phi.T @ y / 12
        best = jnp.linalg.solve(A, b)
        theta = best + jax.scipy.linalg.expm(-2 * A * 0.7) @ (start - best)
        return theta @ mix + jnp.mean((y - phi @ theta) ** 2)

    with jax.enable_x64(True):
        x, y = jnp.asarray(x), jnp.asarray(y)
        expected = jax.jit(jax.grad(by_hand, (0, 1)))(x, y)
        for gradients in jax.jit(lambda *a: (jax.grad(end, (0, 1))(*a), jax.jacfwd(end, (0, 1))(*a)))(x, y):
            for a, b in zip(gradients, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_the_linearized_flow_of_a_quadratic_is_the_flow(rng, dtype, tol):
    x = rng.uniform(-1, 1, 30).astype(dtype)
    y = rng.normal(size=(30, 3)).astype(dtype)
    flow = exact_flow(moments(x, y))

    def local(theta, y):
        return linearized_flow(mean_squared_error, theta, x, y)

    with jax.enable_x64(bool(dtype == np.float64)):
        many = jax.vmap(local, in_axes=(-1, -1), out_axes=-1)(jnp.asarray(flow.turning_point), jnp.asarray(y))
    np.testing.assert_allclose(many.rates, flow.rates, rtol=10 * tol)
    np.testing.assert_allclose(many.cost, flow.cost, rtol=10 * tol)
    a, b = (f.trajectory(np.zeros(2, dtype), 0.5).params for f in (many, flow))
    np.testing.assert_allclose(a, b, rtol=0, atol=20 * tol)


SLOW_GAPS = [pytest.param(gap, marks=pytest.mark.slow) for gap in (1e-12, 1e-9, 1e-6, 1e-3, 0.3)]


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.0, *SLOW_GAPS])
def test_gradients_through_the_flow_where_eigenvalues_meet(gap):
    """θ(t) has a derivative where eigenvectors have none: against scipy and central differences in x."""
    x, y = np.array([-1.0, 1 + gap, -1, 1]), np.array([1.0, 2, 3, 5])
    start, t = np.array([0.3, 0.7]), 0.7

    def oracle(x):
        phi = np.stack([np.ones(4), x], axis=1)
        best = np.linalg.lstsq(phi, y)[0]
        return best + scipy.linalg.expm(-2 * phi.T @ phi / 4 * t) @ (start - best)

    def ends(x):
        flow = exact_flow(moments(x, y))
        return flow.trajectory(start, t).params, flow.oscillation(start, t, 0.0).params

    with jax.enable_x64(True):
        by_flow, by_oscillation = jax.jit(jax.jacrev(ends))(x)
    h = 1e-5
    numeric = np.stack([(oracle(x + h * e) - oracle(x - h * e)) / (2 * h) for e in np.eye(4)], axis=1)
    np.testing.assert_allclose(by_flow, numeric, rtol=0, atol=1e-7)
    assert np.isfinite(by_oscillation).all()


@pytest.mark.slow
def test_vmap_equals_many_data_sets_in_one_call(rng):
    x, y = np.linspace(0, 1, 9, dtype="f4"), rng.normal(size=(3, 9)).astype("f4")
    many = jax.vmap(lambda y: exact_flow(moments(x, y)).trajectory(jnp.zeros(2), 1.0).params)(y)
    expected = exact_flow(moments(x, y.T)).trajectory(np.zeros(2, "f4"), 1.0).params
    np.testing.assert_allclose(many.T, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_data_set_does_not_depend_on_its_neighbors(rng):
    x, y = rng.normal(size=(30, 64)), rng.normal(size=(30, 64))
    x[:, 7] = 2000 + np.arange(30)
    many = exact_flow(moments(x, y))
    subset = exact_flow(moments(x[:, 3:6], y[:, 3:6]))
    np.testing.assert_array_equal(many.rates[:, 3:6], subset.rates)
    np.testing.assert_array_equal(many.directions[..., 3:6], subset.directions)


@pytest.mark.parametrize("friction", [3.0, 1e3, 1e5])
def test_the_velocity_is_accurate_under_heavy_friction(rng, friction):
    x, y = rng.uniform(-1, 1, 30).astype("f4"), rng.normal(size=30).astype("f4")
    velocity = np.array([0.3, 0.4], "f4")
    flow = exact_flow(moments(x, y))
    result = flow.oscillation(np.zeros(2, "f4"), 5.0, friction, velocity).velocity
    exact = exact_flow(moments(x.astype("f8"), y.astype("f8")))
    expected = exact.oscillation(np.zeros(2), 5.0, friction, velocity.astype("f8")).velocity
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_fractional_steps_and_frictions_of_the_wrong_shape_are_errors(rng):
    flow = exact_flow(moments(np.arange(5.0), rng.normal(size=5)))
    with pytest.raises(ValueError, match="steps are whole numbers"):
        flow.iteration(np.zeros(2), 0.1, 2.5)
    with pytest.raises(ValueError, match=r"friction is a number or one per data set, \(\); got shape \(2,\)"):
        flow.oscillation(np.zeros(2), 1.0, np.ones(2))
