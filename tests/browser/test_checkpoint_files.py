"""The modules that measure a checkpoint in the page, in Node; the oracle is htlib.analyze of each file."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import htlib as ht
from tests.browser.chromium import NODE

HERE = Path(__file__).parent
LIVE = HERE.parents[1] / "live"
Results = list[dict[str, Any]]


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Results]:
    """Measure files in one process of Node; two names joined by ".." are compared."""
    folder = tmp_path_factory.mktemp("node")
    subprocess.run([NODE, LIVE / "build.mjs", folder, HERE / "measure.ts"], cwd=LIVE, check=True)

    def measure(*files: Path | str) -> Results:
        command = [NODE, "--no-warnings", folder / "measure.js", *files]
        return json.loads(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)

    return measure


def assert_same(result: dict[str, Any], table: Any, names: list[str] | None = None) -> None:
    """Check every column to 1e-6, and every reason."""
    assert "error" not in result, result
    assert [row["name"] for row in result["rows"]] == table.name.tolist()
    for row, expected in zip(result["rows"], table.to_dict("records"), strict=True):
        for name in names or table.columns:
            mine, theirs = row[name], expected[name]
            where = f"{row['name']}: {name} is {mine}, not {theirs}"
            if isinstance(theirs, float):
                assert math.isclose(float(mine), theirs, rel_tol=1e-6, abs_tol=1e-9) or (
                    math.isnan(float(mine)) and math.isnan(theirs)
                ), where
            else:
                assert (tuple(mine) if isinstance(mine, list) else mine) == theirs, where
    assert result["skipped"] == table.attrs["skipped"]


def structured() -> dict[str, torch.Tensor]:
    """Weights of all kinds, and tensors that are none."""
    torch.manual_seed(0)
    spiked = torch.randn(60, 40)
    spiked[0] += 6
    heavy = torch.distributions.StudentT(torch.tensor(2.5)).sample((50, 70))
    holes = torch.randn(40, 30)
    holes[:, ::3] = 0
    holes[5] = 0
    lstm = nn.LSTM(20, 16, proj_size=12).state_dict()
    return {
        "a.weight": spiked,
        "b.weight": heavy,
        "wide.weight": torch.randn(33, 257),
        "low.weight": torch.randn(40, 3) @ torch.randn(3, 30),
        "orthogonal.weight": torch.linalg.qr(torch.randn(40, 24))[0].contiguous(),
        "holes.weight": holes,
        "row.weight": torch.nn.functional.pad(torch.randn(1, 30), (0, 0, 0, 19)),
        "tiny.weight": torch.randn(40, 30) * 1e-18,
        "double.weight": torch.randn(30, 40, dtype=torch.float64),
        "double_low.weight": torch.randn(40, 3, dtype=torch.float64)
        @ torch.randn(3, 30, dtype=torch.float64),
        "half.weight": torch.randn(40, 50).half(),
        "brain.weight": torch.randn(40, 50).bfloat16(),
        "brain_low.weight": (torch.randn(40, 2) @ torch.randn(2, 50)).bfloat16(),
        "eight.weight": torch.randn(40, 50).to(torch.float8_e4m3fn),
        "eight2.weight": torch.randn(40, 50).to(torch.float8_e5m2),
        "attn.qkv.weight": torch.randn(90, 30),
        "h.0.c_attn.weight": torch.randn(30, 90),
        "attn.query_key_value.weight": torch.randn(90, 30),
        "conv.weight": torch.randn(24, 16, 3, 3),
        "conv1d.weight": torch.randn(24, 16, 5),
        "depthwise.weight": torch.randn(24, 1, 3, 3),
        "dense.kernel": torch.randn(3, 3, 16, 24),
        "torch.kernel": torch.randn(24, 16, 3, 3),
        "experts.w1": torch.randn(4, 20, 30),
        "bilinear.weight": torch.randn(8, 20, 30),
        **{f"lstm.{name}": value for name, value in lstm.items()},
        "embed_tokens.weight": torch.randn(100, 30),
        "pos_embed": torch.randn(1, 30, 20),
        "norm.weight": torch.randn(30),
        "scalar": torch.tensor(3.0),
        "zero.weight": torch.zeros(20, 20),
        "nan.weight": torch.full((20, 20), torch.nan),
        "ids": torch.arange(12).reshape(3, 4),
        "small.weight": torch.randn(3, 30),
        "bn.running_mean": torch.randn(30, 30),
        "head_mask": torch.randn(30, 30),
        "exp_avg.weight": torch.randn(30, 30),
        "v_weight_v": torch.randn(20, 30),
        "v_weight_g": torch.rand(20, 1),
        "conv_v": torch.randn(12, 8, 3),
        "conv_g": torch.rand(12, 1, 1),
        "s.weight_orig": torch.randn(20, 30),
        "s.weight_u": torch.randn(20),
        "s.weight_v": torch.randn(30),
        "p.weight_orig": torch.randn(20, 30),
        "p.weight_mask": (torch.rand(20, 30) > 0.5).float(),
        "q.weight": torch.randn(256, 130).to(torch.float8_e4m3fn),
        "q.weight_scale_inv": torch.rand(2, 2),
        "i.weight": torch.randint(-127, 128, (20, 30)).to(torch.int8),
        "i.weight_scale": torch.rand(20),
        "packed.qweight": torch.randint(0, 9, (20, 30)),
        "l.lora_A.weight": torch.randn(12, 30),
        "l.lora_B.weight": torch.randn(20, 12),
        "l.weight": torch.randn(20, 30),
        "l.alpha": torch.tensor(8.0),
        "parametrizations.x": torch.randn(20, 30),
        "tower.optimizer.w": torch.randn(20, 30),
    }


def files_in(folder: Path) -> dict[str, Path]:
    """Write the weights in every format."""
    weights = structured()
    files = {
        name: folder / name for name in ("a.safetensors", "b.npz", "c.pt", "module.pt", "big.npz", "one.pt")
    }
    save_file(weights, files["a.safetensors"])
    arrays = {
        name: w.numpy()
        for name, w in weights.items()
        if w.dtype in (torch.float32, torch.float64, torch.float16)
    }
    np.savez_compressed(
        files["b.npz"], **arrays, text=np.array(["x"]), fortran=np.asfortranarray(arrays["b.weight"])
    )
    np.savez(files["big.npz"], w=arrays["b.weight"].astype(">f4"), complex=arrays["b.weight"].astype(complex))
    lin = nn.Linear(30, 20)
    shared = {
        "lin": lin.weight,
        "tied": lin.weight,
        "view": torch.randn(90, 40)[10:60:2, 3:33],
        "t": torch.randn(30, 20).T,
    }
    kernel = torch.randn(16, 12, 3, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(lin.parameters())
    lin(torch.randn(3, 30)).sum().backward()
    optimizer.step()
    content = {"model": weights | shared | {"kernel": kernel}, "optimizer": optimizer.state_dict()}
    content |= {
        "numpy": np.random.default_rng(0).standard_normal((20, 30)),
        "args": argparse.Namespace(w=torch.randn(20, 30)),
    }
    content |= {"list": [torch.randn(20, 30), (torch.randn(20, 30),)], "epoch": 3, 7: torch.randn(20, 30)}
    torch.save(content, files["c.pt"])
    torch.save(nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Linear(40, 30)), files["module.pt"])
    torch.save(torch.randn(20, 30), files["one.pt"])
    return files


def test_every_column_and_reason_is_that_of_analyze(measured, tmp_path, monkeypatch):
    files = files_in(tmp_path)
    monkeypatch.chdir(tmp_path)  # reasons that name the file name its path
    for name, result in zip(files, measured(*files.values()), strict=True):
        null = "gaussian" if name == "a.safetensors" else None  # once is enough
        assert_same(result, ht.analyze(name, null=null, progress=False))


def test_the_shards_of_a_model_are_one_model(measured, tmp_path):
    torch.manual_seed(0)
    first = {"a.lora_A.weight": torch.randn(12, 30), "b.weight": torch.randn(20, 30)}
    second = {"a.lora_B.weight": torch.randn(20, 12), "c.weight": torch.randn(20, 30)}
    shards = [tmp_path / "model-00001-of-00002.safetensors", tmp_path / "model-00002-of-00002.safetensors"]
    for weights, path in zip((first, second), shards, strict=True):
        save_file(weights, path)
    names = {
        name: path.name for weights, path in zip((first, second), shards, strict=True) for name in weights
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (result,) = measured(",".join(map(str, shards)))
    table = ht.analyze(tmp_path, progress=False)
    assert "a.lora" in table.name.tolist()  # put together from both
    assert_same(result, table)


def test_two_checkpoints_are_compared_as_compare_models_does(measured, tmp_path):
    weights = {name: w for name, w in structured().items() if w.dtype == torch.float32}
    later = {f"module.{name}": w + 0.03 * torch.randn(w.shape) for name, w in weights.items()}
    later["module.wide.weight"] = torch.randn(33, 256)
    later["module.b.weight"] = weights["b.weight"]
    later["other.weight"] = later.pop("module.bilinear.weight")
    before, after = tmp_path / "before.safetensors", tmp_path / "after.pt"
    save_file(weights, before)
    torch.save(later, after)
    (result,) = measured(f"{before}..{after}")
    table = ht.compare_models(before, after, progress=False)
    assert_same(result, table, [name for name in table if "overlap" not in name and "chance" not in name])


@pytest.mark.parametrize("kernel", [24, 1, 5])
def test_a_kernel_is_cut_wherever_its_axes_lie(measured, tmp_path, kernel):
    """Strides that torch's own memory formats do not have, and one position only."""
    base = torch.randn(kernel, 16, 3, 12, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "x.pt"
    torch.save(
        {
            "conv": base.permute(1, 3, 0, 2),
            "kernel": base.permute(2, 0, 3, 1),
            "rows": base[:, :, 1].permute(1, 2, 0),
        },
        path,
    )
    (result,) = measured(path)
    assert_same(result, ht.analyze(path, progress=False))
