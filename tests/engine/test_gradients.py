"""Derivatives through the fit against those of the normal equations, and 0 where there is no fit."""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from jaxreg import ClosedForm, GradientDescent, Line, Linear, Polynomial, descend, fit, mean_squared_error

pytestmark = pytest.mark.either_mode
LINE = Line()
GAP, WEIGHTLESS = 4, 9
VALID = np.delete(np.arange(14), [GAP, WEIGHTLESS])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def by_normal_equations(ansatz, x, y, w):
    """Params, standard errors and cost in a few lines that JAX differentiates by itself, without the gaps."""
    x, y, w = (jnp.asarray(a)[VALID] for a in (x, y, w))
    if ansatz.x_is_vector:
        phi = jnp.column_stack([jnp.ones(len(x)), x])
    else:
        phi = jnp.stack([x**k for k in range(2 if ansatz == LINE else 4)], axis=1)
    A = phi.T @ (w[:, None] * phi)
    params = jnp.linalg.solve(A, phi.T @ (w * y))
    ssr = w @ (y - phi @ params) ** 2
    variances = jnp.diag(jnp.linalg.inv(A)) * ssr / (len(y) - len(params))
    return jnp.concatenate([params, jnp.sqrt(variances), ssr[None] / w.sum()])


def outputs(found):
    return jnp.concatenate([found.params, found.bse, found.cost[None]])


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())


@pytest.fixture(params=["line", *(pytest.param(a, marks=pytest.mark.slow) for a in ("cubic", "linear"))])
def data(request, rng):
    """(ansatz, x, y, w) with a gap, a weight of 0 and far offsets."""
    ansatz = {"line": Line(), "cubic": Polynomial(3), "linear": Linear()}[request.param]
    x = rng.uniform(-1, 2, size=(14, 3) if ansatz.x_is_vector else 14)
    y, w = rng.normal(5, 1, size=14), rng.uniform(0.5, 2, size=14)
    y[GAP], w[WEIGHTLESS] = np.nan, 0
    return ansatz, x, y, w


@pytest.mark.parametrize(
    "solver",
    [ClosedForm(precision="fast"), pytest.param(GradientDescent(steps=20_000), marks=pytest.mark.slow)],
    ids=["closed form", "descent"],
)
def test_derivatives_of_params_bse_and_cost(data, solver):
    ansatz, *values = data
    flat, unflatten = jax.flatten_util.ravel_pytree(tuple(values))

    def f(flat):
        x, y, w = unflatten(flat)
        return outputs(fit(x, y, ansatz=ansatz, weights=w, solver=solver))

    expected = jax.jacfwd(lambda flat: by_normal_equations(ansatz, *unflatten(flat)))(flat)
    for found in jax.jit(lambda flat: (jax.jacrev(f)(flat), jax.jacfwd(f)(flat)))(flat):
        assert_close(found, expected)


@pytest.mark.slow
def test_the_hessian_is_that_of_the_normal_equations(data):
    ansatz, x, y, w = data

    def f(y):
        return jnp.sum(
            jnp.sin(outputs(fit(x, y, ansatz=ansatz, weights=w, solver=ClosedForm(precision="fast"))))
        )

    expected = jax.jit(jax.hessian(lambda y: jnp.sum(jnp.sin(by_normal_equations(ansatz, x, y, w)))))(y)
    assert_close(jax.jit(jax.hessian(f))(y), expected)


def ill(rng, dtype=float):
    """Healthy data sets in columns 0 and 4; between them nothing, constant x, infinity, too few."""
    x = rng.normal(size=(12, 6)).astype(dtype)
    y = rng.normal(size=(12, 6)).astype(dtype)
    y[3, 0], y[:, 1], x[:, 2], y[5, 3], y[1:, 5] = np.nan, np.nan, 0.25, np.inf, np.nan
    return x, y, rng.uniform(0.5, 2, size=(12, 6)).astype(dtype)


