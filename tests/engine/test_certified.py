"""Ill-conditioned data against mpmath, and what `digits` promises."""

from itertools import product

import mpmath
import numpy as np
import pytest
from nist import digits, exact

from jaxreg import ClosedForm, GradientDescent, Linear, Polynomial, Status, fit

pytestmark = pytest.mark.either_mode


def correlated(rng, n, p, condition):
    """Columns whose singular values fall from 1 to 1 / condition."""
    U, _ = np.linalg.qr(rng.normal(size=(n, p)))
    V, _ = np.linalg.qr(rng.normal(size=(p, p)))
    return (U * np.geomspace(1, 1 / condition, p)) @ V.T * np.sqrt(n)


@pytest.mark.parametrize(
    "condition",
    [1e2, pytest.param(1e5, marks=pytest.mark.slow), 1e8, pytest.param(1e11, marks=pytest.mark.slow), 1e13],
)
@pytest.mark.parametrize("noise", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
def test_ill_conditioned_designs_are_solved_to_the_last_digit(rng, condition, noise):
    x = correlated(rng, 40, 4, condition)
    y = x.sum(axis=1) + noise * rng.normal(size=40) + 3
    params, bse = exact(Linear(), x, y)
    found = fit(x, y, ansatz=Linear())
    assert found.status == Status.ok
    assert digits(found.params, params) >= 13
    assert found.digits <= digits(found.params, params)
    if noise and condition <= 1e11:  # beyond, the inverse has fewer than the params, which are refined
        assert digits(found.bse, bse) >= 10


@pytest.mark.parametrize("degree", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("dtype", "precision"),
    [
        ("float32", "auto"),
        *(
            pytest.param(dtype, precision, marks=pytest.mark.slow)
            for dtype, precision in [
                ("float64", "auto"),
                *product(("float32", "float64"), ("fast", "certified")),
            ]
        ),
    ],
    indirect=["dtype"],
)
def test_digits_are_never_overstated(rng, dtype, precision, degree):
    """Many data sets of all conditions, offsets and sizes of noise, each against mpmath."""
    m, n = 48, 12
    scale = 10.0 ** rng.uniform(-3, 3, m)
    offset = 10.0 ** rng.uniform(-2, 4, m) * rng.integers(0, 2, m)
    x = (offset + scale * rng.random((n, m))).astype(dtype)
    noise = 10.0 ** rng.uniform(-9, 2, m)
    y = (rng.normal(size=m) * x + noise * rng.normal(size=(n, m)) + rng.normal(size=m)).astype(dtype)
    ansatz = Polynomial(degree)
    found = fit(x, y, ansatz=ansatz, solver=ClosedForm(precision=precision))
    for i in np.flatnonzero(np.asarray(found.status) == Status.ok):
        right = digits(found.params[:, i], exact(ansatz, x[:, i], y[:, i])[0])
        assert found.digits[i] <= right, (i, found.params[:, i])
    if precision == "certified":
        assert np.median(np.asarray(found.digits)) == {"float32": 7, "float64": 15}[dtype.name]


@pytest.mark.slow
def test_digits_of_a_shared_design_are_never_overstated(rng):
    x = rng.normal(size=(200, 6)).astype("f4")
    y = (10.0 ** rng.uniform(-4, 2, 100) * rng.normal(size=(200, 100)) + x.sum(axis=1, keepdims=True)).astype(
        "f4"
    )
    found = fit(x, y, ansatz=Linear())
    inverse = np.linalg.pinv(np.column_stack([np.ones(200), x]).astype("f8"))
    wrong = np.abs(np.asarray(found.params) / (inverse @ y.astype("f8")) - 1).max(axis=0)
    assert (np.asarray(found.digits) <= -np.log10(wrong)).all()
    assert (np.asarray(found.digits) >= 1).any()


@pytest.mark.slow
def test_a_descent_has_the_digits_of_the_place_it_reached(rng, dtype):
    x, y = rng.random(30).astype(dtype), rng.random(30).astype(dtype)
    params, _ = exact(Polynomial(1), x, y)
    for steps in (10, 100, 1000):
        found = fit(x, y, solver=GradientDescent(steps=steps))
        right = digits(found.params, params)
        assert right - 3 <= found.digits <= right


def test_data_sets_that_need_it_are_found_among_those_that_do_not(rng):
    """Whatever stands beside it, a data set has the params that it has alone, to the last bit."""
    x = np.repeat(np.linspace(0, 1, 25)[:, None], 300, axis=1)
    y = 1 + 2 * x + rng.normal(size=x.shape)
    hard = [3, 100, 299]
    x[:, hard] += 1e9
    y[:, hard] = 1e-3 * y[:, hard] + 1e6
    found = fit(x, y)
    for i in (0, 3, 50, 100, 299):
        alone = fit(x[:, i], y[:, i])
        np.testing.assert_array_equal(alone.params, found.params[:, i])
        np.testing.assert_array_equal(alone.bse, found.bse[:, i])
        assert alone.digits == found.digits[i]
    for i in hard:
        assert digits(found.params[:, i], exact(Polynomial(1), x[:, i], y[:, i])[0]) >= 13


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights",
    ["wide", "plain", "tiny"],
)
def test_weights_of_any_size_cost_no_digits(rng, weights):
    x = rng.random(30) + 1e6
    y = rng.normal(size=30) + 1e6
    w = {"plain": rng.random(30), "wide": 10.0 ** rng.uniform(-20, 20, 30), "tiny": 1e-290 * rng.random(30)}[
        weights
    ]
    with mpmath.workdps(120):
        root = [mpmath.sqrt(mpmath.mpf(v)) for v in w.tolist()]
        X = mpmath.matrix([[r, r * mpmath.mpf(v)] for r, v in zip(root, x.tolist(), strict=True)])
        b = mpmath.matrix([r * mpmath.mpf(v) for r, v in zip(root, y.tolist(), strict=True)])
        params = list((X.T * X) ** -1 * (X.T * b))
    found = fit(x, y, weights=w)
    assert digits(found.params, params) >= 13
    assert found.digits <= digits(found.params, params)


