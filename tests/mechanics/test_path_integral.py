"""Amplitudes against quadrature along complex contours, evidence against scipy."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from jaxreg import (
    Linear,
    Polynomial,
    fit,
    laplace,
    mean_squared_error,
    stationary_phase,
)

SLOW = pytest.mark.slow
HBARS = 1 / (2 * np.pi * np.array([4, 8, 16, 32]))  # e^{iS/ħ} = 1 wherever S is whole


# --- quadratic S: exact --------------------------------------------------------------------------


def parabola(q, A, b):
    """½qᵀAq − bᵀq, for JAX and for complex numpy arrays (..., p)."""
    return ((q @ A) * q).sum(-1) / 2 - q @ b


def by_steepest_descent(S, A, hbar, center):
    """∫dθ e^{iS/ħ} along θ = center + Q e^{±iπ/4} s, where the integrand is Gaussian; trapezoidal rule."""
    rates, Q = np.linalg.eigh(A)
    turned = Q * np.exp(1j * np.pi / 4 * np.sign(rates))
    axes = []
    for rate in np.abs(rates):
        width = np.sqrt(hbar / rate)
        axes.append(np.arange(-11 * width, 11 * width, 0.45 * width))
    s = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    cell = np.prod([axis[1] - axis[0] for axis in axes]) * np.linalg.det(turned) / np.linalg.det(Q)
    return np.sum(np.exp(1j * S(center + s @ turned.T) / hbar)) * cell


@pytest.mark.slow
@pytest.mark.parametrize(
    "rates",
    [
        (0.5,),
        (-3.0,),
        (2.0, 0.3),
        (1.0, -2.0),
        *(pytest.param(rates, marks=SLOW) for rates in ((0.4, 1.0, 3.0), (-1.0, 0.5, -2.0))),
    ],
)
def test_stationary_phase_is_exact_for_quadratic_actions(rng, rates):
    """Equation 9 against quadrature, for minima, maxima and saddles; the contour misses the point itself."""
    p = len(rates)
    Q = np.linalg.qr(rng.normal(size=(p, p)))[0]
    A, b = Q * np.array(rates) @ Q.T, rng.normal(size=p)
    hbars = np.array([2.0, 0.3, 0.05])
    result = stationary_phase(parabola, np.zeros(p), A, b, hbar=hbars)
    assert result.points.shape == (1, p)
    np.testing.assert_allclose(result.points[0], np.linalg.solve(A, b), rtol=1e-10)
    assert result.negative_eigenvalues.tolist() == [sum(rate < 0 for rate in rates)]
    offset = 0.1 * rng.normal(size=p)
    for hbar, amplitude in zip(hbars, result.amplitude, strict=True):
        exact = by_steepest_descent(lambda q: parabola(q, A, b), A, hbar, result.points[0] + offset)
        assert abs(amplitude - exact) < 1e-8 * abs(exact)
    same = stationary_phase(parabola, np.zeros(p), A, b, hbar=hbars, order=1)
    np.testing.assert_allclose(same.amplitude, result.amplitude, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("ansatz", [Linear(intercept=False), Polynomial(1), Polynomial(2)], ids=repr)
def test_stationary_phase_is_exact_for_least_squares(rng, ansatz):
    x = rng.uniform(-1, 1, size=(20, 1) if ansatz.x_is_vector else 20)
    y = rng.normal(size=20)
    phi = x if ansatz.x_is_vector else np.vander(x, ansatz.degree + 1, increasing=True)
    A = 2 * phi.T @ phi / 20

    def cost(theta, x, y):
        return mean_squared_error(theta, x, y, ansatz=ansatz)

    result = stationary_phase(cost, np.zeros(len(A)), x, y, hbar=0.1)
    theta = np.asarray(fit(x, y, ansatz=ansatz).params)
    np.testing.assert_allclose(result.points, theta[None], rtol=1e-10)
    exact = by_steepest_descent(lambda q: np.mean((y - q @ phi.T) ** 2, axis=-1), A, 0.1, theta + 0.05)
    assert abs(result.amplitude - exact) < 1e-8 * abs(exact)


# --- other S: errors O(ħ), with the next order O(ħ²) ----------------------------------------

Y = np.array([-0.8, 0.1, 0.5, 1.1])
X = np.array([-1.5, -0.4, 0.3, 0.7, 1.2, 2.0])
OUTCOMES = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 1.0])


def quartic(q):
    return (q**2 / 2 + q**3 / 5 + q**4 / 4).sum()


def double_well(q):
    return ((q**2 - 1) ** 2).sum()


def pseudo_huber(q):
    return sum(jnp.sqrt(1 + (y - q[0]) ** 2) - 1 for y in Y) / len(Y)


def logistic(q):
    return sum(jnp.logaddexp(0, q[0] * x) - s * q[0] * x for x, s in zip(X, OUTCOMES, strict=True)) / len(X)


def complex_pseudo_huber(q):
    return np.mean([np.sqrt(1 + (y - q) ** 2) - 1 for y in Y], axis=0)


def complex_logistic(q):
    def softplus(z):
        return np.where(
            z.real > 0, z + np.log1p(np.exp(-z * np.sign(z.real))), np.log1p(np.exp(z * -np.sign(z.real)))
        )

    return np.mean([softplus(q * x) - s * q * x for x, s in zip(X, OUTCOMES, strict=True)], axis=0)


def ray(angle):
    """The straight line through 0 turned by the angle, and its derivative."""
    return lambda s: (np.exp(1j * angle) * s, np.exp(1j * angle))


def wave(s):
    """A contour above the real line where the double well rises, below it where it falls."""
    up, derivative = s**3 - s, 3 * s**2 - 1
    return s + 0.4j * up / (1 + s**2), 1 + 0.4j * (derivative * (1 + s**2) - 2 * s * up) / (1 + s**2) ** 2


def along(contour, S, hbar):
    """∫dθ e^{iS/ħ} along a contour in the complex plane; trapezoidal rule."""
    s = np.linspace(-12, 12, 400_001)
    theta, derivative = contour(s)
    return np.sum(np.exp(1j * S(theta) / hbar) * derivative) * (s[1] - s[0])


SMOOTH = {
    # cost, its continuation to complex numbers, a contour that crosses no singularity, number of points
    "quartic": (quartic, lambda q: q**2 / 2 + q**3 / 5 + q**4 / 4, ray(np.pi / 8), 1),
    "double well": (double_well, lambda q: (q**2 - 1) ** 2, wave, 3),
    "pseudo-Huber": (pseudo_huber, complex_pseudo_huber, ray(np.pi / 9), 1),
    "logistic": (logistic, complex_logistic, ray(np.pi / 4), 1),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=SLOW if n in ("pseudo-Huber", "logistic") else ()) for n in SMOOTH]
)
def test_the_error_falls_like_hbar_and_with_the_next_order_like_its_square(name):
    cost, complex_cost, contour, points = SMOOTH[name]
    exact = np.array([along(contour, complex_cost, hbar) for hbar in HBARS])
    errors = []
    for order in (0, 1):
        result = stationary_phase(cost, np.zeros(1), hbar=HBARS, order=order)
        assert len(result.points) == points
        errors.append(np.abs(result.amplitude / exact - 1))
    np.testing.assert_allclose(errors[0][:-1] / errors[0][1:], 2, rtol=0.25)
    np.testing.assert_allclose(errors[1][:-1] / errors[1][1:], 4, rtol=0.35)
    assert errors[1][-1] < 0.1 * errors[0][-1]


def test_the_airy_function_has_two_points():
    """∫ e^{i(q³/3 − q)/ħ} = 2πħ^⅓ Ai(−ħ^−⅔): a minimum and a maximum, which interfere."""

    def cubic(q):
        return q[0] ** 3 / 3 - q[0]

    hbars = np.array([0.1, 0.03, 0.01])
    exact = 2 * np.pi * hbars ** (1 / 3) * scipy.special.airy(-(hbars ** (-2 / 3)))[0]
    result = stationary_phase(cubic, np.zeros(1), hbar=hbars, order=1)
    np.testing.assert_allclose(result.points.ravel(), [1, -1], rtol=1e-12)
    assert result.negative_eigenvalues.tolist() == [0, 1]
    # The next term is 385/4608 ζ⁻² with ζ = 2/(3ħ), beside 2√(πħ).
    next_term = 385 / 4608 * (1.5 * hbars) ** 2 * 2 * np.sqrt(np.pi * hbars)
    assert (np.abs(result.amplitude - exact) < 1.1 * next_term).all()


KINKED = np.array([-0.4, 0.1, 0.5, 0.7])


def huber(q):
    return (
        sum(jnp.where(jnp.abs(y - q[0]) < 1, (y - q[0]) ** 2 / 2, jnp.abs(y - q[0]) - 0.5) for y in KINKED)
        / 4
    )


def exact_huber(hbar):
    """Piece by piece: S is a parabola or a line between kinks; the ends by Abel's limit."""
    kinks = np.sort(np.concatenate([KINKED - 1, KINKED + 1]))
    edges = np.concatenate([[-np.inf], kinks, [np.inf]])
    total = 0
    for low, high in itertools.pairwise(edges):
        inside = np.clip((low + high) / 2, kinks[0] - 1, kinks[-1] + 1)
        near = np.abs(KINKED - inside) < 1
        side = np.sign(inside - KINKED)[~near]
        a = near.sum() / 8  # S = aθ² + bθ + c here
        b = (side.sum() - KINKED[near].sum()) / 4
        c = (np.sum(KINKED[near] ** 2) / 2 - np.sum(side * KINKED[~near]) - 0.5 * len(side)) / 4
        total += _piece(a / hbar, b / hbar, c / hbar, low, high)
    return total


