"""The layers of a model without a browser; the oracle of every number is `htlib.analyze`."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import htlib
import htlib as ht
from htlib.explorer import front_end
from htlib.explorer.model import _NULLS, _plain
from htlib.spectra.nulls import NOISE, NULLS

RNG = np.random.default_rng(0)
SPIKED = RNG.standard_normal((60, 40)) + 8 * np.outer(np.ones(60), np.ones(40)) / 40
DEAD = np.where(np.arange(90)[:, None] < 30, 0.0, RNG.standard_normal((90, 30)))
MODEL = {"spiked": SPIKED, "dead": DEAD, "bias": np.ones(9)}


def sent(widget: Any, index: int) -> tuple[dict[str, Any], list[bytes]]:
    answers: list[tuple[dict[str, Any], list[bytes]]] = []
    widget.send = lambda content, buffers: answers.append((content, buffers))
    widget._receive(widget, {"type": "spectrum", "index": index}, [])
    (answer,) = answers
    return answer


def rows(packed: dict[str, Any]) -> pd.DataFrame:
    """What the front end receives, as it stands in the message."""
    received = json.loads(json.dumps(packed, allow_nan=False))
    return pd.DataFrame(received["values"], columns=received["columns"])


def assert_received(packed: dict[str, Any], expected: pd.DataFrame) -> None:
    received = rows(packed)
    for name in expected:
        if name == "shape":
            assert [tuple(shape) for shape in received[name]] == expected[name].tolist()
        elif pd.api.types.is_numeric_dtype(expected[name]):
            np.testing.assert_array_equal(received[name].astype(float), expected[name].astype(float), name)
        else:
            assert received[name].tolist() == expected[name].tolist(), name


def test_the_front_end_receives_the_table_of_analyze() -> None:
    widget = ht.explorer.layers(MODEL, compare=True, progress=False)
    expected = ht.analyze(MODEL, compare=True, progress=False)
    assert list(widget.content["columns"]) == list(expected)
    assert_received(widget.content["table"], expected)
    assert widget.content["skipped"] == [{"name": "bias", "reason": expected.attrs["skipped"]["bias"]}]
    assert widget.content["changes"] is None
    kept = ht.analyze(MODEL, compare=True, keep_eigenvalues=True, progress=False)
    pd.testing.assert_frame_equal(widget.table, kept)
    for index, values in enumerate(kept.eigenvalues):
        content, (buffer,) = sent(widget, index)
        assert content == {"type": "spectrum", "index": index}
        np.testing.assert_array_equal(np.frombuffer(buffer), values)


def test_the_bulk_is_drawn_with_the_law_that_was_fitted() -> None:
    """Without the spikes and the rows of zeros, which the shape of the layer alone does not say."""
    widget = ht.explorer.layers(MODEL, null=None, progress=False)
    received = rows(widget.content["table"])
    assert received.n_spikes.tolist() == [1, 0]
    for name, live, row in zip(MODEL, [(60, 40), (60, 30)], received.itertuples(), strict=False):
        law = ht.fit_marchenko_pastur(ht.esd(MODEL[name]), *live).law
        drawn = ht.MarchenkoPastur.of_gaussian_esd(*row.law_shape, row.mp_variance)
        assert drawn.support == pytest.approx(law.support)
        wrong = ht.MarchenkoPastur.of_gaussian_esd(*row.shape, row.mp_variance)
        assert wrong.support != pytest.approx(law.support)


def test_a_layer_of_which_only_the_top_is_known_has_no_spectrum() -> None:
    widget = ht.explorer.layers({"w": SPIKED}, top=15, progress=False)
    assert sent(widget, 0)[1] == []
    received = rows(widget.content["table"])
    assert received.alpha_hill.tolist() == [None]
    assert received.law_shape.tolist() == [None]


def test_every_null_has_its_words() -> None:
    assert set(_NULLS) == {*NOISE, *NULLS}


def test_numbers_that_json_lacks() -> None:
    values = [math.nan, math.inf, -np.float64(math.inf), np.int64(3), np.True_]
    expected = [None, {"infinity": 1}, {"infinity": -1}, 3, True]
    assert [_plain(value) for value in values] == expected
    assert json.dumps(_plain(np.True_)) == "true"


def test_two_models_are_compared_as_compare_models_does() -> None:
    after = {**MODEL, "spiked": SPIKED + 0.1 * RNG.standard_normal((60, 40)), "new": DEAD}
    widget = ht.explorer.layers(MODEL, against=after, include=["spiked", "dead", "new"], progress=False)
    expected = ht.compare_models(MODEL, after, include=["spiked", "dead", "new"], progress=False)
    assert widget.changes is not None
    pd.testing.assert_frame_equal(widget.changes, expected)
    assert_received(widget.content["changes"]["table"], expected)
    reasons = {one["name"]: one["reason"] for one in widget.content["changes"]["skipped"]}
    assert reasons == expected.attrs["skipped"]
    assert reasons["new"] == "only in the second model"


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("nowhere.pt", {}, FileNotFoundError, "there is no file or folder nowhere.pt"),
        (3, {}, TypeError, "model must be a torch module, a state dict or a path; got int"),
        (MODEL, {"null": "pink"}, ValueError, "pink"),
        (MODEL, {"nul": None}, TypeError, "nul"),
        (MODEL, {"against": "nowhere.pt"}, FileNotFoundError, "there is no file or folder nowhere.pt"),
        (
            MODEL,
            {"against": MODEL, "conv": "flat"},
            ValueError,
            "conv does not go with against.*leave conv out",
        ),
    ],
)
def test_errors_are_those_of_analyze(model: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ht.explorer.layers(model, **options)


def test_titles_and_files_are_named_after_the_model(tmp_path: Path) -> None:
    torch.save({"w": torch.from_numpy(SPIKED)}, tmp_path / "my model.pt")
    for model, title, file in (
        (tmp_path / "my model.pt", "my model.pt", "my-model"),
        (torch.nn.Linear(30, 20), "Linear", "Linear"),
        (MODEL, "a state dict", "a-state-dict"),
    ):
        content = ht.explorer.layers(model, null=None, progress=False).content
        assert (content["title"], content["file"]) == (title, file)


def test_a_page_without_a_kernel_shows_the_numbers() -> None:
    data, _ = ht.explorer.layers(MODEL, progress=False)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    row = ht.analyze(MODEL, progress=False).iloc[0]
    assert f"<td>{row.alpha_hill:.4g}</td>" in data["text/html"]
    assert data["text/plain"].startswith("The layers of a state dict. By PL_Alpha_Hill, of 2 spectra: ")


def test_every_file_of_the_front_ends_is_shipped() -> None:
    """Oracle: the patterns by which setuptools takes data into the package."""
    project = tomllib.loads((Path(htlib.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["htlib"]
    shipped = {path for pattern in patterns for path in Path(htlib.__file__).parent.glob(pattern)}
    files = {path for path in front_end.STATIC.rglob("*") if path.is_file()}
    assert front_end.STATIC / "layers" / "view.js" in files
    assert files <= shipped


def test_the_front_end_is_one_module_that_asks_no_other_host() -> None:
    source = ht.explorer.layers({}, progress=False)._esm
    assert [line for line in source.splitlines() if line.startswith("import")] == []
    assert "http" not in source.replace("http://www.w3.org/2000/svg", "")
