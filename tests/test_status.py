import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import Status, describe, fit
from jaxreg.status import counts, named_counts


def test_every_code_has_its_own_sentence_of_advice():
    assert all(code.advice.endswith(".") for code in Status)
    assert len({code.advice for code in Status}) == len(Status)


def test_codes_are_consecutive_and_fit_in_int8():
    assert [int(code) for code in Status] == list(range(len(Status)))  # an index into tables
    assert fit(np.arange(3.0), np.arange(3.0)).status.dtype == np.int8


@pytest.mark.parametrize("make", [list, np.array, jnp.array])
def test_describe_counts_and_explains_each_code_that_occurs(make):
    text = describe(make([4, 0, 0, 4, 0]))
    first, second = text.splitlines()
    assert first == "3 ok: fitted."
    assert second.startswith("2 rank_deficient: ")
    assert Status.rank_deficient.advice in second


def test_describe_accepts_one_code_and_a_grid():
    assert describe(Status.diverged).startswith("1 diverged: ")
    assert describe(np.zeros((3, 4), np.int8)) == "12 ok: fitted."


def test_named_counts_accept_any_integers():
    assert named_counts(np.int8(9)) == "cost_increased"
    assert named_counts(np.array([[0, 9], [100, 0]])) == "2 ok, 1 cost_increased, 1 100"


def test_counts_are_by_code():
    assert counts(np.array([5, 0, 5])) == {Status.ok: 1, Status.invalid_data: 2}


def test_the_advice_on_descents_names_an_existing_function():
    import jaxreg

    for code in (Status.not_converged, Status.diverged, Status.cost_increased):
        assert "learning rate" in code.advice
    assert callable(jaxreg.learning_rates)