def _piece(a, b, c, low, high):
    """∫ e^{i(aθ² + bθ + c)} from low to high."""
    if a == 0:
        ends = [np.exp(1j * (b * end + c)) / (1j * b) if np.isfinite(end) else 0 for end in (low, high)]
        return ends[1] - ends[0]
    root = np.sqrt(-1j * a)
    ends = [scipy.special.erf(root * (end + b / (2 * a))) for end in (low, high)]
    return np.exp(1j * (c - b**2 / (4 * a))) * np.sqrt(np.pi) / (2 * root) * (ends[1] - ends[0])


@pytest.mark.slow
def test_the_error_of_huber_comes_from_kinks_of_the_curvature():
    """S is exactly quadratic around the point: the error comes from the kinks of S'', each O(ħ²)."""
    hbars = HBARS / 4
    result = stationary_phase(huber, np.zeros(1), hbar=hbars)
    assert len(result.points) == 1
    error = np.abs(result.amplitude - np.array([exact_huber(hbar) for hbar in hbars]))
    np.testing.assert_array_less(error, 10 * hbars**2)
    assert error[-1] < error[0] / 16
    np.testing.assert_array_less(error / np.abs(result.amplitude), hbars)  # less than O(ħ)


def test_points_of_every_kind_are_found_once():
    result = stationary_phase(double_well, np.zeros(2), hbar=0.1)
    expected = {(a, b): (a == 0) + (b == 0) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    points = {
        tuple(np.round(q).astype(int)): int(nu)
        for q, nu in zip(result.points, result.negative_eigenvalues, strict=True)
    }
    assert points == expected
    assert len(result.points) == 9
    np.testing.assert_allclose(result.points, np.round(result.points), rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.actions, result.negative_eigenvalues, rtol=0, atol=1e-12)
    one = stationary_phase(double_well, np.zeros(1), hbar=0.1)
    assert result.amplitude == pytest.approx(one.amplitude**2, rel=1e-12)  # S is a sum: 𝒜 is a product


def test_the_search_begins_at_the_starts():
    result = stationary_phase(double_well, np.array([[0.9], [1.2], [5.0]]), hbar=0.1)
    np.testing.assert_allclose(result.points, [[1.0]], rtol=1e-12)


@pytest.mark.slow
def test_the_amplitude_is_0_without_points_and_nan_in_a_valley():
    def plane(q):
        return q[0] + 0 * q[1]

    def valley(q):
        return q[0] ** 2 + 0 * q[1]

    def inflection(q):
        return jnp.sum(q**3)

    def flat_bottom(q):
        return jnp.sum(q**4)

    empty = stationary_phase(plane, np.zeros(2), hbar=0.1)
    assert empty.points.shape == (0, 2)
    assert empty.amplitude == 0
    assert np.isnan(stationary_phase(valley, np.zeros(2), hbar=0.1).amplitude)
    assert np.isnan(stationary_phase(flat_bottom, np.zeros(1), hbar=0.1).amplitude)
    assert np.isnan(
        stationary_phase(flat_bottom, np.full(1, 0.3), hbar=0.1).amplitude
    )  # the search ends next to it
    assert np.isnan(stationary_phase(inflection, np.full(1, 0.3), hbar=0.1).amplitude)


def test_jit_and_vmap_return_the_given_number_of_points():
    A, b = jnp.eye(2), jnp.array([[1.0, 2.0], [3.0, -1.0]])

    def amplitude(b):
        return stationary_phase(parabola, jnp.zeros(2), A, b, hbar=0.5, size=2)

    result = jax.jit(jax.vmap(amplitude))(b)
    np.testing.assert_allclose(result.points[:, 0], b, rtol=1e-6)
    assert np.isnan(result.points[:, 1]).all()
    expected = 2j * np.pi * 0.5 * np.exp(-1j * np.sum(np.square(b), axis=1) / 2 / 0.5)
    np.testing.assert_allclose(result.amplitude, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="inside jit and vmap pass the maximum number of points as size="):
        jax.jit(lambda b: stationary_phase(parabola, jnp.zeros(2), A, b, hbar=0.5))(b[0])


@pytest.mark.slow
def test_amplitudes_can_be_differentiated(rng):
    """Derivatives with respect to the data, which move the point, against central differences."""
    A = np.array([[1.0, 0.3], [0.3, 2.0]])

    def bent(q, A, b):
        return parabola(q, A, b) + jnp.sum(q**4) / 4

    def real_part(b):
        return stationary_phase(
            bent, jnp.zeros(2), A, b, hbar=jnp.asarray(0.3), order=1, size=1
        ).amplitude.real

    with jax.enable_x64(True):
        A, b = jnp.asarray(A), jnp.array([0.4, -0.2])
        both = jax.jit(jax.value_and_grad(real_part))
        _, gradient = both(b)
        for j in range(2):
            step = 1e-5 * jnp.eye(2)[j]
            numeric = (both(b + step)[0] - both(b - step)[0]) / 2e-5
            assert float(gradient[j]) == pytest.approx(float(numeric), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hbar": 0.0}, "hbar must be positive, got 0.0"),
        ({"hbar": 0.1, "order": 2}, "order is 0 or 1, got 2"),
        ({"params": np.zeros((2, 2, 2)), "hbar": 1.0}, r"or starts \(starts, p\); got shape \(2, 2, 2\)"),
    ],
)
def test_bad_arguments_are_errors(arguments, message):
    arguments = {"params": np.zeros(1)} | arguments
    with pytest.raises(ValueError, match=message):
        stationary_phase(double_well, **arguments)


