"""The documentation site: `sphinx-build -W notebooks build/site`.

The generator is Sphinx, as of jax and statsmodels: well kept, and strict about references and links.
"""

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

import jaxreg

sys.path.insert(0, str(Path(__file__).parent))

import pictures

project = "jaxreg"
author = "the jaxreg developers"
copyright = author
release = version = version_of("jaxreg")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx-mathjax-offline"]
exclude_patterns = ["_static", "**/.ipynb_checkpoints"]
suppress_warnings = ["config.cache"]
default_role = "py:obj"
highlight_language = "python"

myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True

autodoc_default_options = {"member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints = "none"
napoleon_use_ivar = True
napoleon_attr_annotations = False
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "jaxreg"
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
mathjax3_config = {"tex": {"tags": "none"}}


def setup(app):
    """Draw the pictures before pages are read, and make reStructuredText of docstrings."""
    app.connect("builder-inited", lambda app: pictures.draw(Path(app.srcdir) / "equations" / "_pictures"))
    app.connect("autodoc-process-docstring", _escape, priority=600)
    app.connect("autodoc-process-signature", _without_retired)


def _without_retired(app, what, name, obj, options, signature, returned):
    """Arguments that only raise an error about their replacement are not documented."""
    return (signature.replace(", **retired", ""), returned) if signature else None


def _escape(app, what, name, obj, options, lines):
    """Characters of formulas are not markup; names in backticks refer to what they name, also with ( )."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else _escaped(line) for line in lines]


def _escaped(line):
    parts = line.split("`")
    outside = [re.sub(r"(?<!\\)([*|]|(?<=\w)_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    inside = [_reference(part) for part in parts[1::2]]
    pieces = [piece for pair in zip(outside, [*inside, ""], strict=False) for piece in pair]
    return re.sub(r"(?<=: )(\w\.)$", r"\\\1", "".join(pieces))  # not the first item of a list


def _reference(code):
    name = code.partition("(")[0].removeprefix("jaxreg.")
    if name in jaxreg.__all__ and (code.endswith(")") or code.startswith("jaxreg.")):
        return f"`{code} <jaxreg.{name}>`"
    return f"`{code}`"
