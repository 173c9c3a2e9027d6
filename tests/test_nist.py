"""Digits on NIST's certified sets; `pytest tests/test_nist.py -n 0 -s` prints the table beside the peers."""

import re
from pathlib import Path

import numpy as np
import pytest
from nist import DTYPES, MOST, NAMES, SETS, SOLVERS, digits, regression

from jaxreg import ClosedForm, fit

pytestmark = pytest.mark.either_mode

ROOT = Path(__file__).parent.parent
SOME = ("Norris",)
SOME_AND_THE_REST = [*SOME, *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n not in SOME)]
ASKED = {"float64": (13, 10), "float32": (6, 6)}


@pytest.mark.slow_in("float32")
@pytest.mark.parametrize("name", SOME_AND_THE_REST)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_param_has_the_digits_that_the_stored_data_define(name, dtype):
    r = regression(name, dtype)
    found = fit(r.x, r.y, ansatz=r.ansatz)
    params, bse = digits(found.params, r.params), digits(found.bse, r.bse)
    print(f"\n{name:9} {dtype}: params {params:.1f}, bse {bse:.1f}, certain {found.digits}")
    assert params >= ASKED[dtype][0]
    assert bse >= ASKED[dtype][1]
    assert found.digits <= params
    # What standard errors larger than the params hide is not computed again, so that it is not known either.
    hidden = np.log10(max(1, np.max(np.asarray(found.bse) / np.abs(found.params))))
    assert found.digits >= ASKED[dtype][0] - hidden - (name == "Filip" and dtype == "float32")


@pytest.mark.parametrize("name", SOME_AND_THE_REST)
def test_float64_gives_the_certified_values(name):
    """NIST gives 15 digits; Wampler2's y are decimals that float64 holds to 13 digits of the params."""
    r = regression(name, "float64")
    found = fit(r.x, r.y, ansatz=r.ansatz)
    assert digits(found.params, SETS[name]["params"]) >= 13
    assert digits(found.bse, SETS[name]["bse"]) >= (10 if name != "NoInt1" else 12)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fast", "certified"])
@pytest.mark.parametrize("name", ["Norris", "Longley", "Wampler4"])
def test_no_precision_claims_a_digit_too_many(name, precision):
    for dtype in DTYPES:
        r = regression(name, dtype)
        found = fit(r.x, r.y, ansatz=r.ansatz, solver=ClosedForm(precision=precision))
        assert found.digits <= digits(found.params, r.params)
        if precision == "certified":
            assert found.digits == {"float64": 15, "float32": 7}[dtype]


@pytest.mark.slow
@pytest.mark.optimized
def test_the_table_of_the_readme_is_what_is_measured():
    """Ours to the digit; those of the peers depend on the machine and are printed, not compared."""
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\d+)(?:\+)? \| (\d+)(?:\+)? \|", text, flags=re.MULTILINE)
    assert {name for name, *_ in rows} == set(NAMES)
    for name, *claimed in rows:
        for dtype, claim in zip(DTYPES, claimed, strict=True):
            r = regression(name, dtype)
            assert int(claim) <= digits(SOLVERS["jaxreg"](r), r.params) <= MOST


@pytest.mark.slow
def test_peers_are_measured_on_the_same_numbers():
    r = regression("Norris", "float64")
    for who, solve in SOLVERS.items():
        np.testing.assert_allclose(
            np.asarray(solve(r), float), [float(v) for v in r.params], rtol=1e-5, err_msg=who
        )
