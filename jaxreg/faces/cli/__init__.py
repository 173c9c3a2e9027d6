"""The command line (extra `cli`): `jaxreg fit`, `info`, `plot` and `tour`."""

from jaxreg.faces.cli.program import main

__all__ = ["main"]