@pytest.mark.slow
@pytest.mark.parametrize("n", [255, 256, 257, 700])
def test_any_number_of_observations_is_exact(rng, n):
    x, y = rng.random(n) + 1e4, rng.normal(size=n)
    found = fit(x, y, solver=ClosedForm(precision="certified"))
    assert digits(found.params, exact(Polynomial(1), x, y)[0]) >= 15


@pytest.mark.slow
def test_columns_that_depend_on_each_other_but_for_rounding_do(rng, dtype):
    a, b = rng.normal(size=(2, 50)).astype(dtype)
    for third in (a + b, dtype.type(0.3) * a - dtype.type(0.7) * b, a * dtype.type(3)):
        found = fit(np.stack([a, b, third], axis=1), a, ansatz=Linear())
        assert found.status == Status.rank_deficient
        assert found.digits == 0


def test_an_unknown_precision_is_an_error():
    with pytest.raises(ValueError, match="precision is one of"):
        fit(np.arange(3.0), np.arange(3.0), solver=ClosedForm(precision="double"))


@pytest.mark.slow
@pytest.mark.parametrize("degree", [6, 9])
def test_powers_of_x_at_random_places_keep_the_digits_that_are_claimed(rng, degree):
    """Where the change from the basis to powers of x is no sum of numbers that float64 happens to hold."""
    x, y = rng.random(16), rng.normal(size=16)
    found = fit(x, y, ansatz=Polynomial(degree))
    with mpmath.workdps(80):
        design = mpmath.matrix([[mpmath.mpf(a) ** k for k in range(degree + 1)] for a in x])
        exact = mpmath.lu_solve(design.T * design, design.T * mpmath.matrix([mpmath.mpf(a) for a in y]))
        errors = [abs(mpmath.mpf(float(a)) / b - 1) for a, b in zip(found.params, exact, strict=True)]
    assert max(errors) < mpmath.mpf(10) ** -int(found.digits)
    assert found.digits >= 13
