"""Find the code of htlib that a chapter reaches, so that a change elsewhere does not execute it anew.

    python book/sources.py htlib.explorer.page     prints a digest of the code behind a module

The imports of modules are followed, as for the names of stored runs (`htlib.sweeps.numerics`).  A name that a
chapter takes from htlib, htlib.figures or htlib.explorer leads to the module that defines it, and not to the
whole package; a figure that is looked up by name at run time leads to all of them.  Docstrings do not count,
because no chapter shows one; texts of errors do.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

from htlib.sweeps.numerics import imports_of, source_of

_FOLDER = files("htlib")
# Packages whose __init__ only collects names.
_COLLECTIONS = ("htlib", "htlib.figures", "htlib.explorer")
_BY_NAME = {"draw", "FIGURES"}  # of htlib.figures


def code_behind(cells: Iterable[str]) -> str:
    """Return a digest of all code of htlib that the cells of a chapter reach.

    >>> code_behind(["1 + 1"]) == code_behind(["import numpy as np", "np.pi"])
    True
    >>> code_behind(["import htlib as ht", "ht.esd"]) == code_behind(["import htlib as ht", "ht.train"])
    False
    """
    try:
        roots = _roots(ast.parse("\n".join(cells)))
    except SyntaxError:  # a magic of IPython, or an error that the chapter shows
        roots = _all("htlib")
    return _digest(roots)


def _roots(tree: ast.Module) -> set[str]:
    """Return the modules that the names in a chapter lead to."""
    roots, packages = set[str](), dict[str, str]()

    def take(package: str, name: str, alias: str = "") -> None:
        target = f"{package}.{name}"
        if target in _COLLECTIONS and alias:
            packages[alias] = target
        elif package not in _COLLECTIONS:
            roots.add(target if source_of(target, _FOLDER) else package)
        elif name not in _BY_NAME and (home := _homes(package).get(name)):
            roots.add(home)
        elif source_of(target, _FOLDER) and target not in _COLLECTIONS:
            roots.add(target)
        else:
            roots.update(_all(target if target in _COLLECTIONS else package))

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                if item.name == "htlib" or (item.name.startswith("htlib.") and not item.asname):
                    packages[item.asname or "htlib"] = "htlib"
                elif item.name.startswith("htlib."):
                    roots.update(_all(item.name))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "htlib":
            for item in node.names:
                take(node.module or "", item.name, item.asname or item.name)

    def package_of(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return packages.get(node.id)
        if isinstance(node, ast.Attribute) and (outer := package_of(node.value)):
            return name if (name := f"{outer}.{node.attr}") in _COLLECTIONS else None
        return None

    inside: set[ast.AST] = set()
    for node in ast.walk(tree):  # from the outside to the inside
        if isinstance(node, ast.Attribute) and (package := package_of(node.value)):
            inside.add(node.value)
            if package_of(node) is None or node not in inside:
                take(package, node.attr)
        elif node not in inside and (package := package_of(node)):
            roots.update(_all(package))
    return roots


def _digest(roots: set[str]) -> str:
    """Return a digest of some modules and of all that their imports reach."""
    ahead, found = set(roots), dict[str, str]()
    while ahead:
        name = ahead.pop()
        imports, found[name] = _module(name)
        if "htlib" in imports:
            imports = imports - {"htlib"} | _all("htlib")
        ahead = (ahead | imports) - found.keys()
    text = "\n".join(f"{name} {code}" for name, code in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _module(name: str) -> tuple[set[str], str]:
    """Return what a module imports, with the packages around it, and its code without docstrings."""
    source = source_of(name, _FOLDER)
    if source is None:
        raise ModuleNotFoundError(f"no source of {name}")
    tree = ast.parse(source.read_bytes(), str(source))
    parts = name.split(".")
    package = name if source.name == "__init__.py" else ".".join(parts[:-1])
    around = {".".join(parts[:k]) for k in range(2, len(parts))} - set(_COLLECTIONS)
    imports = imports_of(tree, package, _FOLDER) | around
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            del node.body[0]
    return imports, ast.dump(tree)


@cache
def _homes(package: str) -> dict[str, str]:
    """Return the module that each name of a collection comes from."""
    if package == "htlib":
        import htlib

        return htlib._HOMES
    source = source_of(package, _FOLDER)
    assert source is not None
    return {
        item.asname or item.name: node.module
        for node in ast.parse(source.read_bytes()).body
        if isinstance(node, ast.ImportFrom) and node.module
        for item in node.names
    }


@cache
def _all(package: str) -> set[str]:
    """Return every module of a package, or the module itself."""
    folder = Path(str(_FOLDER.joinpath(*package.split(".")[1:])))
    inside = folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
    names = (".".join(("htlib", *path.relative_to(str(_FOLDER)).with_suffix("").parts)) for path in inside)
    return {name.removesuffix(".__init__") for name in names} - {"htlib"}


if __name__ == "__main__":
    print(_digest(set(sys.argv[1:])))
