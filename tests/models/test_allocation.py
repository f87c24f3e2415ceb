"""Oracles: allocations worked out by hand, and the invariants of each rule on random tables."""

import math
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import htlib as ht
from htlib.models.allocation import PRESETS
from htlib.models.allocation_rows import block_of, tensor_of_row
from htlib.models.allocation_rules import RULES
from tests.refusals import refused

# Each rule with the options of its tests; a new rule is one line here and one hand-worked allocation below.
OPTIONS = {
    "linear": {},
    "sigmoid": {},
    "sparsity": {"target": 0.7},
    "experts": {"total": 40},
    "bits": {"mean_bits": 3.3},
}


def table_of(values, shapes=None, names=None):
    names = names or [f"layers.{i}.weight" for i in range(len(values))]
    shapes = shapes or [(40, 60)] * len(values)
    return pd.DataFrame({"name": names, "shape": shapes, "alpha_hill": np.array(values, dtype=float)})


def entries(table):
    return np.array([math.prod(shape) for shape in table["shape"]])


@st.composite
def tables(draw):
    """Some layers with exponents, many of them equal, and shapes of their own."""
    count = draw(st.integers(1, 12))
    value = st.one_of(st.sampled_from([2.0, 2.5, 3.0]), st.floats(1.01, 40.0))
    side = st.integers(1, 300)
    values = draw(st.lists(value, min_size=count, max_size=count))
    return table_of(values, draw(st.lists(st.tuples(side, side), min_size=count, max_size=count)))


def test_every_rule_is_tested():
    assert list(OPTIONS) == list(RULES)


