"""ONNX graphs; oracles: graphs made by hand, and the modules that torch's exporters were given."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import htlib as ht

RNG = np.random.default_rng(0)
W = RNG.standard_normal((30, 20)).astype(np.float32)


def saved(path, nodes, tensors):
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], initializers)), path)
    return path


def product(weight, output, name="", scopes=None):
    node = helper.make_node("MatMul", ["x", weight], [output], name=name)
    if scopes is not None:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(scopes))
    return node


def added(*names):
    return helper.make_node("Add", list(names), [f"{names[0]}+{names[1]}"])


def described(path):
    table = ht.describe(path)
    shapes = dict(zip(table["name"], table["shape"], strict=True))
    return shapes, table.attrs["skipped"]


def test_exported_products_have_the_names_and_the_shape_of_the_module(tmp_path):
    nodes = [
        product("onnx::MatMul_1", "a", "/encoder/layer.0/query/MatMul"),
        added("encoder.layer.0.query.bias", "a"),
        product("onnx::MatMul_2", "b", "/encoder/layer.0/free/MatMul"),
        product("val_3", "c", "node_MatMul_3", ["", "enc", "enc.linear", "linear_3"]),
        added("c", "enc.linear.bias"),
        product("val_4", "d", "node_MatMul_4", ["", "linear"]),  # of no module, but with a bias
        added("d", "head.bias"),
    ]
    biases = ("encoder.layer.0.query.bias", "enc.linear.bias", "head.bias")
    tensors = dict.fromkeys(("onnx::MatMul_1", "onnx::MatMul_2", "val_3", "val_4"), W)
    shapes, _ = described(saved(tmp_path / "m.onnx", nodes, tensors | dict.fromkeys(biases, W[0])))
    names = ["encoder.layer.0.query", "encoder.layer.0.free", "enc.linear", "head"]
    assert shapes == {f"{name}.weight": (20, 30) for name in names}
    table = ht.analyze(tmp_path / "m.onnx", null=None, progress=False)
    assert table["alpha_hill"].tolist() == pytest.approx([ht.hill_alpha(ht.esd(W))] * 4, rel=1e-12)


def test_names_that_are_not_certain_stay(tmp_path):
    """Two products of one name (equal biases are merged), a weight of two products, a left factor, another
    sum, and a name of its own."""
    nodes = [product("val_1", "a"), product("val_2", "b"), added("a", "head.bias"), added("b", "head.bias")]
    nodes += [product("val_3", "c", "/u/MatMul"), product("val_3", "d", "/v/MatMul")]
    nodes += [helper.make_node("MatMul", ["val_4", "x"], ["e"], name="/w/MatMul")]
    nodes += [product("val_5", "f"), added("f", "x"), product("fc.kernel", "g", "/fc/MatMul")]
    names = ["val_1", "val_2", "val_3", "val_4", "val_5", "fc.kernel"]
    shapes, _ = described(saved(tmp_path / "m.onnx", nodes, dict.fromkeys(names, W) | {"head.bias": W[0]}))
    assert shapes == dict.fromkeys(names, (30, 20))


def test_what_is_looked_up_or_only_added_is_no_matrix(tmp_path):
    nodes = [helper.make_node("Gather", ["val_0", "x"], ["a"]), added("a", "val_1"), product("val_2", "b")]
    nodes += [helper.make_node("Gather", ["val_2", "x"], ["c"])]  # tied: a head is multiplied
    path = saved(tmp_path / "m.onnx", nodes, dict.fromkeys(("val_0", "val_1", "val_2"), W))
    shapes, skipped = described(path)
    assert shapes == {"val_2": (30, 20)}
    assert skipped["val_0"].startswith("an embedding")
    assert skipped["val_1"].startswith("only added")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 24)
        self.layer = nn.TransformerEncoderLayer(24, 4, 40, batch_first=True)
        self.free, self.conv = nn.Linear(24, 30, bias=False), nn.Conv1d(30, 16, 3)

    def forward(self, x):
        return self.conv(self.free(self.layer(self.table(x))).transpose(1, 2))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
def test_a_module_and_its_export_have_the_same_rows(dynamo, tmp_path):
    module, inputs = Net().eval(), (torch.arange(14).reshape(2, 7),)
    torch.onnx.export(module, inputs, str(tmp_path / "m.onnx"), dynamo=dynamo, verbose=False)
    columns = ["name", "kind", "shape", "n_matrices", "alpha_hill"]
    found, expected = (
        ht.analyze(model, null=None, progress=False)[columns].sort_values("name").values.tolist()
        for model in (tmp_path / "m.onnx", module)
    )
    assert len(found) == 8  # query, key, value, their output, two layers, the free one, the convolution
    for row, wanted in zip(found, expected, strict=True):
        assert row[:-1] == wanted[:-1]
        assert row[-1] == pytest.approx(wanted[-1], rel=1e-6)
