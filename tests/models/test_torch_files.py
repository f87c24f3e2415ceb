"""Pickles of any kind; oracles: torch's own reader, a trace that code would leave, and files made by hand."""

import argparse
import pathlib
import pickle
import zipfile
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from htlib.models.checkpoints import entries_of
from htlib.models.entries import CheckpointError

W = torch.arange(12.0).reshape(3, 4)


class Thing:
    """A class of the user's own."""

    def __init__(self, **state):
        self.__dict__.update(state)


class Strange(dict):
    """A container of the user's own."""


class Net(nn.Module):
    """A network as `torch.save(model)` pickles it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(12, 16, 3)
        self.fc = nn.Linear(16, 20)
        self.register_buffer("window", torch.ones(16, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).mean(dim=(2, 3)))


def read(path):
    return {e.name: e.load() for e in entries_of(path) if e.reason is None}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "extra",
    [
        np.float64(0.3),
        pathlib.Path("x"),
        argparse.Namespace(lr=1, tags=["a"]),
        defaultdict(list, a=[1]),
        {1, 2},
        slice(3),
        complex(1, 2),
        Thing(x=1, y={"z": 2}),
        Strange(a=1),
        torch.Size([2]),
        torch.float16,
        torch.device("cpu"),
        torch.nn.functional.relu,
        np.dtype("f4"),
        np.random.default_rng(0).bit_generator.state,
    ],
    ids=lambda x: type(x).__name__,
)
def test_weights_beside_any_object_are_read(extra, zipped, tmp_path):
    torch.save({"model": {"w": W}, "extra": extra}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "m.pt")
    assert list(found) == ["model.w"]
    assert torch.equal(found["model.w"], W)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["f4", ">f8", "f2", "i4", "u1", "?"])
def test_arrays_of_a_plain_pickle(dtype, protocol, tmp_path):
    arrays = {"a": np.arange(12).reshape(3, 4).astype(dtype), "b": np.asfortranarray(np.eye(3, dtype=dtype))}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"layers": [arrays]}, protocol))
    found = read(tmp_path / "m.pkl")
    assert list(found) == ["layers.0.a", "layers.0.b"]
    for name, array in arrays.items():
        assert np.array_equal(found[f"layers.0.{name}"].numpy(), array)


def test_views_shared_storages_and_parameters(tmp_path):
    base = torch.arange(40.0)
    content = {
        "view": base[3:27].reshape(4, 6).T,
        "whole": base,
        "parameter": nn.Parameter(W),
        "empty": torch.empty(0, 3),
        "half": W.bfloat16(),
    }
    for zipped in (True, False):
        torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
        found = read(tmp_path / "m.pt")
        for name, tensor in content.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor.detach())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_whole_module_and_its_torchscript_are_its_state(tmp_path):
    net = Net()
    expected = {n: p.detach() for n, p in net.named_parameters()}
    torch.save(net, tmp_path / "module.pt")
    torch.save({"net": net, "epoch": 3}, tmp_path / "inside.pt")
    torch.jit.script(net).save(tmp_path / "script.pt")
    torch.jit.trace(net, torch.ones(1, 12, 5, 5)).save(tmp_path / "trace.pt")
    for name, prefix in (("module.pt", ""), ("inside.pt", "net."), ("script.pt", ""), ("trace.pt", "")):
        found = read(tmp_path / name)
        for own, tensor in expected.items():
            assert torch.equal(found[prefix + own], tensor), name
    reasons = {e.name: e.reason for e in entries_of(tmp_path / "module.pt")}
    assert reasons["window"] == "a buffer"


class Calls:
    """Unpickled carelessly, it calls a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_nothing_is_imported_called_or_set(tmp_path):
    trace = tmp_path / "trace"
    torch.save({"w": W, "evil": Calls(trace.touch), "more": Calls(eval, "1/0")}, tmp_path / "m.pt")
    assert torch.equal(read(tmp_path / "m.pt")["w"], W)
    assert not trace.exists()
    unknown = b"\x80\x02cno_such_module_at_all\nThing\n)R."
    (tmp_path / "u.pkl").write_bytes(unknown)
    assert read(tmp_path / "u.pkl") == {}
    builds = pickle.dumps({"w": Calls(setattr, Thing, "hacked", 1)})
    (tmp_path / "b.pkl").write_bytes(builds)
    assert read(tmp_path / "b.pkl") == {}
    assert not hasattr(Thing, "hacked")


def programs():
    """Pickles that ask for too much, by opcode."""
    deep = b"\x80\x02" + b"(" * 5000 + b"l" * 5000 + b"."
    bomb = b"\x80\x02]q\x00" + b"".join(b"](h\x00h\x00eq\x00" for _ in range(40)) + b"."
    itself = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."
    huge = b"\x80\x02X\xff\xff\xff\x7fabc."
    memo = b"\x80\x02}r\xff\xff\xff\xff."
    extension = b"\x80\x02\x82\x01."
    outside = b"\x80\x02X\x01\x00\x00\x00aQ."
    return {
        "deep": deep,
        "bomb": bomb,
        "itself": itself,
        "huge": huge,
        "memo": memo,
        "ext": extension,
        "pid": outside,
    }


@pytest.mark.parametrize("name", programs())
def test_programs_that_ask_for_too_much_end_in_one_line(name, tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(programs()[name])
    if name in ("memo", "itself"):  # a large index costs nothing here, and a circle is gone through once
        assert read(path) == {}
        return
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def tampered(path, change):
    """Rewrite the pickle of a zip file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    program = next(name for name in members if name.endswith("data.pkl"))
    members[program] = change(members[program])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x03K\x04\x86", b"K\xffK\xff\x86"),  # a shape beyond the storage
        (b"K\x04K\x01\x86", b"K\x00K\x00\x86"),  # one number as many
        (b"K\x00K\x03K\x04\x86", b"K\xf0K\x03K\x04\x86"),  # an offset beyond the end
        (b"FloatStorage", b"NoSuStorage\n"),
        (b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"),
    ],
)
def test_tensors_never_reach_beyond_their_file(old, new, tmp_path):
    torch.save({"w": W, "big": torch.zeros(5)}, tmp_path / "m.pt")
    tampered(tmp_path / "m.pt", lambda program: program.replace(old, new, 1))
    try:
        found = read(tmp_path / "m.pt")
    except CheckpointError:
        return
    assert all(t.numel() <= 12 for t in found.values())


def test_a_compressed_archive_is_refused(tmp_path):
    torch.save({"w": torch.zeros(1000, 1000)}, tmp_path / "m.pt")
    with zipfile.ZipFile(tmp_path / "m.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    (entry,) = entries_of(tmp_path / "z.pt")
    with pytest.raises(CheckpointError, match="compressed"):
        entry.load()