BY_HAND = {
    # exponents 2, 3, 4 lie at 0, 1/2, 1 of the range
    "linear": ({}, [2, 3, 4], [0.5, 1.0, 1.5]),
    "linear of another range": ({"low": 1, "high": 5}, [2, 3, 4], [1, 3, 5]),
    # mean multiplier 4/5 of 0.5, 0.4 and 1.5; brought to 2
    "linear with a mean": ({"low": 0.4, "high": 1.5, "mean": 1.9}, [2, 4], [0.8, 3.0]),
    # half the least spread: half of the way from 1
    "linear of a narrow column": ({"least_spread": 4}, [2, 3, 4], [0.75, 1.0, 1.25]),
    # distances -1, 0, 1 with tau = ln 3: the logistic function is 1/4, 1/2, 3/4
    "sigmoid": ({"tau": math.log(3)}, [2, 3, 4], [10 ** (-2 / 4), 1.0, 10 ** (1 / 4)]),
    # ratios .7, 1, 1.3 have the mean 1
    "sparsity": ({"target": 0.5}, [2, 3, 4], [0.35, 0.5, 0.65]),
    # .9 x (.7, 1, 1.3) = .63, .9, 1.17; the cap takes .17 off, and 1.7 : 1 of what is left, 1.7, is given
    "sparsity at its cap": ({"target": 0.9}, [2, 3, 4], [0.7, 1.0, 1.0]),
    "sparsity at a lower cap": ({"target": 0.5, "cap": 0.6}, [2, 3, 4], [0.9 * 0.7 / 1.7, 0.9 / 1.7, 0.6]),
    # 10 x (1, 2, 4) / 7 = 1.43, 2.86, 5.71: whole parts 1, 2, 5, and the largest remainders of 2 and 4
    "experts": ({"total": 10, "power": 1}, [1, 2, 4], [1, 3, 6]),
    # 8 x (1, 100, 100) / 201 = .04, 3.98, 3.98: one for the first, 7 for two equal ones
    "experts at least one": ({"total": 9, "power": 1}, [1, 100, 100], [1, 4, 4]),
    "experts at least two": ({"total": 12, "power": 2, "least": 2}, [1, 1, 4, 4], [2, 2, 4, 4]),
    # in units of 1/256 the steps 2 -> 3 and 3 -> 4 gain 12 w and 3 w with w = 4, 1, 1/2: three are paid for,
    # of 48 and twice 12, and 6 is the next
    "bits": ({"mean_bits": 3}, [1, 4, 8], [4, 3, 2]),
    "bits of a finer budget": ({"mean_bits": 3.34}, [1, 4, 8], [4, 3, 3]),
    # squared weights 16, 1, 1/4: the first two steps, 192 and 48, are those of the first
    "bits by squares": ({"mean_bits": 8 / 3, "gamma": 2}, [1, 4, 8], [4, 2, 2]),
    "bits with a gap": ({"mean_bits": 3, "choices": (2, 8)}, [1, 4, 8], [2, 2, 2]),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_worked_out_by_hand(case):
    options, values, expected = BY_HAND[case]
    result = ht.allocate(table_of(values), case.split()[0], **options)
    assert result.tolist() == pytest.approx(expected, abs=1e-12)
    assert result.index.tolist() == [f"layers.{i}.weight" for i in range(len(values))]


@pytest.mark.parametrize("rule", OPTIONS)
@given(table=tables(), seed=st.integers(0, 9))
def test_order_and_names_do_not_count(rule, table, seed):
    """Exact equality: the sums are taken in an order of the values."""
    options = OPTIONS[rule]
    result = ht.allocate(table, rule, **options)
    shuffled = ht.allocate(table.sample(frac=1, random_state=seed), rule, **options)
    pd.testing.assert_series_equal(shuffled[result.index], result, check_exact=True)
    renamed = table.assign(name=[f"{chr(122 - i)}.weight" for i in range(len(table))])
    others = ht.allocate(renamed, rule, **options)
    if rule == "experts":  # equal layers may get different whole numbers, and names decide which
        assert sorted(others) == sorted(result)
    else:
        assert others.tolist() == result.tolist()


@pytest.mark.parametrize("rule", OPTIONS)
@given(table=tables())
def test_a_higher_value_never_gets_less(rule, table):
    """Of bits it never gets more."""
    result = ht.allocate(table, rule, **OPTIONS[rule]).to_numpy()
    order = np.lexsort((result, table.alpha_hill))
    steps = np.diff(result[order])
    values = np.diff(table.alpha_hill.to_numpy()[order])
    if rule == "bits":
        assert (steps[values > 0] <= 0).all()
    else:
        assert (steps >= 0).all()
    # equal values get equal shares, and whole numbers that differ by one at most
    assert (np.abs(steps[values == 0]) <= (1 if rule == "experts" else 0)).all()


@pytest.mark.parametrize("rule", OPTIONS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_values_give_the_uniform_allocation(rule, count):
    table = table_of([0.1] * count, shapes=[(10 * (i + 1), 60) for i in range(count)])
    uniform = {"linear": 1, "sigmoid": 1, "sparsity": 0.7, "experts": 40 / count, "bits": 3}[rule]
    assert ht.allocate(table, rule, **OPTIONS[rule]).tolist() == pytest.approx([uniform] * count, abs=1e-15)
    assert ht.allocate(table, rule, by="block", **OPTIONS[rule]).tolist() == pytest.approx([uniform] * count)


@given(table=tables(), target=st.floats(0, 1), spread=st.floats(0, 1), cap=st.sampled_from([0.3, 0.95, 1.0]))
def test_the_mean_of_sparsities_is_the_target(table, target, spread, cap):
    """Tolerance: a sum of at most twelve terms in double precision."""
    result = ht.allocate(table, "sparsity", target=target * cap, spread=spread, cap=cap)
    assert np.average(result, weights=entries(table)) == pytest.approx(target * cap, rel=1e-13, abs=1e-15)
    assert result.between(0, cap).all()


@given(table=tables(), total=st.integers(0, 500), power=st.floats(0, 9), least=st.integers(0, 3))
def test_experts_sum_to_the_total(table, total, power, least):
    total += least * len(table)
    result = ht.allocate(table, "experts", total=total, power=power, least=least)
    assert result.dtype == np.int64
    assert (result.sum(), result.min() >= least) == (total, True)


@given(table=tables(), mean=st.floats(2, 9), choices=st.lists(st.integers(2, 8), max_size=4))
def test_bits_stay_within_their_mean_and_use_it(table, mean, choices):
    choices = sorted({2, *choices})
    result = ht.allocate(table, "bits", mean_bits=mean, choices=choices)
    spent = np.average(result, weights=entries(table))
    assert spent <= mean * (1 + 1e-11)
    assert set(result) <= set(choices)
    if (result < choices[-1]).any():  # the step of some group of equal layers did not fit
        sizes = table.assign(size=entries(table)).groupby("alpha_hill")["size"].sum()
        gap = max(np.diff(choices), default=0)
        assert spent + gap * sizes.max() / sizes.sum() >= mean * (1 - 1e-11)


@given(table=tables(), mean=st.floats(2, 4))
def test_bits_lose_least_of_all_choices_that_are_as_dear(table, mean):
    """Oracle: all choices of equal layers that spend no more."""
    table = table.head(5).assign(shape=[(10, 10)] * min(len(table), 5)).drop_duplicates("alpha_hill")
    bits = ht.allocate(table, "bits", mean_bits=mean).to_numpy()
    weight = (table.alpha_hill.median() / table.alpha_hill).to_numpy()
    grids = np.stack(np.meshgrid(*[[2, 3, 4]] * len(bits)), -1).reshape(-1, len(bits))
    errors = (weight * 4.0**-grids).sum(axis=1)[grids.sum(axis=1) <= bits.sum()]
    assert (weight * 4.0**-bits).sum() <= errors.min() * (1 + 1e-12)


def test_the_variance_counts_for_bits_if_asked():
    """Hand: entries twice as large are worth one bit more."""
    table = table_of([3, 3, 3]).assign(frobenius_norm=[1.0, 2.0, 4.0])
    assert ht.allocate(table, "bits", mean_bits=3, variance=True).tolist() == [2, 3, 4]
    assert ht.allocate(table, preset="alphaq", mean_bits=3).tolist() == [2, 3, 4]
    with refused("variance", "frobenius_norm"):
        ht.allocate(table_of([3, 3]), preset="alphaq")


REFUSED = {
    "column 'alpha_hill' must be finite": (table_of([2, np.nan, 3]), "linear", {}, "layers.1.weight"),
    "column 'alpha_hill' must": (table_of([2, 3, np.inf]), "experts", {"total": 9}, "inf at layers.2.weight"),
    "table must have the column 'beta'": (table_of([2]), "linear", {"column": "beta"}, "alpha_hill"),
    "table must have each name once": (table_of([2, 3], names=["a", "a"]), "linear", {}, "'a' is there 2"),
    "table must have a row": (table_of([]), "linear", {}, "empty"),
    "shape must": (table_of([2], shapes=["wide"]), "linear", {}, "'wide'"),
    "shape must be": (table_of([2], shapes=[(0, 4)]), "linear", {}, "(0, 4)"),
    "rule must be one of linear": (table_of([2]), "tempbalance", {}, "preset=..."),
    "preset must be one of": (table_of([2]), None, {"preset": "alphaprunning"}, "'alphaprunning'"),
    "rule of the preset 'llr' is": (table_of([2]), "bits", {"preset": "llr"}, "'bits'"),
    "by must be": (table_of([2]), "linear", {"by": "stage"}, "'stage'"),
    "low and high": (table_of([2]), "linear", {"low": 2}, "2"),
    "mean must": (table_of([2]), "linear", {"mean": 0}, "0"),
    "least_spread must": (table_of([2]), "linear", {"least_spread": -1}, "-1"),
    "tau must": (table_of([2]), "sigmoid", {"tau": -1}, "-1"),
    "target must be from 0 to cap = 0.6": (table_of([2]), "sparsity", {"target": 0.7, "cap": 0.6}, "0.7"),
    "cap must": (table_of([2]), "sparsity", {"target": 0.7, "cap": 1.1}, "1.1"),
    "spread must": (table_of([2]), "sparsity", {"target": 0.7, "spread": 1.5}, "1.5"),
    "total must be at least 1 for each of 3": (table_of([2, 3, 4]), "experts", {"total": 2}, "2"),
    "power must": (table_of([2]), "experts", {"total": 2, "power": -1}, "-1"),
    "column must be positive": (table_of([2, -3]), "experts", {"total": 9}, "layers.1.weight has -3"),
    "column must be": (table_of([2, 0]), "bits", {"mean_bits": 3}, "layers.1.weight has 0"),
    "mean_bits must be at least the smallest": (table_of([2]), "bits", {"mean_bits": 1}, "2; got 1"),
    "choices must": (table_of([2]), "bits", {"mean_bits": 3, "choices": ()}, "()"),
    "gamma must": (table_of([2]), "bits", {"mean_bits": 3, "gamma": -1}, "-1"),
}


@pytest.mark.parametrize("named", REFUSED)
def test_refusals_name_the_argument_and_the_layer(named):
    table, rule, options, more = REFUSED[named]
    with refused(named, more):
        ht.allocate(table, rule, **options)


@pytest.mark.parametrize(
    ("named", "rule", "options"),
    [
        ("rule must be given", None, {}),
        ("target must be given", "sparsity", {}),
        ("tau is no option of the rule 'linear'", "linear", {"tau": 3}),
        ("total must be a whole number", "experts", {"total": 2.5}),
    ],
)
def test_wrong_options_are_type_errors(named, rule, options):
    with refused(named, error=TypeError):
        ht.allocate(table_of([2]), rule, **options)


def test_a_table_is_a_data_frame():
    with refused("table must be a DataFrame", error=TypeError):
        ht.allocate({"name": ["a"]}, "linear")


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("encoder.layer.11.output.dense.weight", "encoder.layer.11"),
        ("layers.3.mlp.experts.5.w1", "layers.3"),
        ("layer1.0.conv1.weight", "layer1.0"),
        ("0.weight", "0"),
        ("encoder/layer_7/attention/kernel", "encoder/layer_7"),
        ("transformer.h.2.attn.c_attn.weight[query]", "transformer.h.2"),
        ("lm_head.weight", None),
        ("fc1.weight", None),
        ("weight_ih_l0[input]", None),
    ],
)
def test_blocks_are_read_off_names(name, block):
    assert block_of(name) == block


