"""Frames: one picture is shown, the others wait; the pictures of the first page say what they show."""

import re
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure

import htlib as ht
from htlib.figures import Frames
from htlib.figures.landing import noise_frames, spike_frames, step_frames


def _figures(count: int) -> list[Figure]:
    figures = [Figure(figsize=(2, 1)) for _ in range(count)]
    for k, figure in enumerate(figures):
        figure.subplots().plot([0, k], label='a "quote" & a % sign # here')
    return figures


@pytest.mark.parametrize(("still", "shown"), [(-1, "c"), (0, "a"), (1, "b")])
def test_one_frame_is_shown(still: int, shown: str) -> None:
    frames = Frames(_figures(3), "abc", name="step", alt="A <message>.", says="xyz", still=still)
    page = BeautifulSoup(frames._repr_html_(), "html.parser")
    assert [image["data-label"] for image in page.find_all("img") if not image.has_attr("hidden")] == [shown]
    assert page.find(role="img")["aria-label"] == "A <message>."
    assert [image["data-says"] for image in page.find_all("img")] == ["x", "y", "z"]


def test_pictures_survive_the_address() -> None:
    frames = Frames(_figures(2), "ab", name="step", alt="", says="xy")
    page = BeautifulSoup(frames._repr_html_(), "html.parser")
    for image, svg in zip(page.find_all("img"), frames.pictures, strict=True):
        kind, text = image["src"].split(",", 1)
        assert kind == "data:image/svg+xml"
        assert unquote(text) == svg.replace('"', "'")
        assert ElementTree.fromstring(unquote(text)).tag.endswith("svg")


def test_refusals() -> None:
    with pytest.raises(ValueError, match="one per figure; got 3 for 2"):
        Frames(_figures(2), "abc", name="step", alt="", says="xy")
    with pytest.raises(ValueError, match="still must be the place of one of 2 figures; got 2"):
        Frames(_figures(2), "ab", name="step", alt="", says="xy", still=2)


def test_pictures_of_the_first_page() -> None:
    noise = noise_frames(200, (0.5, 1.0))
    assert noise.labels == ["1 : 2", "1 : 1"]
    narrow, square = map(float, re.search(r"fit: (\S+) for a narrow matrix, (\S+) for", noise.alt).groups())
    assert narrow == pytest.approx(2.71, abs=0.1)  # published values by shape, to the digit that the text has
    assert square == pytest.approx(2.12, abs=0.1)
    config = ht.ExperimentConfig(n=80, d=40, h=60, n_test=40, steps=2, lr=1.0)
    runs = [ht.train(config.replace(lr=lr), progress=False) for lr in (1.0, 0.01)]
    spikes = spike_frames(runs)
    assert spikes.labels == ["0.01", "1"]
    assert "predicted" in spikes.alt
    steps = step_frames(runs[0], ht.train(config.replace(labels="shuffled"), progress=False))
    assert steps.labels == ["0", "1", "2"]
    assert len(set(steps.pictures)) == 3
    assert np.all([len(svg) > 1000 for svg in steps.pictures])