# --- the Wick rotation ---------------------------------------------------------------------------


@pytest.fixture
def line(rng):
    x, y = rng.uniform(-1, 1, 25), rng.normal(size=25)
    y[3] = np.nan
    return x, y, np.where(rng.random(25) < 0.2, 0, rng.uniform(0.5, 2, 25))


def test_at_the_right_temperature_the_covariance_is_that_of_least_squares(line, statsmodels, dtype, tol):
    """T = 2σ²/Σw makes e^{−S/T} the likelihood."""
    x, y, w = (a.astype(dtype) for a in line)
    expected = statsmodels(np.vander(x, 3, increasing=True), y, w)
    valid = ~np.isnan(y)

    def cost(theta, x, y, w):
        return mean_squared_error(theta, x, y, w, ansatz=Polynomial(2))

    T = 2 * expected.scale / w[valid].sum()
    gaussian = laplace(cost, np.ones(3, dtype), x, y, w, temperature=T)
    np.testing.assert_allclose(gaussian.mean, expected.params, rtol=0, atol=10 * tol)
    np.testing.assert_allclose(gaussian.covariance, expected.cov_params(), rtol=0, atol=10 * tol)
    assert gaussian.mean.dtype == gaussian.covariance.dtype == dtype


def test_the_evidence_of_a_quadratic_is_exact(line):
    x, y, _ = line
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    gaussian = laplace(mean_squared_error, np.zeros(2), x, y, temperature=0.2)
    (b0, b1), (s0, s1) = gaussian.mean, np.sqrt(np.diag(gaussian.covariance))

    def density(slope, intercept):
        return np.exp(-np.mean((y - intercept - slope * x) ** 2) / 0.2)

    exact, _ = scipy.integrate.dblquad(
        density, b0 - 9 * s0, b0 + 9 * s0, b1 - 9 * s1, b1 + 9 * s1, epsabs=1e-13, epsrel=1e-11
    )
    assert float(gaussian.log_evidence) == pytest.approx(np.log(exact), abs=1e-9)