def test_units_share_the_mean_of_their_rows():
    """Hand: blocks of the means 2.5 and 4; the head is a unit of its own."""
    names = ["h.0.a.weight", "h.0.b.weight", "h.1.a.weight", "head.weight"]
    table = table_of([2, 3, 4, 3], shapes=[(10, 10), (10, 30), (10, 20), (10, 10)], names=names)
    assert ht.allocate(table, "linear", by="block").tolist() == pytest.approx([0.5, 0.5, 1.5, 5 / 6])
    target = ht.allocate(table, "sparsity", target=0.6, by="block")
    assert np.average(target, weights=[100, 300, 200, 100]) == pytest.approx(0.6, rel=1e-14)
    assert target.iloc[0] == target.iloc[1]
    one = ht.allocate(table, "linear", by=lambda name: name[0])
    assert one.tolist() == [1.0] * 4  # h and head have the same first letter
    gates = table_of([2, 4, 5], names=["lstm.weight_ih_l0[input]", "lstm.weight_ih_l0[cell]", "fc.weight"])
    assert ht.allocate(gates, "linear", by="tensor").tolist() == [0.5, 0.5, 1.5]
    assert tensor_of_row("lstm.weight_ih_l0[cell]") == "lstm.weight_ih_l0"


def test_shapes_are_read_as_tables_and_files_have_them():
    """The three layers have 100, 200 and 300 entries however they are written; matrices of a stack count."""
    written = [(10, 10), [10, 20], "(10, 30)"], ["10x10", "[10, 20]", np.array([10, 30])]
    expected = ht.allocate(table_of([2, 3, 4], [(100,), (200,), (300,)]), "sparsity", target=0.5)
    for shapes in written:
        assert ht.allocate(table_of([2, 3, 4], list(shapes)), "sparsity", target=0.5).equals(expected)
    stacked = table_of([2, 3, 4], [(10, 10)] * 3).assign(n_matrices=[1, 2, 3])
    assert ht.allocate(stacked, "sparsity", target=0.5).equals(expected)


