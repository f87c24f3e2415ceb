"""Oracles: reference.py's loops over whole runs, autograd with torch.optim, exact identities between runs."""

import dataclasses
import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

import htlib as ht
from htlib.student.problem import stream
from htlib.student.start import forget_starts, normalized, prepare
from htlib.student.training import Diverged, iterate, train_rates
from tests import global_generator, reference

SMALL = ht.ExperimentConfig(n=40, d=9, h=12, n_test=30, steps=4, lr=0.3, seed=5)
DOUBLE = SMALL.replace(dtype="float64")
SHAPES = {"h < d": {"h": 7, "d": 12}, "square": {"h": 10, "d": 10}, "h > d": {"h": 14, "d": 6}}
RULES = {
    "adam": {"lr": 0.3},
    "adam, large eps": {"lr": 1.0, "adam_eps": 1e-2},
    "adam, decay": {"weight_decay": 0.1, "lr_decay": 0.5},
    "adam, normalised": {"normalize_weights": True},
    "gd": {"optimizer": "gd", "lr": 30.0},
    "gd, momentum and decay": {"optimizer": "gd", "lr": 3.0, "momentum": 0.9, "weight_decay": 0.01},
    "gd, StepLR": {"optimizer": "gd", "lr": 50.0, "lr_decay": 0.4},
    "gd, normalised": {"optimizer": "gd", "lr": 20.0, "normalize_weights": True},
    "adam, no-top": {"update": "no-top"},
    "gd, no-top": {"optimizer": "gd", "lr": 30.0, "update": "no-top"},
    "adam, both layers": {"train_readout": True, "weight_decay": 0.01},
    "gd, both layers": {"optimizer": "gd", "lr": 0.5, "train_readout": True, "momentum": 0.5},
}


def weights_of(config, problem=None):
    """W at every snapshot, cloned: a snapshot's own is valid only until the run moves on."""
    return {s.step: s.weights.double().numpy().copy() for s in iterate(config, problem)}


