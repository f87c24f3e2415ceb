"""Oracle: the data of the lines that were drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from htlib.figures.one_step import measured_and_predicted, prediction
from htlib.theory.one_step import one_step_law

SHAPE = {"n": 60, "d": 20, "h": 30}


@pytest.fixture
def laws():
    return {optimizer: one_step_law(optimizer=optimizer, **SHAPE) for optimizer in ("adam", "gd")}


@pytest.fixture
def table(laws):
    """Two seeds, ten per cent above and below the predicted norm; the alignment is off by 0.1 and 0.3."""
    rows = []
    for optimizer, law in laws.items():
        for lr in law.critical_lr * np.array([0.5, 2.0, 10.0]):
            norm, alignment = law(lr).spectral_norm, law(lr).alignment
            rows.append((optimizer, lr, 0, 1.1 * norm, alignment + 0.1, 2.1))
            rows.append((optimizer, lr, 1, 0.9 * norm, alignment + 0.3, 2.3))
    columns = ["optimizer", "lr", "seed", "spectral_norm", "alignment", "alpha_hill"]
    return pd.DataFrame(rows, columns=columns)


def means(ax):
    """The heights of the solid lines: means over seeds."""
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    return [line.get_ydata() for line in solid if len(line.get_xdata()) > 2]


def test_a_prediction_is_the_law_over_the_rates(laws, ax):
    law = laws["adam"]
    x, y = prediction(law, "spectral_norm", [10.0, 0.1], ax=ax).lines[0].get_data()
    assert (x[0], x[-1]) == pytest.approx((0.1, 10.0))
    assert y[200] == pytest.approx(law(x[200]).spectral_norm)


def test_residuals_are_measured_minus_predicted(laws, table):
    figure = measured_and_predicted(table, laws)
    (_, _), (norm, alignment) = np.reshape(figure.axes, (2, 2))
    assert len(means(norm)) == 2
    assert np.concatenate(means(norm)) == pytest.approx(0.0, abs=1e-9)  # ten per cent up, ten down
    assert norm.get_ylim()[1] == pytest.approx(-norm.get_ylim()[0])
    assert norm.get_ylim()[1] > 10
    assert np.concatenate(means(alignment)) == pytest.approx(0.2)
    assert norm.get_ylabel() == "difference, %"


def test_drawn_exponents_have_a_panel_of_their_own(laws, table):
    hill = table[["optimizer", "lr"]].drop_duplicates().assign(alpha_hill=2.1)
    figure = measured_and_predicted(table, laws, hill)
    assert np.concatenate(means(np.reshape(figure.axes, (2, 3))[1, 2])) == pytest.approx(0.1)
