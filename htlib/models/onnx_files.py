"""Read the weights of an ONNX graph, and give back the names that its exporter took from them.

torch's exporters write a Linear layer as a product with its transposed weight, which they call
"onnx::MatMul_755" or "val_22".  The module that a node came from, and the name of the bias that is added to
the product, tell the name that the weight has in the module.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from htlib.models.entries import CheckpointError, Entry, tensor_of, with_names_of_their_own

_GATES = {"LSTM": ("input", "output", "forget", "cell"), "GRU": ("update", "reset", "new")}
_TABLES = {"Gather", "GatherND", "GatherElements"}
_BIAS = re.compile(r"[._]bias$")
_SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules around it, and its own name


def entries_of_onnx(path: Path) -> list[Entry]:
    """List the tensors of an ONNX file; CheckpointError without the package onnx or for another file."""
    try:
        import onnx
        from onnx import numpy_helper
        from onnx.external_data_helper import load_external_data_for_tensor
    except ImportError as error:
        raise CheckpointError(f"{path}: ONNX files need onnx: pip install 'htlib[formats]'") from error

    def load(tensor: Any) -> Tensor:
        try:
            if tensor.external_data:
                load_external_data_for_tensor(tensor, os.fspath(path.parent))
            return tensor_of(numpy_helper.to_array(tensor, os.fspath(path.parent)))
        except Exception as error:  # files that are missing, outside of the folder, or too short
            raise CheckpointError(f"{path}: {tensor.name!r} cannot be read: {error}") from error

    try:
        model = onnx.load(path, load_external_data=False)
        tensors, nodes = _content(model.graph)
        entries = [Entry(name, partial(load, tensor), tuple(tensor.dims)) for name, tensor in tensors]
        entries = list(_as_used(entries, nodes))
    except Exception as error:  # protobuf has errors of its own
        raise CheckpointError(f"{path} is cut off or damaged, or is not an ONNX file: {error}") from error
    return with_names_of_their_own(entries)


def _content(graph: Any) -> tuple[list[tuple[str, Any]], list[Any]]:
    """List the tensors and the nodes of a graph and of its branches."""
    tensors: list[tuple[str, Any]] = [(tensor.name, tensor) for tensor in graph.initializer]
    nodes: list[Any] = []
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                tensors.append((node.output[0], attribute.t))
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    below, more = _content(inner)
                    tensors += below
                    nodes += more
    return tensors, nodes


def _as_used(entries: list[Entry], nodes: list[Any]) -> Iterator[Entry]:
    """Say of each tensor what its use in the graph says: gates, a table, a weight under another name."""
    uses: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for node in nodes:
        for place, name in enumerate(node.input):
            uses[name].append((node, place))
    names = {entry.name: _name_in_module(entry, uses) for entry in entries}
    counts = Counter(names.values())
    for entry in entries:
        name, used = names[entry.name], uses[entry.name]
        gates = next((_GATES[n.op_type] for n, place in used if n.op_type in _GATES and place in (1, 2)), ())
        if name != entry.name and counts[name] == 1:
            yield replace(
                entry, name=name, load=partial(_transposed, entry.load), shape=(entry.shape or ())[::-1]
            )
        elif gates:
            yield replace(entry, gates=gates)
        elif used and len(entry.shape or ()) == 2 and all(n.op_type in _TABLES and not p for n, p in used):
            yield replace(entry, kind="embedding")
        elif used and len(entry.shape or ()) == 2 and all(n.op_type == "Add" for n, _ in used):
            yield replace(entry, reason="only added: a bias or a table of positions")
        else:
            yield entry


def _transposed(load: Callable[[], Tensor]) -> Tensor:
    return load().T


def _name_in_module(entry: Entry, uses: dict[str, list[tuple[Any, int]]]) -> str:
    """Return the name that a factor of a product has in the module, or else its own."""
    used = uses[entry.name]
    named = "." in entry.name and not entry.name.startswith("/")
    if named or len(entry.shape or ()) != 2 or [(n.op_type, p) for n, p in used] != [("MatMul", 1)]:
        return entry.name
    product = used[0][0]
    sums = [node for node, _ in uses[product.output[0]] if node.op_type == "Add"]
    biases = [name for node in sums for name in node.input if _BIAS.search(name)]
    scope = _scope(product)
    for bias in biases:
        if not scope or bias.startswith(f"{scope}."):
            return bias.removesuffix("bias") + "weight"
    return f"{scope}.weight" if scope else entry.name


def _scope(node: Any) -> str:
    """Return the path of the module that a node belongs to, or an empty text."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            modules = re.findall("'([^']*)'", entry.value)[:-1]
            return modules[-1] if modules else ""
    path = node.name.strip("/").split("/")[:-1]  # of the older exporter: /encoder/layer.0/query/MatMul
    return ".".join(path) if node.name.startswith("/") else ""
