"""Spectra that are computed side by side.  Oracle: the same layers one by one."""

import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info
from torch import nn

import htlib as ht
from htlib.models import ahead
from htlib.models.layers import Layer, Skipped


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_the_table_does_not_depend_on_the_number_of_threads(set_threads, monkeypatch):
    """Small layers with biases between them, one that is computed alone, one that fails, a convolution."""
    monkeypatch.setattr(ahead, "_SMALL", 250)
    torch.manual_seed(0)
    layers = [nn.Linear(150, 200), nn.Linear(140, 140), nn.Linear(300, 260), nn.Conv2d(40, 50, 3)]
    layers += [nn.Linear(130, 220), nn.Linear(170, 30)]
    layers[4].weight.data[3, 4] = torch.nan
    before, tables = blas_threads(), {}
    for count in (1, 2, 5):
        set_threads(count)
        tables[count] = ht.analyze(nn.Sequential(*layers), progress=False)
        assert torch.get_num_threads() == count
        assert blas_threads() == before
    one = tables.pop(1)
    assert len(one) == 5
    assert one.attrs["skipped"]["4.weight"] == "NaN or infinity in 1 of 28600 entries"
    for table in tables.values():
        pd.testing.assert_frame_equal(table, one, rtol=1e-9)
        assert table.attrs == one.attrs


def test_no_more_layers_are_in_memory_than_threads(set_threads):
    """Oracle: a count of what was asked for, beside what was given."""
    set_threads(3)
    asked = 0

    def layers():
        nonlocal asked
        for k in range(8):
            yield Skipped(f"{k}.bias", "a vector")
            asked += 1
            yield Layer(f"{k}.weight", "linear", torch.randn(1, 20, 15), torch.float32, 1e-7)

    names = []
    for given, layer in enumerate(one for one in ahead.spectra_ahead(layers()) if isinstance(one, Layer)):
        assert asked - given <= 3
        names.append(layer.name)
    assert names == [f"{k}.weight" for k in range(8)]
