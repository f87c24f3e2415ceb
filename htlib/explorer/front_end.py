"""The files of the front ends, which Jupyter and the pages share."""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"


def one_module(*names: str) -> str:
    """Join the modules of a front end, in this order, because Jupyter accepts only one file."""
    parts = [(STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names]
    return re.sub(r'^import [^;]* from "\./[^;]*;$', "", "\n".join(parts), flags=re.MULTILINE)
