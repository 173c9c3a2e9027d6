import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import GradientDescent, Linear, Polynomial, fit, mean_squared_error, residuals
from jaxreg.gaps import observed

X = np.array([0.0, 1.0, 2.0, 4.0], "f4")
Y = np.array([1.0, 2.0, 7.0, 3.0], "f4")
THETA = np.array([0.5, 1.5], "f4")


def test_residuals_are_equation_4():
    """Equation 4: ε(θ) = y − (β₀ + β₁x)."""
    np.testing.assert_array_equal(residuals(THETA, X, Y), Y - (0.5 + 1.5 * X))


def test_no_line_makes_every_residual_stationary():
    """Equation 5: ∇ε = 0 is n equations for 2 unknowns. Each pair of points has a line of its own, on
    which its two residuals vanish, and these lines contradict each other."""
    pairs = [(i, j) for i in range(4) for j in range(i)]
    lines = np.array([np.polyfit(X[[i, j]], Y[[i, j]], 1)[::-1] for i, j in pairs])
    for line, (i, j) in zip(lines, pairs, strict=True):
        e = np.asarray(residuals(jnp.float32(line), X, Y))
        np.testing.assert_allclose(e[[i, j]], 0, atol=1e-5)
        assert np.abs(e).max() > 1
    assert np.ptp(lines[:, 1]) > 5
    slopes = jax.jacobian(residuals)(jnp.asarray(THETA), X, Y)
    np.testing.assert_array_equal(slopes, -np.stack([X**0, X], axis=1))  # and ∇ε itself is never 0


def test_mean_squared_error_is_equation_6():
    """Equation 6: S = εᵀε / n."""
    e = Y - (0.5 + 1.5 * X)
    assert float(mean_squared_error(THETA, X, Y)) == pytest.approx(e @ e / 4, rel=1e-6)


def test_weights_make_a_weighted_mean():
    w = np.array([1.0, 2.0, 0.5, 3.0], "f4")
    e = Y - (0.5 + 1.5 * X)
    assert float(mean_squared_error(THETA, X, Y, w)) == pytest.approx((w * e**2).sum() / 6.5, rel=1e-6)


@pytest.mark.parametrize("gap", ["x", "y", "weight", "weight under a gap"])
def test_a_gap_is_not_there_and_has_no_gradient(gap):
    x, y, w = X.copy(), Y.copy(), np.ones(4, "f4")
    if gap == "x":
        x[1] = np.nan
    if gap.endswith("y") or gap == "weight under a gap":
        y[1] = np.nan
    if gap.startswith("weight"):
        w[1] = 0 if gap == "weight" else np.nan
    rest = [0, 2, 3]
    expected = mean_squared_error(THETA, X[rest], Y[rest])
    assert float(mean_squared_error(THETA, x, y, w)) == float(expected)
    gradients = jax.grad(mean_squared_error, argnums=(0, 1, 2))(jnp.asarray(THETA), x, y, w)
    assert all(np.isfinite(g).all() for g in gradients)
    assert gradients[1][1] == gradients[2][1] == 0


def test_any_ansatz_can_be_fitted():
    e = Y - (1 + X - X**2)
    parabola = mean_squared_error(jnp.float32([1, 1, -1]), X, Y, ansatz=Polynomial(2))
    columns = np.stack([X, -(X**2)], axis=1)
    plane = mean_squared_error(jnp.float32([1, 1, 1]), columns, Y, ansatz=Linear())
    np.testing.assert_allclose([parabola, plane], (e**2).mean(), rtol=1e-6)


def test_vmap_makes_one_data_set_many():
    y = np.stack([Y, 2 * Y, np.where(Y > 6, np.nan, Y)], axis=1)
    theta = np.stack([THETA, -THETA, THETA], axis=1)
    many = jax.vmap(mean_squared_error, in_axes=(-1, None, -1))(theta, X, y)
    e = y - (theta[0] + theta[1] * X[:, None])
    np.testing.assert_allclose(many, np.nanmean(e**2, axis=0), rtol=1e-6)


def test_observed_is_false_where_anything_is_missing():
    x = np.array([np.nan, 1, 2, 3], "f4")
    y = np.array([[1, 1], [np.nan, 1], [1, 1], [1, 1]], "f4")
    w = np.array([1, 1, 0, 1], "f4")
    expected = [[False, False], [False, True], [False, False], [True, True]]
    np.testing.assert_array_equal(observed(jnp.asarray(x), jnp.asarray(y), jnp.asarray(w)), expected)


def test_float64_numpy_data_keep_their_digits_in_double_precision():
    with jax.enable_x64(True):
        S = mean_squared_error(jnp.float64([0.1, 0.2]), X.astype("f8"), Y.astype("f8"))
    expected = ((Y.astype("f8") - (0.1 + 0.2 * X.astype("f8"))) ** 2).mean()
    assert float(S) == pytest.approx(expected, rel=1e-14)


def test_weights_of_whole_numbers_keep_their_fractions():
    """y of integers must not make integers of the weights."""
    residuals = np.array([1, 2, 4]) - np.array([0, 1, 2]) * 2.0
    w = [0.5, 0.5, 2.5]
    found = mean_squared_error([0.0, 2.0], [0, 1, 2], [1, 2, 4], w)
    assert float(found) == pytest.approx(np.average(residuals**2, weights=w), rel=1e-6)


@pytest.mark.slow
def test_second_derivatives_of_a_minimum(rng):
    """Beside Newton's steps from the minimum, of which each makes one more derivative exact."""
    with jax.enable_x64(True):
        x, y = jnp.asarray(rng.normal(size=12)), jnp.asarray(rng.normal(size=12))

        def smooth(params, x, y, weights=None, *, ansatz=None):
            return jnp.mean(jnp.sqrt(1 + (y - params[0] - params[1] * x) ** 2))

        def slope(y):
            return fit(x, y, cost=smooth, solver=GradientDescent(steps=3000)).params[1]

        def by_newton(y):
            theta = jnp.zeros(2)
            for _ in range(12):
                theta = theta - jnp.linalg.solve(
                    jax.hessian(smooth)(theta, x, y), jax.grad(smooth)(theta, x, y)
                )
            return theta[1]

        ours, exact = jax.jit(lambda y: (jax.hessian(slope)(y), jax.hessian(by_newton)(y)))(y)
        np.testing.assert_allclose(ours, exact, atol=1e-7)
