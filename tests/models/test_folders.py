"""Folders as tools write them; oracles: the files put into them."""

import json
import os
import zipfile

import h5py
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

import htlib as ht
from htlib.models.entries import CheckpointError
from tests.refusals import refused

W = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
ADAM = {"state": {0: {"exp_avg": W, "exp_avg_sq": W.abs()}}, "param_groups": []}


def table(model, **options):
    return ht.analyze(model, progress=False, null=None, **options)


def files(folder, **contents):
    """Write files: a dict by torch or safetensors, a text as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / name.replace("__", ".").replace("_dash_", "-")
        if isinstance(content, str):
            path.write_text(content)
        elif path.suffix == ".safetensors":
            save_file(content, path)
        else:
            torch.save(content, path)
    return folder


def test_a_training_folder(tmp_path):
    for model in ("model.safetensors", "pytorch_model.bin"):
        folder = files(
            tmp_path / model,
            **{model: {"fc.weight": W}},
            **{"optimizer.pt": ADAM, "scheduler.pt": {"last_epoch": 1}, "scaler.pt": {"scale": 2.0}},
            **{"rng_state.pth": {"cpu": torch.zeros(5, dtype=torch.uint8)}, "training_args.bin": {"lr": 1}},
            **{"config.json": "{}", "README.md": "words"},
        )
        found = table(folder)
        assert found["name"].tolist() == ["fc.weight"]
        assert found["file"].tolist() == [model]
        skipped = found.attrs["skipped"]
        assert len(skipped) == 7
        assert skipped["optimizer.pt"] == "of the training, not of the model"
        assert skipped["config.json"] == "not a file of tensors"


def test_the_cache_of_a_hub_has_links_into_blobs(tmp_path):
    root = tmp_path / "models--a--b"
    files(root / "blobs", **{"0f": "{}"})
    save_file({"a.weight": W}, root / "blobs" / "1e.safetensors")
    (root / "blobs" / "1e.safetensors").rename(root / "blobs" / "1e")
    index = {"weight_map": {"a.weight": "model-00001-of-00001.safetensors"}}
    (root / "blobs" / "2d").write_text(json.dumps(index))
    for revision in ("old", "new"):
        snapshot = root / "snapshots" / revision
        snapshot.mkdir(parents=True)
        os.symlink("../../blobs/0f", snapshot / "config.json")
        os.symlink("../../blobs/missing", snapshot / "gone.safetensors")
        if revision == "new":
            os.symlink("../../blobs/1e", snapshot / "model-00001-of-00001.safetensors")
            os.symlink("../../blobs/2d", snapshot / "model.safetensors.index.json")
    files(root / "refs", main="new")
    found = table(root)
    assert found["name"].tolist() == ["a.weight"]
    assert found.attrs["skipped"]["gone.safetensors"] == "a link to a file that is missing"


def test_one_of_several_variants_and_formats(tmp_path):
    folder = files(
        tmp_path,
        **{"model.safetensors": {"w": W}, "model.fp16.safetensors": {"w": W.half()}},
        **{"pytorch_model.bin": {"w": W}, "tf_model.h5": "\x89HDF"},
    )
    found = table(folder)
    assert found["file"].tolist() == ["model.safetensors"]
    assert "variant" in found.attrs["skipped"]["model.fp16.safetensors"]
    assert "format" in found.attrs["skipped"]["pytorch_model.bin"]
    assert "tf_model.h5" in found.attrs["skipped"]


def test_a_whole_file_is_preferred_to_shards_of_pickles(tmp_path):
    index = json.dumps({"weight_map": {"w": "pytorch_model-00001-of-00001.bin"}})
    folder = files(
        tmp_path,
        **{"pytorch_model-00001-of-00001.bin": {"w": W}, "pytorch_model.bin.index.json": index},
    )
    assert table(folder)["file"].tolist() == ["pytorch_model-00001-of-00001.bin"]
    save_file({"w": W}, folder / "model.safetensors")
    found = table(folder)
    assert found["file"].tolist() == ["model.safetensors"]
    assert len(found.attrs["skipped"]) == 2


def test_several_epochs_say_which(tmp_path):
    folder = files(tmp_path, **{"epoch_1.pt": {"w": W}, "epoch_2.pt": {"w": W + 1, "v": W}})
    found = table(folder)
    assert found["name"].tolist() == ["epoch_1.pt/w", "epoch_2.pt/w", "v"]
    assert found["file"].tolist() == ["epoch_1.pt", "epoch_2.pt", "epoch_2.pt"]


def test_the_last_checkpoint_of_a_trainer(tmp_path):
    for step in (5, 500, 1000):
        files(tmp_path / f"checkpoint-{step}", **{"model.safetensors": {"w": W + step}, "optimizer.pt": ADAM})
    found = table(tmp_path)
    assert found["file"].tolist() == ["checkpoint-1000/model.safetensors"]
    assert "earlier" in found.attrs["skipped"]["checkpoint-500"]
    files(tmp_path, **{"model.safetensors": {"w": W}})
    assert table(tmp_path)["file"].tolist() == ["model.safetensors"]


def test_the_parts_of_a_pipeline(tmp_path):
    for part in ("unet", "vae"):
        files(tmp_path / part, **{"diffusion_pytorch_model.safetensors": {"w": W}, "config.json": "{}"})
    files(tmp_path, **{"model_index.json": "{}"})
    assert table(tmp_path)["name"].tolist() == ["unet/w", "vae/w"]


def test_one_bad_file_does_not_end_the_rest(tmp_path):
    folder = files(tmp_path, **{"a.pt": {"a": W}, "b.pt": "<!DOCTYPE html><html>", "c.pt": {"c": W}})
    (tmp_path / "d.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:-200])
    found = table(folder)
    assert found["name"].tolist() == ["a", "c"]
    assert "HTML" in found.attrs["skipped"]["b.pt"]
    assert "damaged" in found.attrs["skipped"]["d.pt"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "HTML"),
        (b"\n<html><body>403</body></html>", "HTML"),
        (b"", "empty"),
        (b'{"error": "Repository not found"}', "a text, not a model"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (bytes(257) + b"ustar\x0000", "tar archive"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.pth.tar"])
def test_what_is_not_a_model_is_called_what_it_is(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    for model in (tmp_path / name, tmp_path):
        with refused(tmp_path, words, error=CheckpointError):
            table(model)


def test_content_decides_and_not_the_name(tmp_path):
    save_file({"w": W}, tmp_path / "a.bin")
    torch.save({"w": W}, tmp_path / "b.safetensors")
    torch.save({"state_dict": {"w": W}}, tmp_path / "c.pth.tar")
    torch.save({"w": W}, tmp_path / "d")
    for name, row in (("a.bin", "w"), ("b.safetensors", "w"), ("c.pth.tar", "state_dict.w"), ("d", "w")):
        assert table(tmp_path / name)["name"].tolist() == [row]


def test_a_folder_of_other_files_says_so_beside_the_first_reason(tmp_path):
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(b"")
    with refused(tmp_path, "holds no model, and 2 files", "a.pt is empty", error=CheckpointError):
        table(tmp_path)


def test_an_unfinished_download_is_called_that(tmp_path):
    save_file({"w": W}, tmp_path / "model.safetensors.incomplete")
    with refused(tmp_path, "unfinished", error=CheckpointError):
        table(tmp_path / "model.safetensors.incomplete")


def test_arrays_and_graphs_of_other_formats(tmp_path):
    """Oracle: the arrays written, and the module that was exported."""
    np.savez(tmp_path / "m.npz", w=W.numpy())
    np.save(tmp_path / "w.npy", W.numpy())
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/conv/kernel"] = np.random.default_rng(0).standard_normal((3, 3, 12, 16))
        file["optimizer/vars/1"] = W.numpy()
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.write(tmp_path / "m.weights.h5", "model.weights.h5")
        archive.writestr("config.json", "{}")
    for name in ("m.npz", "w.npy"):
        assert table(tmp_path / name)["name"].tolist() == ["w"]
    for name in ("m.weights.h5", "m.keras"):
        found = table(tmp_path / name)
        assert found[["name", "shape", "n_matrices"]].values.tolist() == [["layers.conv.kernel", (16, 12), 9]]
        assert found.attrs["skipped"] == {"optimizer.vars.1": "state of an optimizer"}
    graph = onnx.helper.make_graph(
        [], "g", [], [], initializer=[onnx.numpy_helper.from_array(W.numpy(), "fc.weight")]
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    assert table(tmp_path / "m.onnx")["alpha_hill"][0] == pytest.approx(ht.hill_alpha(ht.esd(W)), rel=1e-12)
