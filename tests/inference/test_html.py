"""Tables in notebooks hold the numbers, stay small, are well-formed, and never raise."""

import re
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxreg import Linear, Ridge, descend, exact_flow, fit, mean_squared_error, moments
from jaxreg.numerics import html

X = np.linspace(-1, 1, 30, dtype="f4")


@pytest.fixture
def many(rng):
    y = (1 + 2 * X[:, None] + rng.normal(size=(30, 60))).astype("f4")
    y[:, 3] = np.nan
    y[1:, 4] = np.nan
    return y


def cells(result):
    """The text of every row of the table; a sparkline is its label."""
    root = ElementTree.fromstring(result._repr_html_())
    return [
        [cell[0].get("aria-label") if len(cell) else cell.text or "" for cell in row]
        for row in root.iter("tr")
    ]


def numbers(row):
    return [float(text.replace("−", "-")) for text in row]


def descents(y, **keywords):
    def of_one(y):
        return descend(mean_squared_error, jnp.zeros(2), X, y, steps=9, **keywords)

    return jax.vmap(of_one, 1, -1)(y)


RESULTS = {
    "a fit": lambda y: fit(X, y[:, 0]),
    "fits": lambda y: fit(X, y),
    "no data sets": lambda y: fit(X, y)[:0],
    "a failed fit": lambda y: fit(X, y)[3],
    "failed fits": lambda y: fit(X, y)[3:5],
    "a grid": lambda y: fit(X, y.reshape(30, 6, 10)),
    "moments": lambda y: moments(X, y[:, 0]),
    "moments of many": lambda y: moments(X, y, weights=np.ones(30, "f4")),
    "a flow": lambda y: exact_flow(moments(X, y[:, 0])),
    "flows": lambda y: exact_flow(moments(X, y)),
    "a descent": lambda y: descend(mean_squared_error, jnp.zeros(2), X, y[:, 0], steps=9, history=True),
    "descents": lambda y: descents(y, history=True),
}


@pytest.mark.parametrize("name", RESULTS)
def test_tables_are_small_and_have_no_colors_of_their_own(name, many):
    result = RESULTS[name](many)
    text = result._repr_html_()
    ElementTree.fromstring(text)
    assert len(text.encode()) < 6000
    assert not re.search(r"script|background|[^-]color:|#[0-9a-f]{3}|rgb", text)
    for leaf in (None, 1.5, "x", object()):
        assert jax.tree.map(lambda _, leaf=leaf: leaf, result)._repr_html_() is None
    assert jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), result)._repr_html_() is None
    traced = []
    jax.make_jaxpr(lambda result: traced.append(result._repr_html_()))(result)
    assert traced == [None]


def test_a_fit_that_vmap_returned_with_other_axes_is_shown_as_text(many):
    assert jax.vmap(lambda y: fit(X, y), 1)(many)._repr_html_() is None


def test_the_table_of_a_fit_has_the_numbers_of_statsmodels(many, statsmodels):
    y = many[:, 0].astype(float)
    x = X.astype(float)
    oracle = statsmodels(np.vander(x, 2, increasing=True), y)
    heading, *rows = cells(fit(x, y))
    assert heading == ["", "coef", "std err", "t", "P>|t|"]
    for k, (name, row) in enumerate(zip(("intercept", "slope"), rows, strict=True)):
        expected = [a[k] for a in (oracle.params, oracle.bse, oracle.tvalues, oracle.pvalues)]
        assert row[0] == name
        np.testing.assert_allclose(numbers(row[1:]), expected, rtol=6e-4)


def test_the_table_of_many_fits_has_quantiles_and_counts(many, statsmodels):
    result = fit(X, many)
    there = [j for j in range(60) if j not in (3, 4)]
    oracles = [statsmodels(np.vander(X, 2, increasing=True), many[:, j]) for j in there]
    for k, row in enumerate(cells(result)[1:]):
        expected = np.quantile([oracle.params[k] for oracle in oracles], (0.05, 0.5, 0.95))
        np.testing.assert_allclose(numbers(row[1:4]), expected, rtol=6e-4)
        assert numbers([row[5]])[0] == pytest.approx(
            np.median([oracle.bse[k] for oracle in oracles]), rel=6e-4
        )
        below = sum(oracle.pvalues[k] < 0.05 for oracle in oracles)
        assert row[6] == f"{below} of 58"
    text = result._repr_html_()
    assert "58 ok, 1 too_few_observations, 1 no_observations" in text
    assert "no_observations: not one valid observation" in text


