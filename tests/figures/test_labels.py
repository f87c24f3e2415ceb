"""Oracle: labels as the book writes them."""

from itertools import islice

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from htlib.figures.labels import by_setting, looks_of, setting_label
from htlib.figures.style import OPTIMIZER_COLORS, looks_in_turn
from htlib.student.config import CHOICES
from tests.ledgers import run


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"optimizer": "adam", "lr": 1.0}, "Adam, $η$ = 1"),
        ({"lr_decay": 0.5}, "$γ$ = 0.5"),
        ({"lr_decay": None, "normalize_weights": False}, "constant rate, not normalised"),
        ({"adam_eps": 1e-8, "ridge_lambda": 1e-4}, "$ϵ$ = 1e-08, $λ$ = 0.0001"),
        ({"n": 50, "steps": 1, "seed": 3}, "$n$ = 50, 1 step, seed 3"),
        ({"labels": "shuffled", "feature_scale": "paper"}, "shuffled labels, paper feature scale"),
        ({"momentum": 0.9}, "momentum = 0.9"),
    ],
)
def test_settings_are_named_in_the_symbols_of_the_book(fields, label):
    assert setting_label(**fields) == label


@pytest.mark.parametrize("optimizer", CHOICES["optimizer"])
def test_every_optimizer_has_a_label_of_its_own(optimizer):
    assert setting_label(optimizer=optimizer) not in ("", optimizer, f"optimizer = {optimizer}")


def test_runs_are_grouped_by_what_differs_among_them():
    runs = [run(seed, lr=lr, n=n) for lr, n in ((2.0, 50), (1.0, 50), (1.0, 60)) for seed in (0, 1)]
    groups = by_setting(runs)
    assert list(groups) == ["$η$ = 2, $n$ = 50", "$η$ = 1, $n$ = 50", "$η$ = 1, $n$ = 60"]
    assert list(groups.values()) == [runs[:2], runs[2:4], runs[4:]]
    assert list(by_setting(runs[2:], ignore=["n"])) == ["Adam, $η$ = 1"]


def test_what_has_no_meaning_has_no_colour_of_an_optimizer_in_use():
    """Otherwise a curve of a sample size looks like one of Adam or gradient descent."""
    taken = {OPTIMIZER_COLORS[name] for name in ("adam", "gd")}
    looks = list(islice(looks_in_turn(), 14))
    assert not taken & {look["color"] for look in looks}
    assert len({tuple(look.items()) for look in looks}) == len(looks)


def test_rates_of_one_optimizer_are_shades_of_its_colour():
    settings = by_setting([run(0, lr=lr) for lr in (0.1, 1.0)])
    pale, full = (look["color"] for look in looks_of(settings).values())
    assert full == OPTIMIZER_COLORS["adam"].lower()
    assert np.all(np.array(to_rgb(pale)) >= to_rgb(full))