@pytest.mark.parametrize("degree", [3, *(pytest.param(degree, marks=SLOW) for degree in (1, 2, 4, 5, 6))])
def test_with_a_prior_the_evidence_is_the_marginal_likelihood(rng, degree):
    """log ∫ p(y|θ) p(θ) dθ = log N(y; 0, σ² + τ²ΦΦᵀ), by scipy, for each polynomial."""
    x = np.linspace(-1, 1, 40)
    y = 1 - 2 * x + 3 * x**3 + 0.3 * rng.normal(size=40)
    assert _evidence(x, y, degree, 0.3, 2.0) == pytest.approx(_marginal(x, y, degree, 0.3, 2.0), rel=1e-9)


@pytest.mark.slow
def test_the_evidence_selects_the_degree(rng):
    x = np.linspace(-1, 1, 40)
    y = 1 - 2 * x + 3 * x**3 + 0.3 * rng.normal(size=40)
    assert np.argmax([_evidence(x, y, degree, 0.3, 2.0) for degree in range(1, 7)]) == 2


def _evidence(x, y, degree, sigma, tau):
    T = 2 * sigma**2 / len(y)

    def cost(theta, x, y):
        return mean_squared_error(theta, x, y, ansatz=Polynomial(degree)) + T * theta @ theta / (2 * tau**2)

    gaussian = laplace(cost, np.zeros(degree + 1), x, y, temperature=T)
    norm = len(y) * np.log(2 * np.pi * sigma**2) + (degree + 1) * np.log(2 * np.pi * tau**2)
    return float(gaussian.log_evidence) - norm / 2


