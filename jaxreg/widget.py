"""The cost surface of a line with a θ to drag, in notebooks and as a web page (extra `widget`)."""

try:
    import anywidget  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        'jaxreg.widget needs anywidget: python -m pip install "jaxreg[widget]"'
    ) from None

from jaxreg.faces.widget.notebook import cost_surface
from jaxreg.faces.widget.page import write_page

__all__ = ["cost_surface", "write_page"]
