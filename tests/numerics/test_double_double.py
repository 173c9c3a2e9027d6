import operator
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.numerics import double_double
from jaxreg.numerics.double_double import DoubleDouble

DIGITS = {"float32": 2.0**-44, "float64": 2.0**-100}


@pytest.fixture
def wide(dtype):
    """float64 exists while float64 pairs are tested."""
    with jax.enable_x64(dtype == np.float64):
        yield dtype


def floats(rng, dtype, size=64):
    return np.ldexp(rng.uniform(-1, 1, size), rng.integers(-20, 20, size)).astype(dtype)


def pairs(rng, dtype):
    hi = floats(rng, dtype)
    return DoubleDouble(jnp.asarray(hi), jnp.asarray((hi * np.finfo(dtype).eps / 4).astype(dtype)))


def exact(a):
    """The numbers of an array or a pair as fractions."""
    if isinstance(a, DoubleDouble):
        return [h + low for h, low in zip(exact(a.hi), exact(a.lo), strict=True)]
    return [Fraction(float(v)) for v in np.asarray(a).ravel()]


def worst(found, expected):
    return max(abs(f - e) / abs(e) for f, e in zip(exact(found), expected, strict=True) if e)


@pytest.mark.parametrize("compile_", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_two_sum_loses_nothing(wide, rng, compile_):
    a, b = jnp.asarray(floats(rng, wide)), jnp.asarray(floats(rng, wide))
    s, e = compile_(double_double.two_sum)(a, b)
    assert exact(DoubleDouble(s, e)) == list(map(operator.add, exact(a), exact(b)))


@pytest.mark.parametrize("compile_", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_two_product_is_the_product_to_twice_the_digits(wide, rng, compile_):
    a, b = jnp.asarray(floats(rng, wide)), jnp.asarray(floats(rng, wide))
    product = DoubleDouble(*compile_(double_double.two_product)(a, b))
    assert worst(product, map(operator.mul, exact(a), exact(b))) < DIGITS[wide.name]


@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv])
@pytest.mark.parametrize("compile_", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_arithmetic_has_twice_the_digits(wide, rng, op, compile_):
    a, b = pairs(rng, wide), pairs(rng, wide)
    if op in (operator.add, operator.sub):  # of one sign: a difference of neighbors is not relative
        a, b = (DoubleDouble(jnp.abs(p.hi), jnp.abs(p.lo)) for p in (a, b))
        b = -b if op is operator.sub else b
    expected = list(map(op, exact(a), exact(b)))
    assert worst(compile_(op)(a, b), expected) < DIGITS[wide.name]


def test_numbers_and_arrays_mix_with_pairs(wide):
    third = DoubleDouble.of(jnp.ones((), wide)) / 3
    expected = {"+": Fraction(4, 3), "-": Fraction(2, 3), "*": Fraction(2, 3)}
    found = {"+": 1 + third, "-": -(third - 1), "*": 2 * third}
    for sign, value in expected.items():
        assert worst(found[sign], [value]) < DIGITS[wide.name]


def test_the_cancellation_that_kills_single_floats_is_harmless(wide):
    big = DoubleDouble.of(jnp.asarray(2.0**20 + 1, wide))
    small = jnp.asarray(2.0 ** -(np.finfo(wide).nmant - 18), wide)  # below the last digit of big
    assert exact(big + small - big) == exact(small)
    assert (big.hi + small - big.hi) == 0


def test_matmul_and_congruence_are_those_of_exact_matrices(wide, rng):
    R, G = (DoubleDouble.of(jnp.asarray(rng.normal(size=(3, 3)).astype(wide))) for _ in range(2))
    r, g = (np.array(exact(a)).reshape(3, 3) for a in (R, G))
    size = max(abs(v) for v in (abs(r) @ abs(g) @ abs(r.T)).ravel())
    for found, expected in (
        (double_double.matmul(R, G), r @ g),
        (double_double.congruence(R, G), r @ g @ r.T),
    ):
        error = max(abs(f - e) for f, e in zip(exact(found), expected.ravel(), strict=True))
        assert error < 4 * DIGITS[wide.name] * size


def test_matrices_are_put_together_from_their_lower_triangle():
    a = [DoubleDouble.of(jnp.float32(v)) for v in range(6)]
    np.testing.assert_array_equal(double_double.matrix([[a[1]], [a[2], a[3]]]).value, [[1, 0], [2, 3]])


def test_where_and_concatenate_take_both_halves():
    a, b = DoubleDouble(jnp.float32([1, 2]), jnp.float32([3, 4])), DoubleDouble.of(jnp.float32([0, 0]))
    chosen = double_double.where(jnp.array([True, False]), a, b)
    np.testing.assert_array_equal([chosen.hi, chosen.lo], [[1, 0], [3, 0]])
    np.testing.assert_array_equal(double_double.concatenate([a, b]).lo, [3, 4, 0, 0])
    np.testing.assert_array_equal(a.scaled(4).lo, [12, 16])