@pytest.mark.parametrize(
    "solver",
    [
        ClosedForm(),
        pytest.param(ClosedForm(precision="certified"), marks=pytest.mark.slow),
        pytest.param(GradientDescent(), marks=pytest.mark.slow),
    ],
)
def test_failed_data_sets_get_gradient_0_and_their_neighbors_what_they_get_alone(rng, solver):
    x, y, w = ill(rng)

    def total(x, y, w):
        found = fit(x, y, weights=w, solver=solver)
        return jnp.nansum(outputs(found))

    gradient_of = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    together = gradient_of(x, y, w)
    for gradient in together:
        assert np.isfinite(gradient).all()
        assert (np.asarray(gradient)[:, [1, 2, 3, 5]] == 0).all()
    for i in (0, 4):
        alone = gradient_of(*(np.repeat(a[:, i : i + 1], 6, axis=1) for a in (x, y, w)))
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(a[:, 0], b[:, i], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_shared_design_with_failed_data_sets(rng):
    x, y = rng.normal(size=(30, 6)).astype("f4"), rng.normal(size=(30, 4)).astype("f4")
    y[2, 1], y[:, 2], y[4, 3] = np.nan, np.nan, np.inf

    def total(x, y):
        return jnp.nansum(fit(x, y, ansatz=Linear()).params)

    of_x, of_y = jax.jit(jax.grad(total, argnums=(0, 1)))(x, y)
    design = np.column_stack([np.ones(30), x]).astype(float)
    np.testing.assert_allclose(of_y[:, 0], np.linalg.pinv(design).sum(axis=0), rtol=1e-4, atol=1e-6)
    assert np.isfinite(of_x).all()
    assert of_y[2, 1] == 0
    assert (of_y[:, 2:] == 0).all()


@pytest.mark.slow
def test_an_ill_conditioned_neighbor_that_is_located_again(rng):
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    x[:, 1] = 1e9 + x[:, 1]

    def slope(y):
        return fit(x, y).params[1].sum()

    centered = x - x.mean(axis=0)
    np.testing.assert_allclose(jax.grad(slope)(y), centered / (centered**2).sum(axis=0), rtol=1e-6)


def ridge(params, x, y, weights=None, *, ansatz=LINE, strength):
    return mean_squared_error(params, x, y, weights, ansatz=ansatz) + strength * jnp.sum(params**2)


def ridge_solution(x, y, strength):
    """(A + λ) θ = b."""
    there = ~jnp.isnan(y)
    design = jnp.stack([jnp.ones_like(x), x], axis=1) * there[:, None]
    n = there.sum()
    A, b = design.T @ design / n, design.T @ jnp.where(there, y, 0) / n
    return jnp.linalg.solve(A + strength * jnp.eye(2), b)


@pytest.mark.slow
def test_a_penalty_of_the_users_own_can_be_differentiated(rng):
    x, y, strength = rng.normal(size=20), rng.normal(size=20), 0.3
    y[7] = np.nan
    solver = GradientDescent(steps=5000)

    def params(x, y, strength):
        return fit(x, y, cost=Partial(ridge, strength=strength), solver=solver).params

    np.testing.assert_allclose(params(x, y, strength), ridge_solution(x, y, strength), rtol=1e-9)
    of_all = (0, 1, 2)
    ours = jax.jit(jax.jacobian(params, of_all))(x, y, strength)
    theirs = jax.jacobian(ridge_solution, of_all)(jnp.asarray(x), jnp.asarray(y), strength)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_new_numbers_of_a_cost_compile_nothing_anew(rng):
    traces = []

    def counted(params, x, y, weights=None, *, ansatz=LINE, strength):
        traces.append(1)
        return ridge(params, x, y, weights, ansatz=ansatz, strength=strength)

    x, y, solver = rng.normal(size=20), rng.normal(size=20), GradientDescent(steps=10)
    fit(x, y, cost=Partial(counted, strength=0.1), solver=solver)
    before = len(traces)
    fit(x, y, cost=Partial(counted, strength=0.2), solver=solver)
    assert len(traces) == before


@pytest.mark.slow
def test_through_descend_with_a_penalty(rng):
    x, y = rng.normal(size=20), rng.normal(size=20)
    run = partial(descend, ridge_of, jnp.zeros(2), optimizer=optax.sgd(0.1), steps=400)

    def params(x, y, strength):
        return run(x, y, strength).params

    of_all = (0, 1, 2)
    ours = jax.jacobian(params, of_all)(jnp.asarray(x), jnp.asarray(y), 0.3)
    theirs = jax.jacobian(ridge_solution, of_all)(jnp.asarray(x), jnp.asarray(y), 0.3)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def ridge_of(params, x, y, strength):
    return ridge(params, x, y, strength=strength)


def test_failed_data_sets_that_overflow_get_gradient_0(rng):
    x = (rng.normal(size=(20, 1)) * 1e25).astype("f4")
    y, w = rng.normal(size=(20, 1)).astype("f4"), np.full((20, 1), 1e25, "f4")
    y[3] = np.inf
    gradient = jax.jit(jax.grad(lambda x: jnp.nansum(fit(x, y, weights=w).params)))(x)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.slow
def test_a_penalty_in_float32_and_data_sets_that_fail(rng):
    """A constant x, one observation, and a penalty so steep in its units that the descent diverges."""
    x = rng.normal(size=(20, 4)).astype("f4")
    y = rng.normal(size=(20, 4)).astype("f4")
    x[:, 1], y[1:, 2], x[:, 3] = 1, np.nan, 1e4 + 1e3 * x[:, 3]

    def total(x, y, strength):
        found = fit(x, y, cost=Partial(ridge, strength=strength), solver=GradientDescent(steps=2000))
        return jnp.nansum(found.params)

    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(x, y, jnp.float32(0.3))
    with jax.enable_x64(True):
        of_ridge = jax.grad(lambda x, y: ridge_solution(x, y, 0.3).sum(), argnums=(0, 1))
        expected = of_ridge(jnp.asarray(x[:, 0], "f8"), jnp.asarray(y[:, 0], "f8"))
    for ours, theirs in zip(gradients[:2], expected, strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours[:, 0], theirs, rtol=1e-3, atol=1e-4)
        assert (np.asarray(ours)[:, 1:] == 0).all()
    assert np.isfinite(gradients[2])
