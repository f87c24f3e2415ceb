"""What a reader can move, in Jupyter and in the page: an experiment, and the layers of a model."""

from importlib.util import find_spec

if find_spec("anywidget") is None:
    raise ImportError("htlib.explorer needs anywidget and ipywidgets: pip install 'htlib[explorer]'")

from htlib.explorer.model import layers
from htlib.explorer.widget import Explorer

__all__ = ["Explorer", "layers"]
