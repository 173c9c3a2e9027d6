"""The house: modules import downwards only, and no module hides behind a function of its name."""

import ast
from inspect import ismodule
from pathlib import Path

import jaxreg

ROOT = Path(jaxreg.__file__).parent
FLOORS = (
    ("_typing",),
    ("numerics",),
    ("ansatz", "gaps", "cost", "costs", "curves", "status"),
    ("data",),
    ("engine",),
    ("solvers",),
    ("inference",),
    ("mechanics",),
    ("fitting",),
    ("faces", "frame", "plot", "physics", "sklearn", "widget", "xarray", "datasets", "distributions"),
    ("public",),
    ("", "__main__"),
)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in ROOT.rglob("*.py")
}


def floor(module):
    (number,) = (i for i, rooms in enumerate(FLOORS) if module.split(".")[0] in rooms)
    return number


def imports(module):
    """Modules of the package that a module imports, also inside of functions and for type checking."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxreg":
            source = node.module.removeprefix("jaxreg").lstrip(".")
            for alias in node.names:
                name = f"{source}.{alias.name}".lstrip(".")
                yield name if name in MODULES else source
        if isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("jaxreg").lstrip(".")
                for alias in node.names
                if alias.name.split(".")[0] == "jaxreg"
            )


def test_imports_run_downwards():
    upwards = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports(module)
        if floor(other) > floor(module)
    ]
    assert not upwards


def test_no_two_modules_import_each_other():
    below = {module: set(imports(module)) for module in MODULES}
    resolved = set()
    while True:
        free = {module for module in below if module not in resolved and below[module] <= resolved}
        if not free:
            break
        resolved |= free
    assert sorted(set(below) - resolved) == []


def test_no_module_hides_behind_a_public_name():
    hidden = [name for name in jaxreg.__all__ if name in MODULES and not ismodule(getattr(jaxreg, name))]
    assert not hidden


def test_public_names_exist_and_say_what_they_are():
    for name in jaxreg.__all__:
        assert (getattr(jaxreg, name).__doc__ or "").strip(), name
