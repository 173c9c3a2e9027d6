"""What the options of `jaxreg fit` stand for: costs, covariances, solvers, devices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax

from jaxreg.ansatz import Ansatz, Line, Polynomial
from jaxreg.cost import Cost, mean_squared_error
from jaxreg.costs.likelihoods import Gamma, Logistic, NegativeBinomial, Poisson
from jaxreg.costs.quantile import Quantile
from jaxreg.costs.ridge import Ridge
from jaxreg.costs.robust import Bisquare, Huber, PseudoHuber
from jaxreg.data.output import UserError
from jaxreg.engine.sandwich import Covariance
from jaxreg.inference.covariance import HAC
from jaxreg.solvers.closed_form import ClosedForm
from jaxreg.solvers.gradient_descent import GradientDescent
from jaxreg.solvers.interior_point import InteriorPoint
from jaxreg.solvers.newtons_method import Newton
from jaxreg.solvers.reweighted import Reweighted
from jaxreg.solvers.solver import Solver

COSTS: dict[str, Callable[[], Any]] = {
    "mean-squared-error": lambda: mean_squared_error,
    "logistic": Logistic,
    "poisson": Poisson,
    "gamma": Gamma,
}
COSTS_WITH_NUMBER: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {  # and arguments if omitted
    "huber": (Huber, ()),
    "pseudo-huber": (PseudoHuber, ()),
    "bisquare": (Bisquare, ()),
    "quantile": (Quantile, (0.5,)),
    "negative-binomial": (NegativeBinomial, ()),
    "ridge": (Ridge, ()),
}
COVARIANCES = ("nonrobust", "HC0", "HC1", "HC2", "HC3")
METHODS: dict[str, Callable[[], Solver]] = {
    "closed-form": ClosedForm,
    "gradient-descent": GradientDescent,
    "newton": Newton,
    "reweighted": Reweighted,
    "interior-point": InteriorPoint,
}


@dataclass(frozen=True)
class Names:
    """The variables or columns that are named.

    Attributes:
        y: of the response, one or more.
        x: of x, one or more.
        weights: of the inverse variances.
        dim: the dimension of the observations.
        by: columns of a table whose values make a group.
        formula: in place of y and x.
    """

    y: tuple[str, ...] = ()
    x: tuple[str, ...] = ()
    weights: str | None = None
    dim: str | None = None
    by: tuple[str, ...] = ()
    formula: str | None = None


@dataclass(frozen=True)
class Reading:
    """How a file is read; None stands for what the file itself tells.

    Attributes:
        missing: values that stand for a gap, as text.
        delimiter: between the fields of a text.
        decimal: the decimal point or comma of a text.
        encoding: of a text, UTF-8 if omitted.
        date_format: of dates in a text.
        group: of a netCDF file or Zarr store.
    """

    missing: tuple[str, ...] = ()
    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    date_format: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Model:
    """What is fitted, and what is told about it.

    Attributes:
        degree: of the polynomial of one x.
        cost: what is minimized.
        solver: how, or None for that of the cost.
        cov_type: of the standard errors.
        clusters: the column or variable of clusters, in place of cov_type.
        alpha: 1 − the confidence of intervals, and the rate of false discoveries.
        false_discovery: the method by which p-values are adjusted.
        per: the unit of time of the slope, or None.
    """

    degree: int = 1
    cost: Cost = mean_squared_error
    solver: Solver | None = None
    cov_type: str | Covariance = "nonrobust"
    clusters: str | None = None
    alpha: float = 0.05
    false_discovery: str = "bh"
    per: str | None = None

    def ansatz(self, columns: int, points: int) -> Ansatz | None:
        """Of so many x and points; None for several x, which stands for `Linear()`."""
        if columns > 1:
            if self.degree != 1:
                raise UserError(f"--degree is that of a polynomial of one --x, and there are {columns}")
            return None
        if self.degree + 1 > points:
            raise UserError(
                f"a polynomial of degree {self.degree} has {self.degree + 1} params, and there are {points} "
                f"points: pass a --degree of {max(points - 1, 0)} or less"
            )
        return Line() if self.degree == 1 else Polynomial(self.degree)


def cost_of(text: str) -> Cost:
    """The cost of a name, or of name:number such as quantile:0.9."""
    name, _, number = text.partition(":")
    if name in COSTS and not number:
        return COSTS[name]()
    if name in COSTS:
        raise UserError(f"--cost {name} takes no number, got {text}")
    if name in COSTS_WITH_NUMBER:
        kind, default = COSTS_WITH_NUMBER[name]
        return kind(_number(text, number)) if number else kind(*default)
    raise UserError(f"--cost is one of {', '.join([*COSTS, *COSTS_WITH_NUMBER])}; got {text}")


def covariance_of(text: str) -> tuple[str | Covariance, str | None]:
    """The covariance of a name or of HAC:maxlags, and the column of clusters of cluster:column."""
    name, _, argument = text.partition(":")
    if name in COVARIANCES and not argument:
        return name, None
    if name == "HAC" and argument.isdigit():
        return HAC(int(argument)), None
    if name == "cluster" and argument:
        return "nonrobust", argument
    known = ", ".join(COVARIANCES)
    raise UserError(f"--cov-type is one of {known}, HAC:maxlags such as HAC:3, or cluster:COLUMN; got {text}")


def solver_of(name: str | None) -> Solver | None:
    """The solver of a name; None for that of the cost."""
    if name is not None and name not in METHODS:
        raise UserError(f"--method is one of {', '.join(METHODS)}; got {name}")
    return None if name is None else METHODS[name]()


def on_device(text: str | None) -> AbstractContextManager[Any]:
    """A context in which a device such as "gpu" or "gpu:1" computes; None is the default of JAX."""
    if text is None:
        return jax.default_device(None)
    name, _, number = text.partition(":")
    try:
        devices = jax.devices(name)
        return jax.default_device(devices[int(number or 0)])
    except (RuntimeError, ValueError, IndexError):
        found = ", ".join(f"{device.platform}:{device.id}" for device in jax.devices())
        raise UserError(f"there is no --device {text}; there are {found}") from None


def _number(text: str, number: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise UserError(f"--cost takes name:number, such as quantile:0.9; got {text}") from None
