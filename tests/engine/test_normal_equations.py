"""Both ways to solve the normal equations, in single floats and in pairs, against exact arithmetic."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxreg.engine.double_double_equations import (
    DoubleDoubleSolution,
    double_double_coef_error,
    solve_in_double_double,
)
from jaxreg.engine.normal_equations import coef_error, solve
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.vectors import Symmetric, max_listed, vector

M = 3
ROUNDING = {"single": 2.0**-52, "pairs": 2.0**-100}
LARGE = pytest.param(14, marks=pytest.mark.slow)
SIZES = [1, 2, 5, LARGE]


def gram(Z):
    """⟨z zᵀ⟩ of (n, q, M)."""
    return np.einsum("niM,njM->ijM", Z, Z) / len(Z)


@jax.jit
def solve_single(G, least):
    p = len(G) - 1
    lower = [G[i, j] for i in range(p + 1) for j in range(i + 1)]
    found = solve(Symmetric.from_lower(lower, p + 1), vector([G[i, i] for i in range(p)]), least)
    inverse = jnp.stack([jnp.stack([found.inverse[i, j] for j in range(p)]) for i in range(p)])
    coefs, inverse, rest = map(DoubleDouble.of, (jnp.stack([*found.coefs]), inverse, found.unexplained))
    return DoubleDoubleSolution(coefs, inverse, rest, found.smallest_pivot)


def solved(G, kind, least=2.0**-46):
    """What is found of G, and G to all of its digits."""
    with jax.enable_x64(True):
        if kind == "single":
            return solve_single(jnp.asarray(G), least), DoubleDouble(G, np.zeros_like(G))
        pair = DoubleDouble(
            jnp.asarray(G), jnp.asarray(G * 2.0**-54 * np.sin(1 + 9 * (G + G.swapaxes(0, 1))))
        )
        return jax.jit(solve_in_double_double)(pair, least), pair


def digits(a):
    """All digits of a pair, as an object array of mpmath's numbers."""
    return sum(np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(half, "f8")) for half in (a.hi, a.lo))


def worst(found, expected):
    """The largest difference, of the largest entry."""
    size = max(abs(e) for e in expected)
    return float(max(abs(f - e) for f, e in zip(found, expected, strict=True)) / size)


def entries(matrix):
    return [matrix[i, j] for i in range(matrix.rows) for j in range(matrix.cols)]


@pytest.mark.parametrize("kind", ROUNDING)
@pytest.mark.parametrize("p", SIZES)
def test_the_solution_is_that_of_exact_arithmetic(rng, p, kind):
    assert 2 <= max_listed() < 5
    with mpmath.workdps(60):
        found, G = solved(gram(rng.normal(size=(3 * p + 3, p + 1, M))), kind)
        exact = digits(G)
        coefs, inverse, rest = map(digits, found[:3])
        assert coefs.shape == (p, M)
        assert inverse.shape == (p, p, M)
        assert rest.shape == found.smallest_pivot.shape == (M,)
        for i in range(M):
            A, b = mpmath.matrix(exact[:p, :p, i].tolist()), mpmath.matrix(exact[:p, p, i].tolist())
            A_inverse = A**-1
            c = A_inverse * b
            square = exact[p, p, i]
            condition = float(mpmath.mnorm(A, 1) * mpmath.mnorm(A_inverse, 1))
            room = 4 * condition * ROUNDING[kind]
            assert worst(coefs[:, i], list(c)) < room
            assert worst(inverse[..., i].ravel(), entries(A_inverse)) < room
            assert abs(rest[i] - (square - (b.T * c)[0])) < room * square


@pytest.mark.parametrize("kind", ROUNDING)
@pytest.mark.parametrize("p", [2, LARGE])
def test_the_share_is_the_smallest_that_is_left_of_a_column(rng, p, kind):
    """Of column k, 1 − R² of its regression on those before it."""
    Z = rng.normal(size=(3 * p + 3, p + 1, M))
    Z[:, p - 1] += 3 * Z[:, 0]
    share = solved(gram(Z), kind)[0].smallest_pivot
    for i in range(M):
        left = [1.0]
        for k in range(1, p):
            before, column = Z[:, :k, i], Z[:, k, i]
            e = column - before @ np.linalg.lstsq(before, column)[0]
            left.append(e @ e / (column @ column))
        np.testing.assert_allclose(share[i], min(left), rtol=1e-11)


@pytest.mark.parametrize("kind", ROUNDING)
@pytest.mark.parametrize("p", [2, 5, LARGE])
@pytest.mark.parametrize("columns", ["equal", "a combination", "zero"])
def test_dependent_columns_leave_no_share_and_all_numbers_finite(rng, p, kind, columns):
    Z = rng.normal(size=(3 * p + 3, p + 1, M))
    Z[:, p - 1, 1] = {"equal": Z[:, 0, 1], "zero": 0}.get(columns, Z[:, : p - 1, 1].sum(axis=1))
    least = 2.0**-46
    found, _ = solved(gram(Z), kind, least)
    np.testing.assert_array_equal(np.asarray(found.smallest_pivot) <= least, [False, True, False])
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(found))


@pytest.mark.parametrize("kind", ROUNDING)
@pytest.mark.parametrize("p", [2, LARGE])
def test_what_the_columns_explain_leaves_no_rest(rng, p, kind):
    Z = rng.normal(size=(3 * p + 3, p + 1, M))
    c = rng.normal(size=(p, M))
    Z[:, p] = np.einsum("nkM,kM->nM", Z[:, :p], c)
    G = gram(Z)
    found, _ = solved(G, kind)
    np.testing.assert_allclose(found.coefs.hi, c, rtol=1e-11)
    assert np.all(np.abs(found.unexplained.value) < 1e-11 * G[p, p])


@pytest.mark.parametrize("kind", ROUNDING)
@pytest.mark.parametrize("p", [2, 5])
def test_no_change_of_G_moves_the_solution_further_than_the_bound(rng, p, kind):
    """Every entry of G off by ε of its size, in any direction."""
    Z = rng.normal(size=(3 * p, p + 1, M))
    Z[:, 1] = Z[:, 0] + 0.05 * Z[:, 1]
    G, relative = gram(Z), 1e-5
    size = np.sqrt(np.einsum("iiM->iM", G))
    found, _ = solved(G, kind)
    with jax.enable_x64(True):
        if kind == "pairs":
            bound = double_double_coef_error(found, jnp.asarray(size), relative)
        else:
            lower = [G[i, j] for i in range(p + 1) for j in range(i + 1)]
            single = solve(Symmetric.from_lower(lower, p + 1), vector([G[i, i] for i in range(p)]), 2.0**-46)
            bound = jnp.stack(
                [*coef_error(single, vector(list(size[:-1])), size[-1], jnp.asarray(relative))[0]]
            )
    largest = np.zeros((p, M))
    for _ in range(200):
        sign = np.triu(rng.choice([-1, 1], size=(p + 1, p + 1)))
        off = G + relative * (sign + np.triu(sign, 1).T)[..., None] * size[:, None] * size[None]
        moved = np.stack([np.linalg.solve(off[:p, :p, i], off[:p, p, i]) for i in range(M)], axis=1)
        largest = np.maximum(largest, np.abs(moved - np.asarray(found.coefs.hi)))
    bound = np.asarray(bound)
    assert (largest <= bound * (1 + 1e-9)).all()  # with two params some change attains the bound
    assert (bound < 20 * largest.max(axis=0)).all()
