"""The table of a fit in a notebook."""

from __future__ import annotations

import numpy as np

from jaxreg import status
from jaxreg.inference import statistics
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.report import has_errors
from jaxreg.numerics import html

LEVEL = 0.05  # of significance
FINE = (status.Status.ok, status.Status.exact_fit)


def table_of_fit(fitted: Fitted, ansatz: str, names: tuple[str, ...]) -> str:
    """Params with errors and tests of one data set, or quantiles and histograms over many."""
    return (_of_many if fitted.estimate.status.shape else _of_one)(fitted, ansatz, names)


def _of_one(fitted: Fitted, ansatz: str, names: tuple[str, ...]) -> str:
    e = fitted.estimate
    columns, headings, notes = [e.params], ["", "coef"], _advice(fitted)
    if has_errors(fitted):
        letter = "t" if fitted.use_t else "z"
        columns += [e.bse, statistics.tvalues(fitted), statistics.pvalues(fitted)]
        headings += ["std err", letter, f"P>|{letter}|"]
    else:
        notes = ["this cost has no standard errors", *notes]
    values = np.stack([np.asarray(column) for column in columns], axis=1).tolist()
    rows = ([name, *map(html.number, row)] for name, row in zip(names, values, strict=True))
    title = f"{ansatz} fitted to {int(e.nobs):,} observations: {status.named_counts(e.status)}"
    return html.table(title, headings, rows, notes)


def _of_many(fitted: Fitted, ansatz: str, names: tuple[str, ...]) -> str:
    e = fitted.estimate
    headings = ["", *html.SPREAD]
    rows = [[name, *html.spread(np.asarray(values))] for name, values in zip(names, e.params, strict=True)]
    if has_errors(fitted):
        headings += ["median std err", f"P < {LEVEL:g}"]
        pvalues = np.asarray(statistics.pvalues(fitted))
        for row, bse, p in zip(rows, np.asarray(e.bse), pvalues, strict=True):
            row += [html.spread(bse)[1], f"{(p < LEVEL).sum():,} of {np.isfinite(p).sum():,}"]
    shape = " × ".join(map(str, e.status.shape))
    counts = status.named_counts(e.status)
    title = f"{ansatz} fitted to {shape} data sets" + (f": {counts}" if counts else "")
    return html.table(title, headings, rows, _advice(fitted))


def _advice(fitted: Fitted) -> list[str]:
    """What each status other than `ok` means."""
    advice = {code.value: f"{code.name}: {code.advice}" for code in status.Status if code not in FINE}
    return [advice[code] for code in np.unique(fitted.estimate.status).tolist() if code in advice]