def test_a_cost_without_standard_errors_has_no_tests(many):
    ridge = fit(X, many[:, 0], cost=Ridge(1.0))
    assert cells(ridge)[0] == ["", "coef"]
    assert "this cost has no standard errors" in ridge._repr_html_()


def test_names_are_escaped_and_shortened_and_many_params_left_out(rng):
    names = ["größe <b>&amp;", "long " * 40, *(f"x{k}" for k in range(11))]
    x = pd.DataFrame(rng.normal(size=(40, 13)), columns=names)
    result = fit(x, rng.normal(size=40), ansatz=Linear())
    rows = cells(result)[1:]
    assert [row[0] for row in rows[:2]] == ["intercept", "größe <b>&amp;"]
    assert len(rows[2][0]) == 40
    assert len(rows) == 12
    assert "… and 2 more rows" in result._repr_html_()


def test_the_table_of_moments_has_averages_of_the_data(many):
    y = many[:, 0]
    values = {name: value for name, value in cells(moments(X, y))[1:]}
    expected = {"⟨φ₀ φ₀⟩": 1, "⟨φ₁ φ₁⟩": np.mean(X**2), "⟨φ₀ y⟩": y.mean(), "⟨φ₁ y⟩": np.mean(X * y)}
    for name, value in {**expected, "⟨y y⟩": np.mean(y**2), "valid observations": 30}.items():
        assert numbers([values[name]])[0] == pytest.approx(value, rel=6e-4)
    bad = many.copy()
    bad[0, 0] = np.inf
    assert "1 data sets with invalid observations" in moments(X, bad)._repr_html_()


def test_the_table_of_a_flow_has_the_eigenvalues(many):
    design = np.vander(X, 2, increasing=True)
    rates = np.linalg.eigvalsh(2 * design.T @ design / 30)
    values = {name: value for name, value in cells(exact_flow(moments(X, many[:, 0])))[1:]}
    shown = numbers(
        values[name] for name in ("rate λ [0]", "rate λ [1]", "largest α", "half-life ln 2 / λ [0]")
    )
    np.testing.assert_allclose(shown, [*rates, 2 / rates[1], np.log(2) / rates[0]], rtol=6e-4)


def test_the_table_of_a_descent_names_the_params_of_a_pytree():
    params = {"layer": jnp.ones(1000), "offset": jnp.ones(()), "pair": jnp.ones((2, 1))}

    def cost(p):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))

    names = [row[0] for row in cells(descend(cost, params, steps=2))[4:]]
    assert names == ["layer, 1,000 numbers", "offset", "pair[0, 0]", "pair[1, 0]"]


def bars(markup):
    """The heights of a histogram, in pixels."""
    tops = [int(top) for top in re.findall(r"V(\d+)h4", markup)]
    return html.HEIGHT - np.array(tops)


@pytest.mark.parametrize("scale", [1.0, 1e-310, 1.7e308 / 6])
def test_a_histogram_is_that_of_numpy(rng, scale):
    values = np.clip(rng.normal(size=1000), -6, 6)
    low, high = np.quantile(values, (0.01, 0.99))
    counts, _ = np.histogram(np.clip(values, low, high), html.BINS, (low, high))
    expected = np.ceil(html.HEIGHT * counts / counts.max())
    np.testing.assert_allclose(bars(html.histogram(values * scale)), expected, atol=1)


def test_a_histogram_of_equal_values_is_one_bar():
    assert sorted(bars(html.histogram(np.full(9, 1e9)))) == [0] * 23 + [html.HEIGHT]


def test_a_curve_leaves_out_what_is_not_finite_and_falls_where_the_values_fall():
    markup = html.curve(np.array([100.0, 10.0, np.nan, 0.1, np.inf]), "S")
    points = [tuple(map(float, point.split(","))) for point in re.findall(r"[\d.]+,[\d.]+", markup)]
    assert points == [(1.0, 1.0), (24.5, 6.3), (71.5, 17.0)]  # logarithmic: a third of the way down
    assert html.curve(np.array([1.0]), "S") == ""
