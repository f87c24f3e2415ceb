"""Tell Sphinx which pages to write again because another page has changed.

Pages show titles, numbers and the targets of links of other pages.  Sphinx itself writes again what it has
read again, and tables of contents.  With this extension it writes all pages as soon as anything that a page
can say of another one is no longer the same; what it says of broken links is then complete, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

# titles, sections and their numbers, and what the domains and the extensions of exercises and proofs know
_SHARED = ("titles", "longtitles", "tocs", "toc_secnumbers", "toc_fignumbers", "domaindata")
_SHARED += ("sphinx_exercise_registry", "proof_list")


def setup(app: Sphinx) -> dict[str, Any]:
    """Ask after the numbers of sections and figures are known."""
    app.connect("env-get-updated", _pages_to_write, priority=900)
    return {"parallel_read_safe": True}


def _pages_to_write(app: Sphinx, env: BuildEnvironment) -> Iterable[str]:
    known: dict[str, Any] = vars(env)
    shared = "\n".join(_text(known.get(name)) for name in _SHARED)
    digest = hashlib.sha256(shared.encode()).hexdigest()
    last, known["shared_digest"] = known.get("shared_digest"), digest
    # what a page has for the index of the search is forgotten unless the page is written
    indexed = [name for name, entries in env.domaindata["index"]["entries"].items() if entries]
    return indexed if last == digest else env.found_docs


def _text(value: object) -> str:
    """Write a value as text that does not depend on the order in which documents were read."""
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{_text(k)}: {_text(v)}' for k, v in value.items()))}}}"
    if isinstance(value, (set, frozenset, list)):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, Node):
        return value.pformat()
    if hasattr(value, "__dict__") and not isinstance(value, type):
        return type(value).__name__ + _text(vars(value))
    return repr(value)
