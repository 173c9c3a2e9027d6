"""NIST's certified nonlinear sets, as curves with their starts."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

SETS = json.loads((Path(__file__).parent / "nist_nonlinear.json").read_text())


def _enso(b, x):
    waves = [b[0]]
    for cos, sin, period in ((b[1], b[2], 12), (b[4], b[5], b[3]), (b[7], b[8], b[6])):
        waves += [cos * jnp.cos(2 * jnp.pi * x / period), sin * jnp.sin(2 * jnp.pi * x / period)]
    return sum(waves)


def _gauss(b, x):
    peaks = (h * jnp.exp(-(((x - c) / w) ** 2)) for h, c, w in (b[2:5], b[5:8]))
    return b[0] * jnp.exp(-b[1] * x) + sum(peaks)


def _kirby(b, x):
    return (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2)


MODELS = {
    "BoxBOD": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Chwirut2": lambda b, x: jnp.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "ENSO": _enso,
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss1": _gauss,
    "Kirby2": _kirby,
    "Lanczos3": lambda b, x: sum(b[i] * jnp.exp(-b[i + 1] * x) for i in (0, 2, 4)),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Misra1a": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * jnp.exp(-b[2] * x[1]),
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / jnp.pi,
}


def data(name, dtype):
    """x and y; Nelson's y is a logarithm."""
    x, y = (np.array(SETS[name][axis]) for axis in ("x", "y"))
    return x.astype(dtype), (np.log(y) if name == "Nelson" else y).astype(dtype)
