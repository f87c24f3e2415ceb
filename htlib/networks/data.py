"""The data of real networks, which come with packages that are installed: nothing is downloaded."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from htlib.networks.config import NetworkConfig

TRAINING_PACKAGES, TEST_PACKAGE = ("networkx", "numpy", "pandas"), "sympy"
# Printable ASCII and the new line; everything else in a text becomes the last symbol.
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
N_SYMBOLS = len(ALPHABET) + 1
_TEST_CHARACTERS = 40_000
_TEST_DIGITS = 797


@dataclass(frozen=True)
class Data:
    """Inputs and targets for training and test.

    For digits the inputs are (n, 64) pixels with mean 0 and variance 1, and the targets (n,) classes.  For
    text the inputs are (n,) symbols and the targets the same symbols: the next one is to be predicted.
    """

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    digest: str  # of everything above


def data_of(config: NetworkConfig) -> Data:
    """Return the data of a configuration; for digits the seed draws the split, for text it is fixed."""
    data = _text(config) if config.network == "transformer" else _digits(config)
    arrays = (data.inputs, data.targets, data.test_inputs, data.test_targets)
    content = b"".join(array.numpy().tobytes() for array in arrays)
    return Data(*arrays, digest=hashlib.sha256(content).hexdigest()[:16])


def _digits(config: NetworkConfig) -> Data:
    images, classes = _all_digits()
    rng = np.random.default_rng([config.seed, 1])
    order = rng.permutation(len(images))
    test, rest = order[:_TEST_DIGITS], order[_TEST_DIGITS:]
    train = rest[: max(2, round(config.fraction * len(rest)))]
    mean, scale = images[train].mean(), images[train].std()
    inputs = torch.from_numpy((images - mean) / scale).float()
    targets = torch.from_numpy(classes)
    labels = targets[train]
    if config.labels == "shuffled":
        labels = labels[torch.from_numpy(rng.permutation(len(train)))]
    return Data(inputs[train], labels, inputs[test], targets[test], "")


@cache  # reading the file takes as long as a tenth of a training
def _all_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the (1797, 64) pixels and the classes of all digits of scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'htlib[book]'") from error
    bunch: Any = load_digits()
    return np.asarray(bunch["data"], np.float64), np.asarray(bunch["target"], np.int64)


def _text(config: NetworkConfig) -> Data:
    each = config.characters // len(TRAINING_PACKAGES)
    parts = [symbols(docstrings(name, each)) for name in TRAINING_PACKAGES]
    kept = [part[: max(2 * config.context, round(config.fraction * len(part)))] for part in parts]
    text = torch.cat(kept)
    if config.labels == "shuffled":
        rng = np.random.default_rng([config.seed, 1])
        text = text[torch.from_numpy(rng.permutation(len(text)))]
    test = symbols(docstrings(TEST_PACKAGE, _TEST_CHARACTERS))
    return Data(text, text, test, test, "")


def symbols(text: str) -> Tensor:
    """Return the (n,) places of the characters of a text in `ALPHABET`, or the one after the last.

    >>> symbols("\\na~é").tolist()
    [0, 66, 95, 96]
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
    places = np.where((codes >= 32) & (codes < 127), codes - 31, N_SYMBOLS - 1)
    return torch.from_numpy(np.where(codes == 10, 0, places))


@cache
def docstrings(package: str, characters: int) -> str:
    """Return the first characters of the docstrings of an installed package, in the order of its files.

    Its tests are left out.  The package is not imported.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"the text comes with {package}: pip install 'htlib[book]'")
    found, length = list[str](), 0
    for text in _docstrings_in(Path(spec.origin).parent):
        found.append(text)
        length += len(text) + 2
        if length >= characters:
            break
    return "\n\n".join(found)[:characters]


def _docstrings_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).parts):
        if any("test" in part for part in path.relative_to(folder).parts):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
                text := ast.get_docstring(node)
            ):
                yield text
