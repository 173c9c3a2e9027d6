"""Print the oldest versions that pyproject.toml admits, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
requirements = [
    *project["dependencies"],
    *(r for name in ("xarray", "stores", "frame", "plot", "physics", "cli", "sklearn") for r in extras[name]),
]
oldest = {re.sub(r"\[.*\]", "", r).replace(">=", "==") for r in requirements if ">=" in r}
print("\n".join(sorted(oldest)))