def assert_is_the_reference(config, rel, problem=None):
    run = ht.train(config, problem)
    states = list(reference.run(problem or ht.make_problem(config), config.to_dict()))
    expected = pd.DataFrame([s.metrics for s in states])
    for name in expected:
        np.testing.assert_allclose(run.metrics[name], expected[name], rtol=rel, err_msg=name)
    values = np.array([s.eigenvalues for s in states])
    np.testing.assert_allclose(run.eigenvalues, values, atol=min(rel, 1e-4) * values.max())
    assert run.diverged_at is None
    assert list(run.metrics.index) == list(range(config.steps + 1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", ["paper", "released-code"])
def test_every_measure_of_a_float64_run_is_the_references(shape, rule, scale):
    """Both in float64: rounding grows along four steps, and by the condition of the explicit inverse."""
    # Rounding changes no choice and no count: the second-best threshold fits worse by 1e-4 or more, and no
    # eigenvalue is within 0.8 % of the edge.
    assert_is_the_reference(DOUBLE.replace(**SHAPES[shape], **RULES[rule], feature_scale=scale), rel=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", ["paper", "released-code"])
def test_every_measure_of_a_float32_step_is_the_references(shape, rule, scale):
    """The bound that the project promises: 0.5 %, eigenvalues 1e-4 of the largest."""
    # A step rounds sums of 70 terms, 1e-6 in all.  Rounding changes no choice and no count: the second-best
    # threshold fits worse by 4e-4 or more, and no eigenvalue is within 5 % of the edge.
    fields = SHAPES[shape] | RULES[rule] | {"feature_scale": scale, "steps": 1}
    assert_is_the_reference(SMALL.replace(**fields), rel=5e-3)


@pytest.mark.parametrize("activation", ["relu", "erf", "gelu"])
@pytest.mark.parametrize("teacher", ["relu", "identity", "hermite3"])
def test_other_functions_too(activation, teacher):
    assert_is_the_reference(DOUBLE.replace(activation=activation, teacher=teacher), rel=1e-5)


def test_fewer_samples_than_features_too():
    assert_is_the_reference(DOUBLE.replace(n=8), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_training_both_layers_is_autograd_with_torch_optim(optimizer):
    momentum = 0.5 if optimizer == "gd" else 0.0
    config = DOUBLE.replace(optimizer=optimizer, lr=0.2, lr_decay=0.7, weight_decay=0.05, momentum=momentum)
    config = config.replace(train_readout=True)
    problem = ht.make_problem(config)
    X, y = torch.from_numpy(problem.train.inputs), torch.from_numpy(problem.train.targets)
    W = torch.tensor(problem.hidden_weights, requires_grad=True)
    a = torch.tensor(problem.readout_weights, requires_grad=True)
    rule = (
        torch.optim.Adam([W, a], lr=0.2, weight_decay=0.05)
        if optimizer == "adam"
        else torch.optim.SGD([W, a], lr=0.2, weight_decay=0.05, momentum=0.5)
    )
    losses = []
    for step in range(config.steps + 1):
        loss = torch.nn.functional.mse_loss(torch.tanh(X @ W.T / 3) @ a / math.sqrt(12), y)
        losses.append(loss.item())
        if step < config.steps:
            rule.zero_grad()
            loss.backward()
            rule.step()
            rule.param_groups[0]["lr"] *= 0.7
    np.testing.assert_allclose(ht.train(config).metrics["train_loss"], losses, rtol=1e-10)
    np.testing.assert_allclose(weights_of(config)[config.steps], W.detach(), rtol=1e-9, atol=1e-11)


def test_training_the_readout_matters():
    first, both = (ht.train(DOUBLE.replace(train_readout=flag)).metrics for flag in (False, True))
    assert abs(first["train_loss"].iloc[-1] - both["train_loss"].iloc[-1]) > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_first_adam_step_is_a_sign_step(dtype):
    """Closed form: at step 1 both moments are the gradient's, so the update is -lr g / (|g| + eps)."""
    config = DOUBLE.replace(steps=1, lr=0.5, dtype=dtype)
    problem = ht.make_problem(config)
    weights = weights_of(config, problem)
    gradient, _ = reference.gradients(
        problem.hidden_weights, problem.readout_weights, problem.train.inputs, problem.train.targets, "tanh"
    )
    update = weights[1] - weights[0]
    # the update rounds, and the weights that it is added to; the gradient's own rounding would count beside
    # eps = 1e-8 only
    assert np.abs(gradient).min() > 1e-6
    tolerance = 4 * np.finfo(dtype).eps * np.abs(weights[1]).max()
    np.testing.assert_allclose(update, -0.5 * gradient / (np.abs(gradient) + 1e-8), atol=tolerance)
    clear = np.abs(gradient) > 1e-5  # beside these eps = 1e-8 is below a thousandth
    assert clear.mean() > 0.9
    np.testing.assert_allclose(update[clear], -0.5 * np.sign(gradient[clear]), rtol=1e-3)


def test_first_gd_step_is_the_gradient():
    config = DOUBLE.replace(steps=1, lr=0.5, optimizer="gd")
    problem = ht.make_problem(config)
    weights = weights_of(config, problem)
    gradient, _ = reference.gradients(
        problem.hidden_weights, problem.readout_weights, problem.train.inputs, problem.train.targets, "tanh"
    )
    np.testing.assert_allclose(weights[1] - weights[0], -0.5 * gradient, atol=1e-14)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_no_top_takes_the_leading_direction_out_of_the_update(optimizer):
    updates = {}
    for control in ("full", "no-top"):
        weights = weights_of(DOUBLE.replace(steps=1, optimizer=optimizer, lr=2.0, update=control))
        updates[control] = weights[1] - weights[0]
    U, s, Vh = np.linalg.svd(updates["full"])
    # exact up to rounding: the other singular values stay and the leading pair is sent to zero
    np.testing.assert_allclose(
        np.linalg.svd(updates["no-top"], compute_uv=False), [*s[1:], 0], atol=1e-13 * s[0]
    )
    np.testing.assert_allclose(updates["no-top"] @ Vh[0], 0, atol=1e-13 * s[0])
    np.testing.assert_allclose(U[:, 0] @ updates["no-top"], 0, atol=1e-13 * s[0])


def test_shuffled_update_keeps_the_multiset_of_entries():
    updates = {}
    for control in ("full", "shuffled"):
        weights = weights_of(DOUBLE.replace(steps=1, optimizer="gd", lr=2.0, update=control))
        updates[control] = weights[1] - weights[0]
    np.testing.assert_allclose(
        np.sort(updates["shuffled"], axis=None), np.sort(updates["full"], axis=None), atol=1e-14
    )
    moved = ~np.isclose(updates["shuffled"], updates["full"], atol=1e-12)
    assert moved.mean() > 0.9


def test_shuffled_update_draws_a_new_permutation_every_step():
    """With GD at a negligible rate both updates are the same matrix up to scale, but their orders differ."""
    weights = weights_of(DOUBLE.replace(steps=2, optimizer="gd", lr=1e-3, update="shuffled"))
    first, second = weights[1] - weights[0], weights[2] - weights[1]
    assert abs(np.corrcoef(first.flat, second.flat)[0, 1]) < 0.5
    np.testing.assert_allclose(np.sort(first, axis=None), np.sort(second, axis=None), rtol=0.05, atol=1e-6)


def test_same_config_same_numbers():
    first, second = (ht.train(SMALL, keep_weights=True) for _ in range(2))
    pd.testing.assert_frame_equal(first.metrics, second.metrics, check_exact=True)
    np.testing.assert_array_equal(first.eigenvalues, second.eigenvalues)
    torch.manual_seed(99)
    global_generator.seed(99)
    state = torch.get_rng_state()
    for config in (SMALL, SMALL.replace(update="shuffled")):
        ht.train(config)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(ht.train(SMALL).metrics, first.metrics)
    assert (ht.train(SMALL.replace(seed=6)).metrics["test_loss"] != first.metrics["test_loss"]).all()


def test_types_of_the_result():
    run = ht.train(SMALL)
    assert run.config == SMALL
    assert run.metrics.index.name == "step"
    assert run.metrics.dtypes.astype(str).to_dict() == {
        name: "int64" if name == "n_outliers" else "float64" for name in ht.train(SMALL).metrics
    }
    assert (run.eigenvalues.dtype, run.eigenvalues.shape) == (np.float64, (5, 9))
    assert (run.weights, run.overlaps, run.diverged_at) == ({}, {}, None)
    np.testing.assert_array_equal(run.esd(2), run.eigenvalues[2])
    with pytest.raises(KeyError, match=r"step 7 was not probed; probed are \[0, 1, 2, 3, 4\]"):
        run.esd(7)


@pytest.mark.parametrize(
    ("every", "probed"), [(1, [0, 1, 2, 3, 4, 5, 6, 7]), (3, [0, 3, 6, 7]), (7, [0, 7]), (100, [0, 7])]
)
@pytest.mark.parametrize("normalize", [False, True])
def test_probe_every(every, probed, normalize):
    """Measuring must not change the run: the rows are those of the run measured at every step."""
    config = DOUBLE.replace(steps=7, normalize_weights=normalize)
    full = ht.train(config, keep_overlaps=True)
    run = ht.train(config.replace(probe_every=every), keep_weights=True, keep_overlaps=True)
    assert list(run.metrics.index) == list(run.weights) == probed
    assert list(run.overlaps) == probed[1:]
    np.testing.assert_array_equal(run.metrics, full.metrics.loc[probed])
    np.testing.assert_array_equal(run.eigenvalues, full.eigenvalues[probed])
    for step in probed[1:]:
        # factorised anew instead of carried over: same numbers up to the order of operations
        for side in ("left", "right"):
            ours, theirs = (getattr(r.overlaps[step].before, side) for r in (run, full))
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_no_steps():
    run = ht.train(DOUBLE.replace(steps=0), keep_weights=True, keep_overlaps=True)
    assert list(run.metrics.index) == list(run.weights) == [0]
    assert run.overlaps == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kept_weights_are_those_of_their_step(dtype):
    config = SMALL.replace(dtype=dtype)
    problem = ht.make_problem(config)
    run = ht.train(config, problem, keep_weights=True)
    assert list(run.weights) == [0, 1, 2, 3, 4]
    assert all((W.dtype, W.shape) == (np.float64, (12, 9)) for W in run.weights.values())
    np.testing.assert_array_equal(run.weights[0], problem.hidden_weights.astype(dtype))
    for step, W in run.weights.items():
        np.testing.assert_allclose(run.esd(step), reference.esd(W), rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normalize", [False, True])
def test_kept_overlaps_are_those_of_the_weights(shape, normalize):
    config = DOUBLE.replace(**SHAPES[shape], normalize_weights=normalize)
    run, weights = ht.train(config, keep_overlaps=True), weights_of(config)
    k = min(config.h, config.d)
    assert list(run.overlaps) == [1, 2, 3, 4]
    for step, pair in run.overlaps.items():
        before = weights[step - 1]
        if normalize:
            before = before * math.sqrt(before.size) / np.linalg.norm(before)
        M = weights[step] - before
        for overlaps, W in ((pair.before, before), (pair.after, weights[step])):
            expected = ht.singular_vector_overlaps(W, M)
            assert overlaps.left.shape == overlaps.right.shape == (k, k)
            # W_t - W_{t-1} rounds W_t: 1e-16 over the gaps of M's small singular values
            np.testing.assert_allclose(overlaps.left, expected.left, atol=1e-7)
            np.testing.assert_allclose(overlaps.right, expected.right, atol=1e-7)


def test_at_most_a_hundred_overlaps_are_kept():
    config = ht.ExperimentConfig(n=150, d=110, h=120, n_test=10, steps=1, dtype="float64")
    overlaps = ht.train(config, keep_overlaps=True).overlaps[1].after
    weights = weights_of(config)
    expected = ht.singular_vector_overlaps(weights[1], weights[1] - weights[0])
    assert overlaps.left.shape == overlaps.right.shape == (100, 100)
    np.testing.assert_allclose(overlaps.left, expected.left[:100, :100], atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
@pytest.mark.parametrize("normalize", [False, True])
def test_train_rates_is_train_at_every_rate(optimizer, normalize):
    config = SMALL.replace(optimizer=optimizer, normalize_weights=normalize)
    rates = [0.01, 1, 10.0, 1e9]
    runs = train_rates(config, rates, keep_weights=True)
    assert [run.config.lr for run in runs] == rates
    for run, rate in zip(runs, rates, strict=True):
        single = ht.train(config.replace(lr=rate), keep_weights=True)
        assert (run.config, run.diverged_at) == (single.config, single.diverged_at)
        pd.testing.assert_frame_equal(run.metrics, single.metrics, check_exact=True)
        np.testing.assert_array_equal(run.eigenvalues, single.eigenvalues)
        assert all(np.array_equal(run.weights[step], single.weights[step]) for step in single.weights)
    assert train_rates(config, []) == []
    with pytest.raises(ValueError, match=r"^lr must"):
        train_rates(config, [0.1, -1.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_diverging_run_stops_with_what_it_has(dtype):
    """relu is not bounded: at rate 1e9 every step multiplies the loss by many orders of magnitude."""
    config = SMALL.replace(activation="relu", optimizer="gd", lr=1e9, steps=100, dtype=dtype)
    run = ht.train(config, keep_weights=True)
    assert 1 <= run.diverged_at < 100
    assert list(run.metrics.index) == list(run.weights) == list(range(run.diverged_at))
    assert len(run.eigenvalues) == run.diverged_at
    assert np.isfinite(run.eigenvalues).all()
    assert np.isfinite(run.metrics[["train_loss", "ridge_train_loss", "test_loss", "spectral_norm"]]).all(
        axis=None
    )
    start = ht.train(config.replace(steps=0))
    np.testing.assert_array_equal(run.metrics.loc[0], start.metrics.loc[0])
    with pytest.raises(Diverged) as stop:
        list(iterate(config))
    assert stop.value.step == run.diverged_at


@pytest.mark.parametrize(("n", "h"), [(60, 12), (10, 40)])
def test_ridge_fits_on_the_way_to_divergence_are_fits(n, h):
    """In float64 weights pass 1e100 before they overflow.

    By definition a ridge fit is never worse on its own sample than the zero readout; a tenth is for rounding.
    """
    config = DOUBLE.replace(activation="relu", optimizer="gd", lr=1e9, steps=100, n=n, h=h)
    problem = ht.make_problem(config)
    zero = np.mean(problem.probe.targets**2)
    assert ht.train(config, problem).metrics["ridge_train_loss"].max() <= 1.1 * zero


def test_kernel_alignment_on_the_way_to_divergence_is_that_of_rescaled_features():
    """KTA knows no scale: features divided by their maximum give the same number at any step."""
    config = DOUBLE.replace(activation="relu", optimizer="gd", lr=1e9, steps=100)
    probe = ht.make_problem(config).probe
    metrics, snapshots = ht.train(config).metrics, iterate(config)
    assert len(metrics) > 8
    for step, kta in metrics["kta"].items():
        W = next(snapshots).weights.numpy()
        Z = reference.features(W / np.abs(W).max(), probe.inputs, "relu")
        assert kta == pytest.approx(reference.kta(Z, probe.targets), rel=1e-6), f"step {step}"


@pytest.mark.parametrize("normalize", [False, True])
def test_a_saturated_tanh_run_finishes(normalize):
    run = ht.train(SMALL.replace(optimizer="gd", lr=1e9, steps=20, normalize_weights=normalize))
    assert run.diverged_at is None
    assert len(run.metrics) == 21
    assert np.isfinite(run.metrics).all(axis=None)
    assert run.metrics["spectral_norm"].iloc[-1] > 1e6


def test_a_run_that_overflows_at_the_start():
    """Targets of 1e30 square to infinity in float32; the table is empty but keeps its columns."""
    problem = ht.make_problem(SMALL)
    huge = ht.Dataset(problem.train.inputs, 1e30 * problem.train.targets)
    run = ht.train(SMALL, dataclasses.replace(problem, train=huge), keep_weights=True)
    assert run.diverged_at == 0
    assert run.eigenvalues.shape == (0, 9)
    assert (len(run.metrics), run.weights) == (0, {})
    assert list(run.metrics.columns) == list(ht.train(SMALL).metrics.columns)
    assert run.metrics.index.name == "step"


def test_iterate_can_be_abandoned():
    calls = []
    snapshots = iterate(SMALL.replace(steps=1000), on_step=lambda: calls.append(1))
    seen = [next(snapshots) for _ in range(3)]
    snapshots.close()
    assert [s.step for s in seen] == [0, 1, 2]
    assert len(calls) == 2
    expected = ht.train(SMALL).metrics
    for snapshot in seen:
        assert snapshot.metrics == expected.loc[snapshot.step].to_dict()


def test_on_step_is_called_at_every_update():
    calls = []
    steps = [s.step for s in iterate(SMALL.replace(probe_every=3), on_step=lambda: calls.append(1))]
    assert (steps, len(calls)) == ([0, 3, 4], 4)


def test_snapshot_weights_have_the_eigenvalues_of_their_step():
    for snapshot in iterate(SMALL):
        # the same Gram matrix, factorised with and without vectors: each errs by some eps of the largest
        largest = snapshot.eigenvalues[-1]
        np.testing.assert_allclose(
            ht.esd(snapshot.weights), snapshot.eigenvalues, rtol=0, atol=1e-14 * largest
        )


@pytest.mark.parametrize("progress", [False, True])
def test_short_runs_print_nothing(progress, capsys):
    ht.train(SMALL, progress=progress)
    train_rates(SMALL, [0.1], progress=progress)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("n", "d", "h"), [(1, 1, 1), (5, 1, 4), (5, 4, 1), (2, 3, 3)])
@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_smallest_shapes(n, d, h, optimizer):
    run = ht.train(DOUBLE.replace(n=n, d=d, h=h, n_test=1, optimizer=optimizer), keep_overlaps=True)
    assert run.diverged_at is None
    assert run.eigenvalues.shape == (5, min(h, d))
    np.testing.assert_allclose(run.eigenvalues.sum(1), run.metrics["stable_rank"] * run.eigenvalues[:, -1])
    assert run.metrics["alpha_hill"].isna().all() == (min(h, d) < 3)


def test_overlaps_of_an_update_of_low_rank():
    """A gradient of n = 4 samples has rank 4: overlaps with orthonormal vectors obey Bessel all the same."""
    config = DOUBLE.replace(n=4, optimizer="gd", lr=1.0, steps=2)
    for pair in ht.train(config, keep_overlaps=True).overlaps.values():
        for overlaps in (pair.before, pair.after):
            for side in (overlaps.left, overlaps.right):
                assert max(side.sum(0).max(), side.sum(1).max()) <= 1 + 1e-8


@pytest.mark.parametrize("control", ["no-top", "shuffled"])
def test_a_rate_of_zero_changes_nothing(control):
    run = ht.train(DOUBLE.replace(lr=0, update=control))
    assert (run.metrics.nunique() == 1).all()


@pytest.mark.parametrize("update", ["full", "no-top", "shuffled"])
def test_an_overflowing_update_is_divergence_under_every_control(update):
    """Rates at which float32 weights overflow within a few steps."""
    config = ht.ExperimentConfig(
        n=40, d=10, h=20, n_test=10, optimizer="gd", lr=1e20, weight_decay=1.0, steps=6, update=update
    )
    run = ht.train(config, progress=False)
    assert run.diverged_at is not None
    assert run.metrics.index.tolist() == list(range(run.diverged_at))


def test_a_problem_of_another_size_is_refused():
    config = ht.ExperimentConfig(n=40, d=10, h=20, n_test=10, steps=1)
    with pytest.raises(ValueError, match=r"problem\.train has 40 samples; the config says n = 50"):
        ht.train(config.replace(n=50), ht.make_problem(config))


SHORT = ht.ExperimentConfig(n=30, d=8, h=12, n_test=20, steps=2, dtype="float64")
# A value other than the default for every field that decides the start.
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
    "inputs": "whitened",
    "readout": "signs",
    "teacher_rank": 2,
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
    "batch_size": 7,
    "probe_every": 2,
    "probe_sharpness": True,
    "ridge_lambda": 0.1,
    "feature_scale": "released-code",
}


def test_every_field_is_sorted_into_one_of_the_two():
    assert (
        DECIDES.keys() | MAY_DIFFER.keys() | {"momentum", "nesterov", "teacher_decay"}
        == SHORT.to_dict().keys()
    )


@pytest.mark.parametrize("change", [{name: value} for name, value in MAY_DIFFER.items()], ids=str)
def test_runs_of_one_problem_share_their_start_and_it_changes_nothing(change):
    config = SHORT.replace(**change)
    alone = ht.train(config)
    forget_starts()
    start = prepare(SHORT)
    assert prepare(config) is start
    shared = [ht.train(config) for _ in range(2)]
    assert prepare(config) is start
    for run in shared:
        np.testing.assert_array_equal(run.metrics, alone.metrics)
        np.testing.assert_array_equal(run.eigenvalues, alone.eigenvalues)


@pytest.mark.parametrize("name", DECIDES)
def test_another_problem_has_another_start(name):
    start = prepare(SHORT)
    assert prepare(SHORT.replace(**{name: DECIDES[name]})) is not start
    assert prepare(SHORT, ht.make_problem(SHORT)) is not start  # its arrays may change under us


def test_two_starts_are_kept():
    first, second, third = (SHORT.replace(seed=seed) for seed in range(3))
    starts = [prepare(config) for config in (first, second, first, third)]
    assert prepare(first) is starts[0]
    assert prepare(second) is not starts[1]


READINGS = {"feature_scale": ["paper", "released-code"], "ridge_lambda": [0.01, 10.0]}
FAMILY = ht.ExperimentConfig(n=60, d=15, h=20, n_test=30, steps=3)


def test_a_run_with_readings_is_each_of_them_to_the_last_bit():
    run = ht.train(FAMILY, readings=READINGS, keep_overlaps=True)
    assert len(run.refits) == 4
    assert len(run.readings) == 4 * 4
    for scale, value in product(*READINGS.values()):
        alone = ht.train(FAMILY.replace(feature_scale=scale, ridge_lambda=value), keep_overlaps=True)
        read = run.read(scale, value)
        assert read.config == alone.config
        assert read.overlaps is run.overlaps
        pd.testing.assert_frame_equal(read.metrics, alone.metrics, check_exact=True)
        np.testing.assert_array_equal(read.eigenvalues, alone.eigenvalues)
    with pytest.raises(ValueError, match=r"ridge_lambda = 0\.5.*\(paper, 0\.01\).*readings="):
        run.read(ridge_lambda=0.5)


def test_the_best_reading_is_that_of_the_smallest_score():
    lambdas = np.geomspace(1e-4, 10, 7)
    run = ht.train(FAMILY, readings={"ridge_lambda": lambdas})
    best = run.best_readings()
    table = run.readings
    for step in run.metrics.index:
        rows = table[table.step == step]
        assert best.loc[(step, "paper"), "test_loss"] == rows.loc[rows.gcv.idxmin(), "test_loss"]
    with pytest.raises(ValueError, match=r"GCV.*readings="):
        ht.train(FAMILY).best_readings()


@pytest.mark.parametrize(
    ("readings", "error", "parts"),
    [
        ({"lr": [1.0]}, TypeError, "'lr'.*feature_scale, ridge_lambda"),
        ({"ridge_lambda": [0.0]}, ValueError, "ridge_lambda must be positive; got 0"),
        ({"feature_scale": "other"}, ValueError, "feature_scale must be one of .*'other'"),
    ],
)
def test_bad_readings_are_named(readings, error, parts):
    with pytest.raises(error, match=parts):
        ht.train(FAMILY, readings=readings)


def test_a_run_diverges_where_any_of_its_readings_does():
    """relu features overflow at the larger scale first."""
    config = FAMILY.replace(activation="relu", optimizer="gd", lr=1e30, dtype="float64", steps=8)
    steps = [ht.train(config.replace(feature_scale=scale)).diverged_at for scale in READINGS["feature_scale"]]
    assert ht.train(config, readings=READINGS).diverged_at == min(step for step in steps if step is not None)


@pytest.mark.parametrize("name", ["hidden_weights", "readout_weights", "teacher_direction"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(name, value):
    problem = ht.make_problem(SHORT)
    array = getattr(problem, name).copy()
    array.flat[1] = value
    with pytest.raises(
        ValueError, match=rf"^problem\.{name} holds NaN or infinity in 1 of {array.size} entries"
    ):
        ht.train(SHORT, dataclasses.replace(problem, **{name: array}))


@pytest.mark.parametrize("name", ["train", "probe", "test"])
@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_samples_that_are_not_finite_are_refused(name, part):
    problem = ht.make_problem(SHORT)
    data = getattr(problem, name)
    array = getattr(data, part).copy()
    array[0] = math.nan
    bad = dataclasses.replace(problem, **{name: dataclasses.replace(data, **{part: array})})
    with pytest.raises(ValueError, match=rf"^problem\.{name}\.{part} holds NaN or infinity in (1|8) of "):
        ht.train(SHORT, bad)


@pytest.mark.parametrize("change", [{"h": 13}, {"d": 9}], ids=str)
def test_a_problem_of_another_shape_is_refused(change):
    with pytest.raises(
        ValueError, match=r"^problem\.hidden_weights must have shape \(h, d\) = .*; got \(12, 8\)"
    ):
        ht.train(SHORT.replace(**change), ht.make_problem(SHORT))


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "", "cuda:99", "meta"])
def test_a_device_that_cannot_be_used_is_refused(device):
    with pytest.raises(ValueError, match=rf"^device '{device}' cannot be used here: "):
        ht.train(SHORT, device=device)
    assert ht.train(SHORT.replace(steps=0), device=torch.device("cpu")).diverged_at is None


def test_normalized_by_hand():
    """|W|_F = 5 goes to sqrt(hd) = 2; the direction stays, the argument too."""
    W = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    np.testing.assert_allclose(normalized(W), [[1.2, 0], [0, 1.6]], rtol=1e-15)
    assert W[0, 0] == 3


def test_arrays_of_a_problem_are_cast_and_left_alone():
    problem = ht.make_problem(SHORT)
    copy = {name: getattr(problem, name).copy() for name in ("hidden_weights", "readout_weights")}
    ht.train(SHORT.replace(train_readout=True, normalize_weights=True), problem)
    for name, array in copy.items():
        np.testing.assert_array_equal(getattr(problem, name), array)
    assert prepare(SHORT.replace(dtype="float32"), problem).train[0].dtype == torch.float32


def test_arrays_that_cannot_be_written_are_accepted():
    problem = ht.make_problem(SHORT)
    for name in ("hidden_weights", "readout_weights", "teacher_direction"):
        getattr(problem, name).flags.writeable = False
    for data in (problem.train, problem.probe, problem.test):
        data.inputs.flags.writeable = data.targets.flags.writeable = False
    np.testing.assert_array_equal(ht.train(SHORT, problem).metrics, ht.train(SHORT).metrics)


def test_mini_batches_are_those_of_a_loop_of_torch():
    """Every epoch goes through all samples in a new order; the losses are of all samples."""
    config = SHORT.replace(batch_size=12, steps=7, lr=0.1)
    run, problem = ht.train(config, keep_weights=True), ht.make_problem(config)
    order, seen = stream(config.seed, "batches"), list[np.ndarray]()
    X, y, a, W = (
        torch.tensor(array)
        for array in (
            problem.train.inputs,
            problem.train.targets,
            problem.readout_weights,
            problem.hidden_weights,
        )
    )
    W.requires_grad_()
    optimizer = torch.optim.Adam([W], lr=0.1)

    def loss(rows):
        return ((torch.tanh(X[rows] @ W.T / 8**0.5) @ a / 12**0.5 - y[rows]) ** 2).mean()

    for step in range(1, 8):
        if not seen:
            shuffled = order.permutation(30)
            seen = [shuffled[:12], shuffled[12:24], shuffled[24:]]
        optimizer.zero_grad()
        loss(seen.pop(0)).backward()
        optimizer.step()
        np.testing.assert_allclose(run.weights[step], W.detach(), rtol=1e-9)
        assert run.metrics.train_loss[step] == pytest.approx(loss(slice(None)).item(), rel=1e-9)


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_the_sharpness_is_that_of_the_state(optimizer):
    """Beside `htlib.stability`, whose own oracle is a dense Hessian."""
    config = SHORT.replace(optimizer=optimizer, lr=0.3, probe_sharpness=True, steps=3)
    run = ht.train(config, keep_weights=True)
    plain = ht.train(config.replace(probe_sharpness=False))
    np.testing.assert_array_equal(run.metrics.drop(columns="sharpness"), plain.metrics)
    if optimizer == "gd":
        for step in range(4):
            expected = 0.3 * ht.stability(config, weights=run.weights[step]).hessian / 2
            assert run.metrics.sharpness[step] == pytest.approx(expected, rel=1e-3)
        return
    assert np.isnan(run.metrics.sharpness[0])
    start, second = prepare(config), torch.zeros(12, 8, dtype=torch.float64)
    for step in range(1, 4):
        before = torch.tensor(run.weights[step - 1])
        second = 0.999 * second + 0.001 * start.gradient_at(before, start.readout_weights)[1] ** 2
        P = (second / (1 - 0.999**step)).sqrt() + config.adam_eps
        found = ht.stability(config, weights=run.weights[step], denominator=P.numpy())
        assert run.metrics.sharpness[step] == pytest.approx(0.3 / found.late_critical_lr, rel=1e-3)