def _marginal(x, y, degree, sigma, tau):
    phi = np.vander(x, degree + 1, increasing=True)
    covariance = sigma**2 * np.eye(len(y)) + tau**2 * phi @ phi.T
    return scipy.stats.multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)


def test_the_error_of_the_evidence_falls_like_t_and_with_the_next_order_like_its_square():
    temperatures = 0.01 / np.array([1, 2, 4, 8])
    exact = np.log([_partition_function(T) for T in temperatures])
    errors = []
    for order in (0, 1):
        evidence = [
            laplace(quartic, np.ones(1), temperature=T, order=order).log_evidence for T in temperatures
        ]
        errors.append(np.abs(np.array(evidence) - exact))
    np.testing.assert_allclose(errors[0][:-1] / errors[0][1:], 2, rtol=0.2)
    np.testing.assert_allclose(errors[1][:-1] / errors[1][1:], 4, rtol=0.4)


def _partition_function(T):
    def density(q):
        return np.exp(-(q**2 / 2 + q**3 / 5 + q**4 / 4) / T)

    return scipy.integrate.quad(density, -12 * T**0.5, 12 * T**0.5, epsabs=0, epsrel=1e-13, limit=200)[0]


@pytest.mark.slow
def test_many_data_sets_at_once_and_gradients(rng):
    x = np.linspace(-1, 1, 20)
    y = rng.normal(size=(20, 5))

    def laplace_of(y):
        return laplace(mean_squared_error, jnp.zeros(2), x, y, temperature=0.1)

    with jax.enable_x64(True):
        x, y = jnp.asarray(x), jnp.asarray(y)
        many = jax.vmap(laplace_of, in_axes=1)(y)
        np.testing.assert_allclose(many.mean.T, fit(x, y).params, rtol=1e-9)
        for i in range(5):
            np.testing.assert_allclose(many.log_evidence[i], laplace_of(y[:, i]).log_evidence, rtol=1e-12)

        @jax.jit
        def gradients(y):
            found, pull = jax.vjp(lambda y: (laplace_of(y).mean[1], laplace_of(y).log_evidence), y)
            one, none = jnp.ones_like(found[0]), jnp.zeros_like(found[0])
            of_fit = jax.grad(lambda y: fit(x, y).params[1])(y)
            return *pull((one, none)), *pull((none, one)), of_fit

        gradient, energy, of_fit = gradients(y[:, 0])
        np.testing.assert_allclose(gradient, of_fit, rtol=1e-9)
        residual = y[:, 0] - many.mean[0, 0] - many.mean[0, 1] * x
        np.testing.assert_allclose(energy, -2 * residual / 20 / 0.1, rtol=1e-9)