def transformer_table(values=None):
    names = [f"encoder.layer.{i}.{part}.weight" for i in range(4) for part in ("query", "output")]
    names = ["embedding.weight", *names, "head.weight"]
    values = np.random.default_rng(5).uniform(2, 5, 10) if values is None else values
    shapes = [(500, 64), *[(64, 64), (64, 256)] * 4, (500, 64)]
    table = table_of(values, shapes, names)
    return table.assign(frobenius_norm=np.sqrt(entries(table)))  # of variance one


# Preset: the rule, its options as published, the unit and the rows that stay as they are, with what they get.
PUBLISHED = {
    "tempbalance": ("linear", {"low": 0.5, "high": 1.5}, "row", [0, 9], 1.0),
    "model-balancing": ("sigmoid", {"tau": 10, "above": 1, "below": 2}, "block", [0, 9], 1.0),
    "alphapruning": ("sparsity", {"target": 0.7, "spread": 0.3}, "block", [0, 9], 0.0),
    "alphalora": ("experts", {"total": 160, "power": 2.5}, "block", [0, 9], 0),
    "farms": ("sparsity", {"target": 0.7, "spread": 0.3}, "block", [0, 9], 0.0),
    "alphadecay": ("linear", {"low": 0.67, "high": 3}, "row", [0, 9], 1.0),
    "llr": ("linear", {"low": 1, "high": 5}, "row", [0, 9], 5.0),
    "alphaq": ("bits", {"mean_bits": 3.5, "variance": True}, "row", [], 0),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_calls_of_the_rules(preset):
    rule, options, by, left_out, rest = PUBLISHED[preset]
    table = transformer_table()
    needed = {"target": 0.7} if rule == "sparsity" else {}
    result = ht.allocate(table, preset=preset, **needed)
    kept = table.drop(index=left_out)
    pd.testing.assert_series_equal(result[kept.name], ht.allocate(kept, rule, by=by, **options))
    assert result.iloc[left_out].tolist() == [rest] * len(left_out)
    changed = {"linear": {"high": 9}, "sigmoid": {"above": 2}, "sparsity": {"target": 0.2}}
    changed |= {"experts": {"total": 90}, "bits": {"mean_bits": 2.1}}
    assert not ht.allocate(table, preset=preset, **{**needed, **changed[rule]}).equals(result)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_with_equal_exponents_are_uniform_and_take_one_layer(preset):
    needed = {"target": 0.7} if PRESETS[preset].rule == "sparsity" else {}
    equal = ht.allocate(transformer_table(np.full(10, 3.0)), preset=preset, **needed)
    assert equal.iloc[1:9].nunique() == 1
    single = table_of([3.0], names=["fc.weight"]).assign(frobenius_norm=1.0)
    uniform = {"linear": 1, "sigmoid": 1, "sparsity": 0.7, "experts": 160, "bits": 3}
    assert ht.allocate(single, preset=preset, **needed).tolist() == [uniform[PRESETS[preset].rule]]


def test_small_layers_keep_their_rate_under_tempbalance():
    """50 eigenvalues are enough, and those of a convolution's matrices are pooled."""
    table = table_of([2, 3, 4, 5, 2], [(60, 60), (49, 90), (50, 90), (10, 10), (60, 60)])
    table["n_matrices"] = [1, 1, 1, 9, 1]
    assert ht.allocate(table, preset="tempbalance").tolist() == [1, 1, 0.5, 1.5, 1]


def test_the_ends_are_whole_tensors():
    names = [f"attention.in_proj_weight[{part}]" for part in ("query", "key", "value")]
    table = table_of([2, 3, 4, 2, 3, 9], [(64, 64)] * 6, [*names, "up.weight", "down.weight", "head.weight"])
    assert ht.allocate(table, preset="tempbalance", by="tensor").tolist() == [1, 1, 1, 0.5, 1.5, 1]


def test_a_layer_that_is_left_out_may_have_no_exponent():
    values = np.random.default_rng(0).uniform(2, 5, 10)
    values[9] = np.nan
    assert np.isfinite(ht.allocate(transformer_table(values), preset="alphapruning", target=0.5)).all()
    with refused("column", "head.weight"):
        ht.allocate(transformer_table(values), "linear")


def test_controls_by_hand():
    table = table_of([2, 5, 3], names=["h.0.a", "h.0.b", "h.1.a"]).assign(
        alpha_hill_null=[2, 2, 4], alpha_hill_z=[0, 30, -1]
    )
    rows = ht.with_controls(table)
    assert rows.noise.tolist() == [2, 2, 4]
    assert rows.excess.tolist() == [0, 3, -1]
    assert rows.z.tolist() == [0, 30, -1]
    assert rows.depth.tolist() == [1, 2, 3]
    assert rows.uniform.tolist() == pytest.approx([10 / 3] * 3)
    assert rows.reversed.tolist() == [5, 2, 4]
    assert sorted(rows.permuted) == [2, 3, 5]
    blocks = ht.with_controls(table, by="block")
    assert blocks.depth.tolist() == [1, 1, 2]
    assert blocks.excess.tolist() == [1.5, 1.5, -1]
    matched = ht.with_controls(table, matched=True)
    assert matched.noise.tolist() == [2.5, 2.5, 5]  # the two lowest values are shared
    assert matched.excess.tolist() == [3, 5, 2]
    assert matched.depth.tolist() == [2, 3, 5]
    assert matched.reversed.tolist() == [5, 2, 3]
    assert "noise" not in ht.with_controls(table_of([2, 3]))


def test_every_control_is_one_argument_away():
    """Each rule takes each control of a model's table; if they are matched, the range is the same."""
    model = nn.Sequential(*[nn.Linear(30, 30 + 10 * i) for i in range(5)])
    table = ht.analyze(model, n_replicates=5, progress=False)
    controls = ht.with_controls(table, matched=True, seed=3)
    added = [name for name in controls if name not in table]
    assert added == ["noise", "excess", "z", "permuted", "depth", "uniform", "reversed"]
    for rule, options in OPTIONS.items():
        for name in added:
            ht.allocate(controls, rule, column=name, **options)
    for name in ("excess", "z", "permuted", "depth", "reversed"):
        assert ht.allocate(controls, "linear", column=name).max() == 1.5
    assert ht.allocate(controls, "linear", column="uniform").tolist() == [1.0] * 5
    different = ht.with_controls(table, seed=4).permuted.tolist() != ht.with_controls(table).permuted.tolist()
    assert different


def test_the_table_of_a_file_gives_the_same_allocation(tmp_path):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(30, 60), nn.Conv2d(12, 20, 3), nn.Linear(50, 40), nn.LSTM(20, 30))
    table = ht.analyze(model, null=None, progress=False)
    table.to_csv(tmp_path / "layers.csv", index=False)
    read = pd.read_csv(tmp_path / "layers.csv")
    for rule, options in OPTIONS.items():
        expected = ht.allocate(table, rule, **options)
        pd.testing.assert_series_equal(ht.allocate(read, rule, **options), expected, rtol=1e-12)


def test_thousands_of_layers_take_less_than_two_seconds():
    """A large model has a few hundred rows; measured here: 10,000 rows in 0.2 s at most."""
    rng = np.random.default_rng(0)
    table = table_of(rng.uniform(2, 5, 10_000), [(100, 100)] * 10_000)
    for rule, options in (OPTIONS | {"experts": {"total": 40_000}}).items():
        start = time.perf_counter()
        ht.allocate(table, rule, **options)
        assert time.perf_counter() - start < 2, rule
