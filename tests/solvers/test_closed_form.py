import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import Linear, Polynomial, closed_form, fit, mean_squared_error, moments

pytestmark = pytest.mark.slow_in("float64")


@pytest.fixture
def data(rng, dtype):
    x = rng.normal(size=40).astype(dtype)
    return x, (2 - 3 * x + rng.normal(size=40)).astype(dtype)


def test_equations_14_and_15(data, tol):
    """Equations 14 and 15: β₁ = cov(x, y)/var(x), β₀ = ⟨y⟩ − β₁⟨x⟩."""
    x, y = (a.astype("f8") for a in data)
    slope = np.cov(x, y, bias=True)[0, 1] / np.var(x)
    intercept = y.mean() - slope * x.mean()
    np.testing.assert_allclose(closed_form(moments(*data)), [intercept, slope], rtol=tol)


def test_equation_7_the_momentum_vanishes(data, dtype):
    """Equation 7: ∂S/∂β₀ = 0 = ∂S/∂β₁ at the turning point."""
    found = closed_form(moments(*data))
    with jax.enable_x64(dtype == np.float64):
        gradient = jax.grad(mean_squared_error)(jnp.asarray(found), *map(jnp.asarray, data))
    assert np.abs(gradient).max() < 20 * np.finfo(dtype).eps


def test_no_other_line_costs_less(data, rng):
    x, y = (a.astype("f8") for a in data)
    found = np.asarray(closed_form(moments(*data)), "f8")

    def S(theta):
        return ((y - theta[0] - theta[1] * x) ** 2).mean()

    assert all(S(found) < S(found + 0.01 * step) for step in rng.normal(size=(20, 2)))


@pytest.mark.parametrize("degree", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_polynomials_are_numpys(rng, degree):
    x, y = rng.uniform(3, 5, size=60), rng.normal(size=60)
    found = closed_form(moments(x, y, ansatz=Polynomial(degree)))
    expected = np.polynomial.Polynomial.fit(x, y, degree).convert().coef
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("intercept", [True, False])
def test_linear_is_lstsq(rng, intercept):
    x, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 4))
    found = closed_form(moments(x, y, ansatz=Linear(intercept=intercept)))
    design = np.column_stack([np.ones(60), x]) if intercept else x
    np.testing.assert_allclose(found, np.linalg.lstsq(design, y)[0], rtol=1e-11)


@pytest.mark.slow
def test_a_line_through_exact_points_is_that_line(dtype):
    x = np.arange(10, dtype=dtype)
    found = closed_form(moments(x, 4 - 2 * x))
    np.testing.assert_allclose(found, [4, -2], rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("y", [[1.0, np.nan, np.nan], [np.nan] * 3, [1.0, np.inf, 2.0]])
def test_what_moments_do_not_determine_is_nan(y, dtype):
    found = closed_form(moments(np.arange(3, dtype=dtype), np.array(y, dtype)))
    assert np.isnan(found).all()


def test_constant_x_determines_nothing_wherever_it_lies(dtype):
    x = np.full(5, 1e6 + 0.1, dtype)
    assert np.isnan(closed_form(moments(x, np.arange(5, dtype=dtype)))).all()


def test_shift_and_unit_of_x_move_the_params_and_nothing_else(data, dtype, tol):
    x, y = data
    x = np.round(x * 64) / 64  # so that 4x + 256 is exact in float32
    intercept, slope = np.asarray(closed_form(moments(x, y)), "f8")
    moved = closed_form(moments((4 * x + 256).astype(dtype), y))
    np.testing.assert_allclose(moved, [intercept - 64 * slope, slope / 4], rtol=tol)


def test_the_gradient_is_that_of_the_normal_equations(rng):
    """θ = (XᵀX)⁻¹Xᵀy is linear in y, so its derivative is the pseudo-inverse itself."""
    x, y = rng.normal(size=(2, 20))
    with jax.enable_x64(True):
        found = jax.jacobian(jax.jit(lambda y: closed_form(moments(jnp.asarray(x), y))))(jnp.asarray(y))
    expected = np.linalg.pinv(np.stack([np.ones(20), x], axis=1))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)


def weighted_fit(x, y, w):
    """Params and cost of a line in any arithmetic: complex steps differentiate them."""
    w = w / w.sum()
    x_mean, y_mean = w @ x, w @ y
    slope = w @ ((x - x_mean) * (y - y_mean)) / (w @ (x - x_mean) ** 2)
    intercept = y_mean - slope * x_mean
    return np.array([intercept, slope, w @ (y - intercept - slope * x) ** 2])


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_gradients_through_fit_are_derivatives(rng, shared):
    """Of a mix of params and cost with respect to x, y and weights, with gaps in each."""
    n, m = 9, 3
    y = 5 + rng.normal(size=(n, m))
    x = 3 + rng.normal(size=n if shared else (n, m))
    w = rng.uniform(0.5, 2, size=n if shared else (n, m))
    y[2, 1], w[4], x[6] = np.nan, 0, np.nan
    mix = rng.normal(size=(3, m))

    def total(x, y, w):
        found = fit(x, y, weights=w)
        return jnp.sum(mix[:2] * found.params) + jnp.sum(mix[2] * found.cost)

    with jax.enable_x64(True):
        gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*map(jnp.asarray, (x, y, w)))
    expected = [np.zeros((n, m)) for _ in range(3)]
    for i in range(m):
        columns = np.stack([a if a.ndim == 1 else a[:, i] for a in (x, y, w)])
        there = np.flatnonzero(~np.isnan(columns).any(axis=0) & (columns[2] != 0))
        for j, k in np.ndindex(3, len(there)):
            arguments = columns[:, there].astype(complex)
            arguments[j, k] += 1e-30j
            expected[j][there[k], i] = (mix[:, i] @ weighted_fit(*arguments)).imag / 1e-30
    for found, each in zip(gradients, expected, strict=True):
        each = each if found.ndim == 2 else each.sum(axis=1)
        np.testing.assert_allclose(found, each, rtol=1e-9, atol=1e-12)