def test_the_gaussian_is_nan_without_a_minimum():
    def cubic(q):
        return jnp.sum(q**3)

    gaussian = laplace(cubic, np.ones(1), temperature=0.1)
    assert np.isnan(gaussian.covariance).all()
    assert np.isnan(gaussian.log_evidence)


def wells(q, center, width):
    return (((q[0] - center) / width) ** 2 - 1) ** 2 + (q[1] ** 2 - 1) ** 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("center", "width", "dtype"), [(1e6, 1.0, "f8"), (0.0, 1e-6, "f8"), (100.0, 0.1, "f4"), (0.0, 1e-3, "f4")]
)
def test_points_close_to_each_other_are_distinct(center, width, dtype):
    """Three points in one param, in any unit, times three in another."""

    starts = np.array([[a, b] for a in (-1.1, 0.05, 0.9) for b in (-1.2, 0.1, 1.3)])
    starts = (center + starts * [width, 1] - [0, center]).astype(dtype)
    result = stationary_phase(wells, starts, *np.array([center, width], dtype), hbar=0.1)
    assert len(result.points) == 9
    assert sorted(result.negative_eigenvalues.tolist()) == [0, 0, 0, 0, 1, 1, 1, 1, 2]


def test_the_default_starts_reach_points_far_out_in_one_param():
    def cost(q):
        return ((q[0] - 1e6) / 10) ** 2 + (q[1] ** 2 - 1) ** 2

    result = stationary_phase(cost, np.array([1e6, 0.0]), hbar=0.1)
    assert len(result.points) == 3
    assert complex(result.amplitude) == pytest.approx(
        -1.86394829 + 1.9330816j, rel=1e-8
    )  # 10 √(iπħ) 𝒜 of a well


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_gaussian_is_accurate_in_any_unit_of_x(rng, dtype, unit):
    x = (unit * np.linspace(0, 1, 20)).astype(dtype)
    y = (1 + 2 * np.linspace(0, 1, 20) + 0.1 * rng.normal(size=20)).astype(dtype)
    line = fit(x, y)
    gaussian = laplace(mean_squared_error, np.zeros(2, dtype), x, y, temperature=2 * line.scale / 20)
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(gaussian.mean, line.params, rtol=rtol)
    np.testing.assert_allclose(np.sqrt(np.diag(gaussian.covariance)), line.bse, rtol=rtol)


def test_the_minimum_is_accurate_with_a_large_offset_of_the_cost(dtype):
    offset = 1e4 if dtype == np.float32 else 1e10

    def cost(q):
        return offset + jnp.cosh(q[0] - 1)

    gaussian = laplace(cost, np.zeros(1, dtype), temperature=1.0)
    assert float(gaussian.mean[0]) == pytest.approx(1, rel=10 * float(np.finfo(dtype).eps))
    assert float(gaussian.covariance[0, 0]) == pytest.approx(1, rel=1e-5)


def test_second_derivatives_of_the_gaussian():
    """Those of the minimum of cosh(q − b) + b q² and of its evidence, by mpmath."""

    def cost(q, b):
        return jnp.cosh(q[0] - b) + b * q[0] ** 2

    def mean(b):
        return laplace(cost, jnp.zeros(1), b, temperature=0.3).mean[0]

    def exact(b):
        return mpmath.findroot(lambda q: mpmath.sinh(q - b) + 2 * b * q, 0.3)

    with jax.enable_x64(True):
        first, second = jax.jit(jax.value_and_grad(jax.grad(mean)))(0.7)
        assert float(first) == pytest.approx(float(mpmath.diff(exact, 0.7)), rel=1e-8)
        assert float(second) == pytest.approx(float(mpmath.diff(exact, 0.7, 2)), rel=1e-6)


def test_more_than_one_temperature_is_an_error():
    with pytest.raises(ValueError, match=r"temperature is one number, got shape \(2,\)"):
        laplace(quartic, np.zeros(1), temperature=np.array([0.1, 0.2]))


@pytest.mark.parametrize("integral", [stationary_phase, laplace])
def test_a_cost_of_many_numbers_is_an_error(integral):
    scale = {"hbar": 0.1} if integral is stationary_phase else {"temperature": 0.1}
    with pytest.raises(ValueError, match=r"a cost returns one number, .* got shape \(2,\)"):
        integral(jnp.square, np.zeros(2), **scale)
