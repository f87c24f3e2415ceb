"""Checkpoint files; oracles: the tensors written, and files damaged by hand."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import htlib as ht
from htlib.models.checkpoints import entries_of
from htlib.models.entries import CheckpointError
from tests.refusals import refused

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
PAIR = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.arange(8.0).reshape(2, 4)}


class Code:
    """Unpickled by a careless reader, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def read(model):
    return {entry.name: entry.load() for entry in entries_of(model)}


def outcome(model):
    """Name -> tensor, or the reason why it cannot be loaded."""
    found = {}
    for entry in entries_of(model):
        try:
            found[entry.name] = entry.load()
        except CheckpointError as error:
            found[entry.name] = str(error)
    return found


def same(first, second):
    """Equal in type, shape and every bit."""
    one, other = (x.contiguous().reshape(-1).view(torch.uint8) for x in (first, second))
    return (first.dtype, first.shape) == (second.dtype, second.shape) and one.equal(other)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert isinstance(found[name], torch.Tensor), found[name]
        assert same(found[name], tensor), name


def by_hand(header, data=bytes(16)):
    """The bytes of a safetensors file."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def about(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *UNSIGNED, torch.complex64], ids=str)
def test_every_type_of_safetensors_reads_back_as_written(dtype, tmp_path):
    values = torch.tensor([[0, 1, 2], [3, 100, 7]]).to(dtype)
    tensors = {"matrix": values, "scalar": values[1, 1].clone(), "empty": torch.empty((0, 3), dtype=dtype)}
    save_file(tensors, tmp_path / "m.safetensors", {"format": "pt"})
    found = read(tmp_path / "m.safetensors")
    assert found.keys() == tensors.keys()
    assert all(same(found[name], tensor) for name, tensor in tensors.items())


def test_names_of_any_alphabet_and_special_values_survive_in_the_order_of_the_file(tmp_path):
    special = torch.tensor([[np.nan, np.inf], [-0.0, 5e-45]])
    tensors = {"schicht.gewicht_ß/1": special, "a": torch.ones(1).half()}
    save_file(tensors, tmp_path / "m.safetensors")
    assert_same(read(str(tmp_path / "m.safetensors")), tensors)


@pytest.mark.parametrize(("code", "size"), [("F4", 8), ("F6_E2M3", 12)])
def test_a_type_that_torch_cannot_use_is_skipped_with_a_reason(code, size, tmp_path):
    header = {"odd": about(code, [4, 4], [0, size]), "w": about("F32", [1, 1], [size, size + 4])}
    (tmp_path / "m.safetensors").write_bytes(by_hand(header, bytes(size) + struct.pack("<f", 2.5)))
    assert outcome(tmp_path / "m.safetensors")["w"].tolist() == [[2.5]]
    reason = ht.analyze(tmp_path, progress=False).attrs["skipped"]["odd"]
    assert "torch" in reason
    assert code.lower()[1] in reason


DAMAGED = {
    "is empty": b"",
    "invalid header length": struct.pack("<Q", 100) + b"{}",
    "header too large": struct.pack("<Q", 2**63) + b"{}",
    "invalid JSON": by_hand(b"hello"),
    "UTF-8": by_hand(b"\xff\xfe"),
    "sequence": by_hand(b"[" * 100_000),
    "`-16`": by_hand({"w": about(offsets=(-16, 0))}),
    "offset for tensor": by_hand({"w": about(offsets=(8, 24))}),
    "invalid shape": by_hand({"w": about(shape=(2, 3))}),
    "`2.0`": by_hand({"w": about(shape=(2.0, 2))}),
    "overflow": by_hand({"w": about(shape=(2**62, 2**62))}),
    "`F7`": by_hand({"w": about("F7")}),
    "missing field": by_hand({"w": {"dtype": "F32"}}),
    "not fully covered": by_hand({"w": about()}, bytes(15)),
}


@pytest.mark.parametrize("reason", DAMAGED)
def test_a_damaged_file_is_refused_with_its_name_and_the_reason(reason, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(DAMAGED[reason])
    with refused(path, reason, error=CheckpointError):
        entries_of(path)


def test_damaged_safetensors_raise_nothing_else(tmp_path):
    """After changed and missing bytes a file is refused by name, or all of it can be read."""
    tensors = {"a": PAIR["a"], "half": torch.ones(5, dtype=torch.bfloat16), "n": torch.tensor([3])}
    save_file(tensors, tmp_path / "m.safetensors", {"format": "pt"})
    # or one half of the claim would be empty
    assert 20 < fuzz(tmp_path / "m.safetensors", np.random.default_rng(0), 500) < 480


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_torch_files_end_in_one_kind_of_error(zipped, tmp_path):
    tensors = {"a": torch.ones(4, 3), "b": {"c": torch.zeros(2)}}
    torch.save(tensors, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    assert fuzz(tmp_path / "m.pt", np.random.default_rng(0), 300) > 50


def fuzz(path, rng, times):
    """How many damaged copies of a file are refused by name."""
    whole, refused = path.read_bytes(), 0
    for _ in range(times):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            content[place] = rng.integers(256)
        path.unlink()  # and not changed: what is mapped into memory must stay
        path.write_bytes(content[: rng.integers(len(content))] if rng.random() < 0.3 else content)
        try:
            read(path)
        except CheckpointError as error:
            refused += str(path) in str(error)
    return refused


@pytest.fixture
def sharded(tmp_path):
    for name, tensor in PAIR.items():
        save_file({name: tensor}, tmp_path / f"{name}.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in PAIR}}))
    return path


def test_shards_are_read_in_the_order_of_their_index(sharded):
    assert_same(read(sharded), PAIR)
    assert_same(read(sharded.parent), PAIR)
    sharded.write_text(json.dumps({"weight_map": {"b": "b.safetensors", "a": "a.safetensors"}}))
    assert list(read(sharded)) == ["b", "a"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda shard: shard.unlink(), "is missing"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-1]), "cut off or damaged"),
        (lambda shard: save_file({"c": PAIR["b"]}, shard), "does not hold it"),
    ],
)
def test_a_damaged_shard_takes_only_its_own_tensors_with_it(damage, reason, sharded):
    shard = sharded.parent / "b.safetensors"
    damage(shard)
    found = outcome(sharded)
    assert list(found) == ["a", "b"]
    assert same(found["a"], PAIR["a"])
    assert str(shard) in found["b"]
    assert reason in found["b"]


def test_without_an_index_a_damaged_shard_is_one_entry(sharded):
    sharded.unlink()
    shard = sharded.parent / "b.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])  # the first bytes still say what it is
    found = outcome(sharded.parent)
    assert same(found.pop("a"), PAIR["a"])
    assert list(found) == ["b.safetensors"]
    assert "cut off or damaged" in found["b.safetensors"]


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_an_index_leads_nowhere_but_into_its_own_folder(shard, sharded):
    (sharded.parent / "sub").mkdir()
    for folder in (sharded.parent.parent, sharded.parent / "sub"):
        save_file({"a": PAIR["a"]}, folder / "x.safetensors")
    sharded.write_text(json.dumps({"weight_map": {"a": shard, "b": "b.safetensors"}}))
    found = outcome(sharded)
    assert "which is not in its own folder" in found["a"]
    assert same(found["b"], PAIR["b"])


@pytest.mark.parametrize(
    "content", [b"not JSON", b"[]", b"3", b"{}", b'{"weight_map": [1]}', b'{"weight_map": null}', b"\xff"]
)
def test_another_file_in_place_of_an_index_is_refused_by_name(content, sharded):
    sharded.write_bytes(content)
    with refused(sharded, "index of shards", error=CheckpointError):
        entries_of(sharded)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_reads_back_in_both_formats(zipped, suffix, tmp_path):
    dtypes = (FLOATS if zipped else FLOATS[:4]) + INTEGERS  # the old format is older than 8-bit floats
    tensors = {str(dtype): torch.tensor([[0, 1], [3, 2]]).to(dtype) for dtype in dtypes}
    path = tmp_path / f"m{suffix}"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    assert_same(read(path), tensors)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"model": PAIR, "step": 3, "name": "run"}, {"model.a": PAIR["a"], "model.b": PAIR["b"]}),
        ({"stack": [PAIR["a"], (PAIR["b"],)]}, {"stack.0": PAIR["a"], "stack.1.0": PAIR["b"]}),
        ({"w": nn.Parameter(PAIR["a"])}, {"w": PAIR["a"]}),
        (PAIR["a"], {"m": PAIR["a"]}),
        ({}, {}),
        ({"step": 3}, {}),
    ],
)
def test_nested_containers_are_flattened(content, expected, tmp_path):
    torch.save(content, tmp_path / "m.pt")
    found = read(tmp_path / "m.pt")
    assert_same(found, expected)
    assert not any(tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize("zipped", [True, False])
def test_the_tensors_beside_code_are_read_and_the_code_is_not_run(zipped, tmp_path):
    trace, path = tmp_path / "was-run", tmp_path / "evil.pt"
    torch.save(PAIR | {"code": Code(trace)}, path, _use_new_zipfile_serialization=zipped)
    assert_same(read(path), PAIR)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # negative control: this code does run elsewhere
    assert trace.exists()


@pytest.mark.parametrize("content", [3, [PAIR["a"]], "text"])
def test_the_refusal_of_another_object_than_a_mapping_names_its_type(content, tmp_path):
    torch.save(content, tmp_path / "m.pt")
    with refused(tmp_path / "m.pt", type(content).__name__, "mapping", error=CheckpointError):
        entries_of(tmp_path / "m.pt")


def saved(zipped):
    """The bytes of a file of torch."""
    file = io.BytesIO()
    torch.save({"w": torch.ones(50, 50)}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


WHOLE = [saved(zipped) for zipped in (True, False)]
CUT = [file[:end] for file in WHOLE for end in (1, 10, len(file) // 2, len(file) * 9 // 10, -1)]


@pytest.mark.parametrize("content", [b"", b"a text\n" * 20, b"PK\x03\x04", bytes(range(256)), *CUT], ids=len)
def test_a_cut_or_another_file_is_refused_by_name(content, tmp_path):
    (tmp_path / "m.pt").write_bytes(content)
    with refused(tmp_path / "m.pt", error=CheckpointError):
        entries_of(tmp_path / "m.pt")


def test_modules_state_dicts_and_arrays_are_the_same_entries():
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    state = module.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    for model in (module, state, arrays):
        assert_same(read(model), dict(state))


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3)[::-1], np.ones((2, 3), ">f4"), np.asfortranarray(np.eye(3))]
)
def test_arrays_of_any_layout_become_tensors_of_their_own(array):
    before = array.copy()
    (tensor,) = read({"w": array}).values()
    assert np.array_equal(tensor.numpy(), before)
    tensor.zero_()
    assert np.array_equal(array, before)


@pytest.mark.parametrize("array", [np.array([None]), np.array(["a"]), np.zeros(2, "M8[s]")])
def test_an_array_without_numbers_is_refused_by_its_type(array):
    assert str(array.dtype) in outcome({"w": array, "v": np.ones(2)})["w"]


def test_no_model_no_entries(tmp_path):
    with refused(tmp_path, ".safetensors", error=FileNotFoundError):
        entries_of(tmp_path)
    with refused("", tmp_path / "missing.pt", error=FileNotFoundError):
        entries_of(tmp_path / "missing.pt")
    (tmp_path / "notes.txt").write_text("some text")
    with refused(tmp_path / "notes.txt", "no model", "safetensors", error=CheckpointError):
        entries_of(tmp_path / "notes.txt")
    for wrong in (None, 3, [PAIR["a"]], PAIR["a"]):
        with pytest.raises(TypeError, match=f"got {type(wrong).__name__}"):
            entries_of(wrong)
