"""What the figures of real networks show.  Oracle: the numbers of the runs that they are given."""

import dataclasses

import pytest
from matplotlib.figure import Figure

from htlib import figures as hp
from htlib.figures import landing
from htlib.figures.runs import FIGURES
from htlib.ledger.controls import against_controls
from tests.ledger.test_controls import RUNS, SEEDS, run
from tests.refusals import refused


def panels(figure):
    assert isinstance(figure, Figure)
    return figure.axes


def test_layers_stand_beside_noise_with_the_heaviest_on_top():
    (ax,) = panels(hp.practice_layers([run(s, 0.5, alpha=(2.4, 1.5)) for s in SEEDS]))
    assert [label.get_text().split()[0] for label in ax.get_yticklabels()] == ["b", "a"]
    noise, trained = ax.lines[:2]
    assert set(noise.get_xdata()) == {2.5}
    assert sorted(set(trained.get_xdata())) == [1.5, 2.4]
    assert ax.yaxis_inverted()


def test_the_story_has_a_panel_per_batch_and_a_line_per_rate_and_labels():
    runs = [
        run(0, 0.5, batch=batch, lr=lr, labels=labels)
        for batch in (0, 25)
        for lr in (0.1, 0.2)
        for labels in ("real", "shuffled")
    ]
    left, right = panels(hp.practice_story(runs))
    for ax in (left, right):
        curves = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_ydata()[-1] == -0.25]
        assert len(curves) == 4
        assert {line.get_linestyle() for line in curves} == {"-", "--"}


def test_rates_are_on_both_axes_logarithmic():
    runs = [run(s, 0.5, lr=lr) for s in SEEDS for lr in (0.1, 0.2)]
    runs += [run(s, 0.6, lr=lr, method="tempbalance") for s in SEEDS for lr in (0.1, 0.2)]
    (ax,) = panels(hp.practice_rates(runs))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    means = [line.get_ydata().tolist() for line in ax.lines if line.get_linestyle() == "-"]
    assert means == [[0.5, 0.5], [0.4, 0.4]]


def test_pruning_has_a_curve_per_column():
    runs = [
        run(s, accuracy, pruned_by=by, sparsity=sparsity)
        for s in SEEDS
        for by, accuracy in (("alpha", 0.3), ("uniform", 0.6))
        for sparsity in (0.5, 0.7)
    ]
    (ax,) = panels(hp.practice_pruning(runs))
    assert {line.get_label(): line.get_ydata().tolist() for line in ax.lines} == {
        "alpha": pytest.approx([0.3, 0.3]),
        "uniform": pytest.approx([0.6, 0.6]),
    }


@pytest.mark.parametrize(("measure", "sign"), [("accuracy", 1), ("test_loss", -1)])
def test_right_of_zero_alpha_is_better(measure, sign):
    table = against_controls(RUNS, measure)
    (ax,) = panels(hp.practice_controls(table, measure=measure))
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert dots == pytest.approx((sign * table.difference).tolist())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["no method", "permuted alphas", "depth"]


def test_presets_find_them_and_nothing_is_drawn_of_nothing():
    for name in ("practice_layers", "practice_story", "practice_rates", "practice_pruning"):
        with pytest.raises(ValueError, match="no runs to draw"):
            FIGURES[name]([])


NETWORK_FIGURES = [name for name, draw in FIGURES.items() if "practice" in draw.__module__]


@pytest.mark.parametrize("name", NETWORK_FIGURES)
def test_a_single_seed_can_be_drawn_and_what_cannot_is_said(name):
    reading = {"pruned_by": "alpha", "sparsity": 0.5} if name == "practice_pruning" else {}
    hp.draw(name, [run(0, 0.5, **reading)]).draw_without_rendering()
    with refused("", "no runs"):
        hp.draw(name, [])


@pytest.mark.parametrize(
    ("name", "unsuited", "message"),
    [
        ("practice_layers", run(0, 0.5, labels="shuffled"), "real labels"),
        ("practice_rates", dataclasses.replace(run(0, 0.5), diverged_at=1), "did not diverge"),
        ("practice_pruning", run(0, 0.5), "pruned"),
    ],
)
def test_runs_that_do_not_suit_are_refused_with_what_is_needed(name, unsuited, message):
    with refused(name, message):
        hp.draw(name, [unsuited])


@pytest.mark.parametrize(("accuracy", "title"), [(0.3, "do not win"), (0.65, "win")])
def test_the_first_page_says_what_exponents_gain_over_equal_shares(monkeypatch, accuracy, title):
    shares = {"alpha": accuracy, "depth": 0.55, "uniform": 0.6}
    runs = [run(s, shares[by], pruned_by=by, sparsity=0.7) for s in SEEDS for by in shares] + [run(0, 0.9)]
    frames = landing.pruning_frames(runs)
    assert frames.labels == ["70 %"]
    assert f"the exponent {100 * (accuracy - 0.6):+.1f}; depth -5.0 points at 70 %" in frames.alt
    monkeypatch.setattr(landing, "Frames", lambda figures, *_, **__: figures)
    (figure,) = landing.pruning_frames(runs)
    assert figure.axes[0].get_title("left") == f"70 % pruned: exponents {title}"
    assert figure.axes[0].get_xlim()[0] < min(100 * (accuracy - 0.6), -5)
