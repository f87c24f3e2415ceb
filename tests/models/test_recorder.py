"""Oracles: `htlib.analyze` of the same weights at the same steps."""

import sys
from types import ModuleType

import pandas as pd
import pytest
import torch
from torch import nn

import htlib as ht


def trained(recorded, steps, model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(4, 20)).square().mean().backward()
        optimizer.step()
        recorded()


def test_every_few_steps_are_measured_and_written_at_once(tmp_path):
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 12))
    recorder = ht.SpectrumRecorder(model, every=3, path=tmp_path / "r.csv", include="0.*")
    trained(recorder.step, 7, model)
    assert recorder.table["step"].tolist() == [0, 3, 6]
    written = pd.read_csv(tmp_path / "r.csv")
    pd.testing.assert_frame_equal(written, recorder.table, check_dtype=False)
    recorder.record()
    last = recorder.table.iloc[-1]
    row = ht.analyze(model, include="0.*", null=None, progress=False).iloc[0]
    assert (last["step"], last["alpha_hill"]) == (7, row["alpha_hill"])


@pytest.mark.parametrize(
    ("package", "base", "method", "hook"),
    [
        ("lightning.pytorch", "Callback", "lightning_callback", "on_train_batch_end"),
        ("transformers", "TrainerCallback", "trainer_callback", "on_step_end"),
    ],
)
def test_callbacks_count_the_steps_of_trainers(package, base, method, hook, monkeypatch):
    fake = ModuleType(package)
    setattr(fake, base, type(base, (), {}))  # stands in for the package, which the tests do not need
    monkeypatch.setitem(sys.modules, package.partition(".")[0], fake)
    monkeypatch.setitem(sys.modules, package, fake)
    model = nn.Linear(20, 30)
    recorder = ht.SpectrumRecorder(model, every=2)
    callback = getattr(recorder, method)()
    assert isinstance(callback, getattr(fake, base))
    trained(lambda: getattr(callback, hook)("arguments", "of", control="the trainer"), 5, model)
    assert recorder.table["step"].tolist() == [0, 2, 4]


def test_wrong_arguments(tmp_path):
    model = nn.Linear(20, 30)
    with pytest.raises(ValueError, match="every must be at least 1"):
        ht.SpectrumRecorder(model, every=0)
    with pytest.raises(ValueError, match=r"\.csv"):
        ht.SpectrumRecorder(model, path=tmp_path / "a.txt")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(FileExistsError, match="another file"):
        ht.SpectrumRecorder(model, path=tmp_path / "a.csv")
