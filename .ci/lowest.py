"""Print the oldest versions that pyproject.toml admits, as constraints for pip."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
requirements = [
    *project["dependencies"],
    *(r for name in ("xarray", "frame", "plot", "physics", "cli", "sklearn") for r in extras[name]),
]
print("\n".join(sorted({r.replace(">=", "==") for r in requirements if ">=" in r})))
