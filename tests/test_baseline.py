"""Oracle: `htlib.train`, which shares no route with the baseline but the problem and the activation."""

import numpy as np
import pandas as pd
import pytest

import htlib as ht
from benchmarks import baseline
from tests.rounding import rounding

# With this seed the second-best threshold of every spectrum below fits worse by 1 % or more: rounding
# cannot make the two routes choose different ones.
SMALL = ht.ExperimentConfig(n=120, d=40, h=60, n_test=80, steps=2, seed=0)
RULES = {"adam": {"optimizer": "adam", "lr": 1.0}, "gd": {"optimizer": "gd", "lr": 100.0}}
HEAVY_BALL = {"optimizer": "gd", "lr": 60.0, "weight_decay": 0.01, "momentum": 0.9}
VARIANTS = {
    "adam, decays and eps": {"lr": 0.5, "weight_decay": 0.1, "adam_eps": 1e-3, "lr_decay": 0.5, "steps": 3},
    "gd, decays and momentum": HEAVY_BALL | {"lr_decay": 0.5, "steps": 3},
    "h < d": {"h": 30},
    "relu, noise labels": {"activation": "relu", "labels": "noise"},
    "every second step": {"steps": 3, "probe_every": 2},
    "no step": {"steps": 0},
    "ridge": {"ridge_lambda": 1.0},
}
# A squared number errs by twice its rounding; after one step, 5e-6.
ROUNDING = 2 * rounding(SMALL, 1)
SQUARES = ("train_loss", "ridge_train_loss", "test_loss", "kta", "stable_rank", "spectral_norm")
TOLERANCE = dict.fromkeys(SQUARES, ROUNDING) | {
    # a float32 decomposition errs by eps sigma_1 in every sigma_i, so by four times that in the tail
    **dict.fromkeys(("alpha_hill", "alpha_ks", "ks_xmin"), 4 * ROUNDING),
    # a distance of a few hundredths between two numbers near one, each wrong by that
    "ks_distance": 40 * ROUNDING,
    # v_1 turns by eps over the gap to sigma_2, a few per cent; the cosine itself may be .02
    "alignment": 200 * ROUNDING,
    "n_outliers": 0.0,
}
# In float64 the routes are the same mathematics, and no spectrum here loses six digits.
EXACT = 1e-10
EACH_SCALE = pytest.mark.parametrize("feature_scale", ["paper", "released-code"])


def both(config):
    """The tables of the two, as far as the baseline has the metrics."""
    ours = baseline.run(config)
    return ours, ht.train(config, progress=False).metrics[list(ours.columns)]


@EACH_SCALE
@pytest.mark.parametrize("rule", RULES)
def test_every_column_agrees_in_single_precision(rule, feature_scale):
    """One step: these rates lie beyond the stability limit, where a second one amplifies its rounding."""
    ours, theirs = both(SMALL.replace(feature_scale=feature_scale, steps=1, **RULES[rule]))
    assert set(TOLERANCE) == set(theirs.columns)
    for name in theirs.columns:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=TOLERANCE[name], err_msg=name)
    assert theirs["n_outliers"].max() > 0  # or the column would be empty


@EACH_SCALE
@pytest.mark.parametrize("changes", [*RULES.values(), *VARIANTS.values()], ids=[*RULES, *VARIANTS])
def test_the_table_is_the_same_in_double_precision(changes, feature_scale):
    ours, theirs = both(SMALL.replace(dtype="float64", feature_scale=feature_scale, **changes))
    pd.testing.assert_frame_equal(ours, theirs, rtol=EXACT, atol=0)


@pytest.mark.parametrize(
    ("name", "value"), [("update", "no-top"), ("normalize_weights", True), ("train_readout", True)]
)
def test_what_it_cannot_do_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        baseline.run(SMALL.replace(**{name: value}))
