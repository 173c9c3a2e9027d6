import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import Status, describe, fit
from jaxreg.status import counts


def test_every_code_has_advice_that_ends_as_a_sentence():
    assert all(code.advice.endswith(".") for code in Status)
    assert len({code.advice for code in Status}) == len(Status)


def test_codes_fit_where_they_are_kept():
    assert [int(code) for code in Status] == list(range(len(Status)))  # an index into tables
    assert fit(np.arange(3.0), np.arange(3.0)).status.dtype == np.int8


@pytest.mark.parametrize("make", [list, np.array, jnp.array])
def test_describe_counts_and_explains_each_code_that_occurs(make):
    text = describe(make([4, 0, 0, 4, 0]))
    first, second = text.splitlines()
    assert first == "3 ok: fitted."
    assert second.startswith("2 rank_deficient: ")
    assert Status.rank_deficient.advice in second


def test_describe_takes_one_code_and_a_grid():
    assert describe(Status.diverged).startswith("1 diverged: ")
    assert describe(np.zeros((3, 4), np.int8)) == "12 ok: fitted."


def test_counts_are_by_code():
    assert counts(np.array([5, 0, 5])) == {Status.ok: 1, Status.invalid_data: 2}


def test_the_advice_on_descents_names_a_function_that_exists():
    import jaxreg

    for code in (Status.not_converged, Status.diverged):
        assert "learning rate" in code.advice
    assert callable(jaxreg.learning_rates)
