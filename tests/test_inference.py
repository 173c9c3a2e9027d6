import numpy as np
import pytest

from jaxreg import fit

N = 40


@pytest.fixture
def data(rng, dtype):
    x = rng.normal(size=N).astype(dtype)
    return x, (x[:, None] + rng.normal(size=(N, 6))).astype(dtype)


def test_standard_errors_are_those_of_the_textbook(data, tol):
    """σ̂ / √Σ(x − ⟨x⟩)² for the slope, σ̂ √(1/n + ⟨x⟩²/Σ(x − ⟨x⟩)²) for the intercept."""
    x, y = data
    found = fit(x, y)
    x, y = x.astype("f8"), y.astype("f8")
    spread = ((x - x.mean()) ** 2).sum()
    for i in range(6):
        e = y[:, i] - np.polyval(np.polyfit(x, y[:, i], 1), x)
        sigma = np.sqrt((e**2).sum() / (N - 2))
        expected = [sigma * np.sqrt(1 / N + x.mean() ** 2 / spread), sigma / np.sqrt(spread)]
        np.testing.assert_allclose(found.bse[:, i], expected, rtol=tol)


@pytest.mark.parametrize("factor", [2.0**-75, 2.0**-20, 2.0**40, 2.0**65])
def test_units_scale_standard_errors_to_the_last_bit(data, factor, dtype):
    x, y = data
    expected = np.asarray(fit(x, y).bse)
    factor = dtype.type(factor)
    np.testing.assert_array_equal(fit(x, factor * y).bse, factor * expected)
    in_x = fit(factor * x, y).bse
    np.testing.assert_array_equal(in_x, expected / np.array([[1], [factor]], dtype))


def test_the_unit_of_the_weights_does_not_matter(data, tol):
    x, y = data
    w = np.linspace(1, 2, N).astype(x.dtype)
    a, b = fit(x, y, weights=w), fit(x, y, weights=1000 * w)
    np.testing.assert_allclose(b.bse, np.asarray(a.bse, "f8"), rtol=0.1 * tol)


def test_a_far_origin_costs_the_slope_no_digits(data, tol):
    x, y = data
    x = (np.round(x * 8) + 2**20).astype(x.dtype)  # exact in float32
    found = fit(x, y)
    t = x.astype("f8") - 2.0**20
    for i in range(6):
        (_, _), covariance = np.polyfit(t, y[:, i].astype("f8"), 1, cov=True)
        np.testing.assert_allclose(found.bse[1, i], np.sqrt(covariance[0, 0]), rtol=tol)


def test_a_line_without_error_has_no_standard_error(dtype):
    x = np.arange(N, dtype=dtype)
    found = fit(x, np.stack([2 * x + k for k in range(6)], axis=1))
    np.testing.assert_allclose(found.params[1], 2, rtol=2 * np.finfo(dtype).eps)
    assert np.max(found.bse) < 10 * np.finfo(dtype).eps


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_sigma_in_tiny_and_huge_units(data, unit):
    """In the units of a small or a large world 1/sigma² is not a float32, and nobody needs to see it."""
    x, y = (a.astype("f4") for a in data)
    sigma = np.linspace(1, 2, N).astype("f4")
    expected, found = fit(x, y, sigma=sigma), fit(x, y * np.float32(unit), sigma=sigma * np.float32(unit))
    np.testing.assert_allclose(found.params, np.asarray(expected.params) * unit, rtol=1e-5)
    np.testing.assert_allclose(found.bse, np.asarray(expected.bse) * unit, rtol=1e-5)
    np.testing.assert_allclose(found.ssr, expected.ssr, rtol=1e-5)
