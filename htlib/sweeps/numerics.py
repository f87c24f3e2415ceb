"""Digests of the code that decides numbers, for the names of stored runs and the marks of recorded verdicts.

A digest covers the modules of htlib that imports reach from where numbers are made: from `htlib.train` for
runs; for verdicts, from the judging of checks, too.  An edit of their code changes the digest, for instance a
changed formula or a new entry of a registry.  A digest does not cover

- docstrings, comments, annotations, formatting, and the texts of errors;
- modules that hold the requests and the results (`_HOLDERS`), and modules that only they import: the fields
  of a configuration and the text of a check have digests of their own;
- versions of htlib, torch and NumPy;
- imports by a computed name and files that are not Python: no number may depend on those.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import resolve_name

RUNS = ("htlib.student.training",)
NETWORKS = ("htlib.networks.training",)
VERDICTS = (*RUNS, "htlib.ledger.verdicts")
_HOLDERS = frozenset(
    {
        "htlib.student.files",
        "htlib.student.config",
        "htlib.student.run",
        "htlib.networks.config",
        "htlib.networks.run",
        "htlib.sweeps.kinds",
        "htlib.sweeps.numerics",
        "htlib.sweeps.presets",
        "htlib.sweeps.store",
        "htlib.ledger.claims",
    }
)
_SILENT = frozenset({"annotation", "returns", "type_comment", "ctx"})  # ctx follows from the place of a name
_FOR_ANNOTATIONS = frozenset({"__future__", "collections.abc", "jaxtyping", "numpy.typing", "typing"})


@cache
def code_digest(roots: tuple[str, ...], folder: Traversable | None = None) -> str:
    """Return 16 hexadecimal digits for the code behind some modules, the same in every version of Python.

    The roots are `RUNS`, `NETWORKS`, `VERDICTS` or other dotted names of modules; the folder of the package
    is by default that of the imported one.  Errors are those of `modules_behind`.
    """
    text = "\n".join(f"{name} {code}" for name, code in sorted(modules_behind(roots, folder).items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def modules_behind(roots: tuple[str, ...], folder: Traversable | None = None) -> dict[str, str]:
    """Find the modules of htlib that imports reach, anywhere in a file and in any form, with the roots.

    Return a dictionary from dotted names to code without prose.  Packages count, except htlib, because its
    ``__init__`` leads to everything.  A module without source (an installation of byte code only) is a
    ModuleNotFoundError; a module that imports htlib as a whole, or a name of it that is not a module, is an
    ImportError.
    """
    folder = folder or files("htlib")
    ahead, found = set(roots), dict[str, str]()
    while ahead:
        name = ahead.pop()
        source = source_of(name, folder)
        if source is None:
            raise ModuleNotFoundError(f"no source of {name} in {folder}; results are named after the source")
        tree = ast.parse(source.read_bytes())
        package = name if source.name == "__init__.py" else name.rpartition(".")[0]
        imports = imports_of(tree, package, folder)
        if "htlib" in imports:
            raise ImportError(f"{name} imports htlib as a whole; it must name the modules that it needs")
        parts = name.split(".")
        around = {".".join(parts[:k]) for k in range(2, len(parts))}  # their __init__ is executed, too
        found[name] = _code(tree)
        ahead = (ahead | imports | around) - found.keys() - _HOLDERS
    return found


def source_of(name: str, folder: Traversable) -> Traversable | None:
    """Return the file of a module, or None if there is no such module."""
    *parents, last = name.split(".")[1:]
    candidates = (folder.joinpath(*parents, f"{last}.py"), folder.joinpath(*parents, last, "__init__.py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def imports_of(tree: ast.Module, package: str, folder: Traversable) -> set[str]:
    """Return the modules of htlib that a module imports, with "htlib" if it imports that as a whole."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "htlib"}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            if base.split(".")[0] == "htlib":
                names = {f"{base}.{alias.name}" for alias in node.names}
                modules = {name for name in names if source_of(name, folder)}
                found |= modules if modules == names else {base, *modules}
    return found


def _code(node: object, parent: object = None) -> str:
    """Write a syntax tree as text without prose.

    Empty fields are left out, because versions of Python differ in them.
    """
    if isinstance(node, list):
        return f"[{','.join(_code(item, parent) for item in node if not _is_prose(item))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        node.exc.args = [argument for argument in node.exc.args if not _is_text(argument)]
    if isinstance(node, ast.AnnAssign) and node.value and not isinstance(parent, ast.ClassDef):
        node = ast.Assign([node.target], node.value)  # in a class an annotation makes a field
    fields = (
        f"{name}={_code(value, node)}"
        for name, value in ast.iter_fields(node)
        if name not in _SILENT and value not in (None, [])
    )
    return f"{type(node).__name__}({','.join(fields)})"


def _is_prose(item: object) -> bool:
    """Return True if a statement is a docstring or imports only what annotations need."""
    if isinstance(item, ast.Expr):
        return isinstance(item.value, ast.Constant)
    return isinstance(item, ast.ImportFrom) and item.module in _FOR_ANNOTATIONS


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
