"""Oracles: the functions that a start combines; DESIGN.md's errors."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.student.start import normalized, prepare

CONFIG = ht.ExperimentConfig(n=30, d=8, h=12, n_test=20, steps=2, dtype="float64")
# A value other than the default for every field that decides the start; CONFIG serves no such config.
DECIDES = {
    "n": 31,
    "d": 9,
    "h": 13,
    "n_test": 21,
    "noise_std": 0.1,
    "teacher": "relu",
    "activation": "erf",
    "dtype": "float32",
    "normalize_weights": True,
    "train_readout": True,
    "labels": "noise",
    "seed": 1,
}
MAY_DIFFER = {
    "optimizer": "gd",
    "lr": 0.5,
    "steps": 1,
    "weight_decay": 0.1,
    "adam_eps": 1e-3,
    "lr_decay": 0.5,
    "update": "no-top",
    "probe_every": 2,
    "ridge_lambda": 0.1,
    "feature_scale": "released-code",
}


def test_every_field_is_sorted_into_one_of_the_two():
    assert DECIDES.keys() | MAY_DIFFER.keys() | {"momentum"} == CONFIG.to_dict().keys()


@pytest.mark.parametrize("name", DECIDES)
def test_a_start_that_does_not_fit_is_refused(name):
    other = CONFIG.replace(**{name: DECIDES[name]})
    with pytest.raises(ValueError, match=rf"^start was prepared for {name} = .*; the config has "):
        ht.train(other, start=prepare(CONFIG))


@pytest.mark.parametrize("change", [{name: value} for name, value in MAY_DIFFER.items()], ids=str)
def test_a_start_that_fits_changes_nothing(change):
    config = CONFIG.replace(**change)
    shared, own = ht.train(config, start=prepare(CONFIG)), ht.train(config)
    np.testing.assert_array_equal(shared.metrics, own.metrics)
    np.testing.assert_array_equal(shared.eigenvalues, own.eigenvalues)


def test_a_start_is_not_used_up():
    start = prepare(CONFIG)
    first, second = (ht.train(CONFIG, start=start).metrics for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["hidden_weights", "readout_weights", "teacher_direction"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(name, value):
    problem = ht.make_problem(CONFIG)
    array = getattr(problem, name).copy()
    array.flat[1] = value
    with pytest.raises(
        ValueError, match=rf"^problem\.{name} holds NaN or infinity in 1 of {array.size} entries"
    ):
        ht.train(CONFIG, dataclasses.replace(problem, **{name: array}))


@pytest.mark.parametrize("name", ["train", "probe", "test"])
@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_samples_that_are_not_finite_are_refused(name, part):
    problem = ht.make_problem(CONFIG)
    data = getattr(problem, name)
    array = getattr(data, part).copy()
    array[0] = math.nan
    bad = dataclasses.replace(problem, **{name: dataclasses.replace(data, **{part: array})})
    with pytest.raises(ValueError, match=rf"^problem\.{name}\.{part} holds NaN or infinity in (1|8) of "):
        ht.train(CONFIG, bad)


@pytest.mark.parametrize("change", [{"h": 13}, {"d": 9}], ids=str)
def test_a_problem_of_another_shape_is_refused(change):
    with pytest.raises(
        ValueError, match=r"^problem\.hidden_weights must have shape \(h, d\) = .*; got \(12, 8\)"
    ):
        ht.train(CONFIG.replace(**change), ht.make_problem(CONFIG))


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "", "cuda:99", "meta"])
def test_a_device_that_cannot_be_used_is_refused(device):
    with pytest.raises(ValueError, match=rf"^device '{device}' cannot be used here: "):
        ht.train(CONFIG, device=device)
    assert ht.train(CONFIG.replace(steps=0), device=torch.device("cpu")).diverged_at is None


def test_normalized_by_hand():
    """|W|_F = 5 goes to sqrt(hd) = 2; the direction stays, the argument too."""
    W = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    np.testing.assert_allclose(normalized(W), [[1.2, 0], [0, 1.6]], rtol=1e-15)
    assert W[0, 0] == 3


def test_arrays_of_a_problem_are_cast_and_left_alone():
    problem = ht.make_problem(CONFIG)
    copy = {name: getattr(problem, name).copy() for name in ("hidden_weights", "readout_weights")}
    ht.train(CONFIG.replace(train_readout=True, normalize_weights=True), problem)
    for name, array in copy.items():
        np.testing.assert_array_equal(getattr(problem, name), array)
    assert prepare(CONFIG.replace(dtype="float32"), problem).train.inputs.dtype == torch.float32


def test_arrays_that_cannot_be_written_are_accepted():
    problem = ht.make_problem(CONFIG)
    for name in ("hidden_weights", "readout_weights", "teacher_direction"):
        getattr(problem, name).flags.writeable = False
    for data in (problem.train, problem.probe, problem.test):
        data.inputs.flags.writeable = data.targets.flags.writeable = False
    np.testing.assert_array_equal(ht.train(CONFIG, problem).metrics, ht.train(CONFIG).metrics)
