import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm

from jaxreg import ClosedForm, Features, Line, Linear, Polynomial, fit
from jaxreg.numerics.double_double import DoubleDouble

X = np.linspace(-0.9, 0.8, 7)


def test_line_is_equation_3_without_its_error(dtype):
    """Equations 1 and 3: y = β₀ + β₁x + ε."""
    x = X.astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        found = Line().predict(jnp.array([2.0, -3.0], dtype), x)
    np.testing.assert_allclose(found, 2 - 3 * x, rtol=4 * np.finfo(dtype).eps)


def test_line_is_linear_in_its_features():
    np.testing.assert_array_equal(Line().features(jnp.float32(X)), np.stack([X**0, X], 1, dtype="f4"))


@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_polynomial_is_numpys(degree):
    coefficients = np.arange(1.0, degree + 2, dtype="f4")
    expected = np.polynomial.polynomial.polyval(X, coefficients)
    found = Polynomial(degree).predict(jnp.asarray(coefficients), jnp.float32(X))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_polynomial_features_are_vandermondes():
    expected = np.vander(X, 4, increasing=True)
    np.testing.assert_allclose(Polynomial(3).features(jnp.float32(X)), expected, rtol=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 4])
def test_polynomial_basis_is_chebyshevs(degree):
    expected = np.polynomial.chebyshev.chebvander(X, degree)
    basis = np.stack(Polynomial(degree).basis([jnp.float32(X)]), axis=1)
    np.testing.assert_allclose(basis, expected, rtol=1e-5, atol=1e-6)


def test_linear_is_a_matrix_product(rng):
    x, params = rng.normal(size=(7, 3)).astype("f4"), np.arange(4, dtype="f4")
    with_intercept = Linear().predict(params, jnp.asarray(x))
    without = Linear(intercept=False).predict(params[1:], jnp.asarray(x))
    np.testing.assert_allclose(with_intercept, params[0] + x @ params[1:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(without, x @ params[1:], rtol=1e-5, atol=1e-6)


def test_many_data_sets_at_once_share_x_or_have_their_own(rng):
    params = rng.normal(size=(2, 3, 4)).astype("f4")
    own = rng.normal(size=(7, 3, 4)).astype("f4")
    expected = params[0] + params[1] * own
    np.testing.assert_allclose(Line().predict(params, own), expected, rtol=1e-5, atol=1e-6)
    shared = Line().predict(params, jnp.float32(X))
    expected = params[0] + params[1] * X[:, None, None]
    np.testing.assert_allclose(shared, expected, rtol=1e-5, atol=1e-6)
    own = rng.normal(size=(7, 2, 3, 4)).astype("f4")
    params = rng.normal(size=(3, 3, 4)).astype("f4")
    expected = params[0] + (params[1:] * own).sum(axis=1)
    np.testing.assert_allclose(Linear().predict(params, own), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ansatz", [Line(), Polynomial(0), Polynomial(1), Polynomial(4)])
def test_change_writes_the_moved_basis_in_the_basis(ansatz):
    shift, ratio = 0.375, 0.25
    R = ansatz.change(DoubleDouble.of(jnp.float32(shift)), jnp.float32(ratio)).value
    basis = np.stack(ansatz.basis([jnp.float32(X)]))
    moved = np.stack(ansatz.basis([jnp.float32(shift + ratio * X)]))
    np.testing.assert_allclose(R @ basis, moved, atol=2e-6)


@pytest.mark.parametrize("intercept", [True, False])
def test_change_moves_each_column_by_its_own(intercept, rng):
    t = rng.uniform(-1, 1, size=(6, 2)).astype("f4")
    shift = np.array([0.5, -0.25], "f4") if intercept else np.zeros(2, "f4")
    ratio = np.array([0.25, 0.5], "f4")
    ansatz = Linear(intercept=intercept)
    R = ansatz.change(DoubleDouble.of(shift), jnp.asarray(ratio)).value
    basis, moved = (np.stack(ansatz.basis(list(jnp.asarray(a.T)))) for a in (t, shift + ratio * t))
    np.testing.assert_allclose(R @ basis, moved, atol=1e-6)


@pytest.mark.parametrize("ansatz", [Line(), Polynomial(5)])
def test_basis_is_a_constant_matrix_times_the_features(ansatz):
    K = ansatz.basis_in_features(len(ansatz.param_names(1)))
    basis = np.stack(ansatz.basis([jnp.float32(X)]))
    np.testing.assert_allclose(K @ np.asarray(ansatz.features(jnp.float32(X))).T, basis, atol=1e-5)


def test_names_name_every_param():
    assert Line().param_names() == ("intercept", "slope")
    assert Polynomial(2).param_names() == ("c0", "c1", "c2")
    assert Linear().param_names(2) == ("intercept", "x1", "x2")
    assert Linear(intercept=False).param_names(2) == ("x1", "x2")


def test_equal_ansaetze_are_equal_so_that_they_compile_once():
    assert Polynomial(2) == Polynomial(2)
    assert hash(Linear()) == hash(Linear(intercept=True))
    assert Linear() != Linear(intercept=False)


@pytest.mark.parametrize(("degree", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_degree_that_is_none_is_refused(degree, error):
    with pytest.raises(error, match=rf"(?s)degree.*{degree}"):
        Polynomial(degree)


@pytest.mark.slow
def test_functions_of_integers_are_computed_in_float64():
    t = np.arange(2000)
    cubic = fit(t, 2 + 1e-9 * t.astype(float) ** 3, ansatz=Features(lambda t: (t**3,), ("cube",)))
    np.testing.assert_allclose(cubic.params, [2, 1e-9], rtol=1e-12)
    np.testing.assert_allclose(cubic.predict(np.array([1999])), 2 + 1e-9 * 1999.0**3)


def test_masked_elements_are_gaps_of_functions_too():
    x = np.ma.masked_greater(np.linspace(0, 5, 40), 4.9)
    assert fit(x, np.ones(40), ansatz=Features(lambda x: (jnp.sin(x),), ("sin",))).nobs == 39


@pytest.mark.parametrize("names", [("intercept", "b"), ("a", "a")])
def test_names_differ(names):
    with pytest.raises(ValueError, match="names must differ"):
        Linear(names=names)


def test_names_of_statistics_do_not_hide_them_in_tables():
    plane = fit(np.eye(5)[:, :2], np.arange(5.0), ansatz=Linear(names=("a", "scale")))
    with pytest.raises(ValueError, match="rename columns of x"):
        plane.to_xarray()


def test_a_polynomial_of_high_degree_is_that_of_least_squares(rng):
    """Powers of x and their errors come from a loop above degree 3."""
    x, y = rng.uniform(-1, 1.5, size=40), rng.normal(size=(40, 3))
    y[5, 1] = np.nan
    found = fit(x, y, ansatz=Polynomial(6), solver=ClosedForm(precision="fast"))
    for j in range(3):
        seen = np.isfinite(y[:, j])
        expected = sm.OLS(y[seen, j], np.vander(x[seen], 7, increasing=True)).fit(method="qr")
        np.testing.assert_allclose(found.params[:, j], expected.params, rtol=1e-8)
        np.testing.assert_allclose(found.bse[:, j], expected.bse, rtol=1e-8)


def test_a_fit_of_high_degree_has_derivatives(rng):
    line = fit(rng.normal(size=20).astype("f4"), rng.normal(size=20).astype("f4"), ansatz=Polynomial(5))
    gradient = jax.grad(lambda a: a.cov_params().sum(), allow_int=True)(line)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient) if g.dtype == np.float32)
