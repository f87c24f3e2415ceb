"""Figures of whole models; the oracle is the table put in, read back from the artists."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

import htlib as ht
from htlib.figures.models import layer_spectrum, model_overview

RNG = np.random.default_rng(0)
MODEL = {
    "first.weight": RNG.standard_normal((60, 40)),
    "conv.weight": RNG.standard_normal((30, 20, 3)),
    "heavy": RNG.standard_t(2.5, (50, 50)),
    "wte.weight": RNG.standard_normal((80, 20)),
    "attn.qkv.weight": RNG.standard_normal((90, 30)),
    "experts.w": RNG.standard_normal((3, 30, 20)),
}


@pytest.fixture(scope="module")
def table():
    return ht.analyze(MODEL, embeddings=True, keep_eigenvalues=True, progress=False)


def test_the_overview_shows_every_exponent_and_its_null(table):
    spectra, alphas, bar = model_overview(table).axes
    lines = {line.get_label(): line for line in alphas.lines}
    assert [text.get_text() for text in alphas.get_legend().get_texts()] == list(lines)
    noise = lines.pop("noise of that shape")
    assert np.array_equal(noise.get_xdata(), table["alpha_hill_null"])
    shown = {int(y): x for line in lines.values() for x, y in zip(*line.get_data(), strict=True)}
    assert shown == dict(enumerate(table["alpha_hill"]))
    assert set(lines) == set(table["kind"])
    names = [text.get_text() for text in spectra.get_yticklabels()]
    assert names == [name.removesuffix(".weight") for name in table["name"]]
    bottom, top = spectra.get_ylim()
    assert bottom > top  # the first layer on top
    assert spectra.get_xlabel() == "eigenvalue / noise edge"
    assert alphas.get_xlabel() == "PL_Alpha_Hill"
    assert bar.get_xlabel() == "percent of the layer's eigenvalues"
    assert spectra.get_title() or spectra.get_title("left")
    assert not plt.get_fignums()


def test_the_overview_counts_the_eigenvalues_by_their_distance_from_the_edge(table):
    (mesh,) = model_overview(table).axes[0].collections
    image = np.nan_to_num(np.ma.filled(mesh.get_array(), 0.0)) / 100  # drawn in percent
    edges = mesh.get_coordinates()[0, :, 0]
    assert image.shape == (len(table), len(edges) - 1)
    beyond = image[:, edges[:-1] >= 1].sum(axis=1)
    cell = np.searchsorted(edges, 1) - 1  # the cell that holds the edge itself may count on either side
    expected = [(row.eigenvalues > row.mp_edge).mean() for row in table.itertuples()]
    assert (beyond <= np.array(expected) + 1e-12).all()
    assert (expected <= beyond + image[:, cell] + 1e-12).all()
    assert expected[table["name"].tolist().index("heavy")] > 0
    assert (image.sum(axis=1) > 0.9).all()


@pytest.mark.parametrize("rows", [1, 200])
def test_the_overview_of_one_layer_and_of_many_can_be_drawn(rows, table, tmp_path):
    many = table.iloc[np.arange(rows) % len(table)].reset_index(drop=True)
    figure = model_overview(many.drop(columns="alpha_hill_null"))
    figure.savefig(tmp_path / "m.png", dpi=40)
    assert len(figure.axes[0].get_yticklabels()) <= 60
    labels = {line.get_label() for line in figure.axes[1].lines}
    assert "noise of that shape" not in labels


def test_a_spectrum_shows_threshold_edge_and_numbers(table):
    for row in table.to_dict("records"):
        ax = plt.figure().add_subplot()
        assert layer_spectrum(row, ax=ax) is ax
        places = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
        assert row["ks_xmin"] in places
        title = ax.get_title() or ax.get_title("left")
        assert row["name"] in title
        assert "{} x {}".format(*row["shape"]) in title
        (text,) = [text.get_text() for text in ax.texts if "Hill" in text.get_text()]
        assert f"Hill {row['alpha_hill']:.2f} (noise {row['alpha_hill_null']:.2f})" in text
        assert f"{row['n_spikes']} beyond the edge" in text
        legend = [text.get_text() for text in ax.get_legend().get_texts()]
        assert any(str(row["rank"]) in entry for entry in legend)
        assert ax.get_xlabel()


def test_a_spectrum_is_drawn_into_the_current_axes_and_without_a_null(ax):
    table = ht.analyze({"w": MODEL["heavy"]}, null=None, keep_eigenvalues=True, progress=False)
    assert layer_spectrum(table.iloc[0]) is ax
    assert not any("noise" in text.get_text() for text in ax.texts if "Hill" in text.get_text())


def test_rows_of_zeros_do_not_change_the_bulk(ax):
    """Oracle: the picture of the matrix without them, which has the same eigenvalues."""
    W = np.where(np.arange(90)[:, None] < 30, 0.0, np.random.default_rng(0).standard_normal((90, 30)))
    for matrix in (W, W[30:]):
        layer_spectrum(ht.analyze({"w": matrix}, keep_eigenvalues=True, progress=False).iloc[0], ax=ax)
    with_zeros, without = (line.get_xydata() for line in ax.lines if len(line.get_xdata()) > 2)
    np.testing.assert_allclose(with_zeros, without)


def test_without_eigenvalues_both_name_the_option_that_keeps_them(table):
    bare = table.drop(columns="eigenvalues")
    for draw in (lambda: model_overview(bare), lambda: layer_spectrum(bare.iloc[0])):
        with pytest.raises(ValueError, match="keep_eigenvalues=True"):
            draw()
