"""Oracles: the documented defaults and errors; one digest written down."""

import dataclasses
import inspect
import json
import math

import numpy as np
import pytest

import htlib as ht
from htlib.student.config import _DEFAULTS_VERSION, CHOICES, TEACHERS, for_profile
from tests.refusals import refused

DEFAULTS = {
    **{"n": 2000, "d": 1000, "h": 1500, "n_test": 2000, "noise_std": 0.3},
    **{"teacher": "softplus", "activation": "tanh", "optimizer": "adam", "lr": 1.0, "steps": 10},
    **{"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "adam_eps": 1e-8, "dtype": "float32"},
    **{"lr_decay": None, "normalize_weights": False, "train_readout": False, "ridge_lambda": 0.01},
    **{"feature_scale": "paper", "labels": "real", "update": "full"},
    **{"inputs": "gaussian", "readout": "gaussian", "teacher_rank": 1, "teacher_decay": 1.0},
    **{"batch_size": None, "probe_every": 1, "probe_sharpness": False, "seed": 0},
}
# All but adam_eps, which gradient descent does not read.
CHANGED = DEFAULTS | {
    **{"n": 3, "d": 2, "h": 1, "n_test": 1, "noise_std": 0.0},
    **{"teacher": "hermite3", "activation": "erf", "optimizer": "gd", "lr": 0.0, "steps": 0},
    **{"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "dtype": "float64"},
    **{"lr_decay": 0.5, "normalize_weights": True, "train_readout": True, "ridge_lambda": 1e-6},
    **{"feature_scale": "released-code", "labels": "noise", "update": "no-top"},
    **{"inputs": "whitened", "readout": "signs", "teacher_rank": 2, "teacher_decay": 0.5},
    **{"batch_size": 2, "probe_every": 2, "probe_sharpness": True},
    "seed": 12345678901234567890,
}
DIGEST_OF_DEFAULTS = "7674a781fc38e94c"


def test_defaults_are_the_contract():
    """A new field only joins `DEFAULTS`; whoever changes a default here adds 1 to `_DEFAULTS_VERSION`."""
    # Digests leave out what has its default.
    assert _DEFAULTS_VERSION == 1
    config = ht.ExperimentConfig()
    assert config.to_dict() == DEFAULTS
    assert list(config.to_dict()) == list(DEFAULTS)


def test_the_documentation_names_every_choice():
    text = inspect.getdoc(ht.ExperimentConfig)
    for name, values in CHOICES.items():
        assert f"{name} : {{{', '.join(f'{value!r}' for value in values)}}}".replace("'", '"') in text
    for name in TEACHERS:
        assert name in text or name.startswith("hermite")


def test_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ht.ExperimentConfig().lr = 2.0
    with pytest.raises(TypeError):
        ht.ExperimentConfig(2000)


def test_digest_is_the_one_written_down():
    """A stored sweep is found again only while this holds; never edit the literal."""
    assert ht.ExperimentConfig().digest() == DIGEST_OF_DEFAULTS


@pytest.mark.parametrize(
    "same",
    [
        *({"lr": 1}, {"lr": np.float64(1)}, {"noise_std": 0.3, "momentum": 0}, {"momentum": -0.0}),
        {"lr": np.float32(1), "n": np.int64(2000), "seed": np.uint8(0), "nesterov": np.False_},
    ],
    ids=str,
)
def test_equal_values_have_equal_digests(same):
    config = ht.ExperimentConfig(**same)
    assert config == ht.ExperimentConfig()
    assert config.digest() == DIGEST_OF_DEFAULTS
    assert list(map(type, config.to_dict().values())) == list(map(type, DEFAULTS.values()))


def test_digest_sees_every_field():
    digests = {"nothing": DIGEST_OF_DEFAULTS, "optimizer": ht.ExperimentConfig(optimizer="gd").digest()}
    gd = {
        "momentum": {"optimizer": "gd"},
        "nesterov": {"optimizer": "gd", "momentum": 0.9},
        "teacher_decay": {"teacher_rank": 2},
    }
    for name in DEFAULTS.keys() - {"optimizer"}:
        value = 0.0 if name == "adam_eps" else CHANGED[name]
        digests[name] = ht.ExperimentConfig(**gd.get(name, {}), **{name: value}).digest()
    assert len(set(digests.values())) == len(DEFAULTS) + 1
    assert all(len(d) == 16 and int(d, 16) >= 0 for d in digests.values())


def test_a_new_field_changes_no_digest():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Wider(ht.ExperimentConfig):
        warmup: int = 0

    assert Wider(lr=2.0).digest() == ht.ExperimentConfig(lr=2.0).digest()
    assert Wider(warmup=1).digest() != ht.ExperimentConfig().digest()


def test_every_field_survives_json():
    for config in (ht.ExperimentConfig(**CHANGED), ht.ExperimentConfig(adam_eps=0.0)):
        assert ht.ExperimentConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_replace_checks_again():
    config = ht.ExperimentConfig()
    assert config.replace(lr=0.1).replace(lr=1.0) == config
    with refused("lr"):
        config.replace(lr=-1.0)
    with refused("unknown", "'learning_rate'", " lr,", error=TypeError):
        config.replace(learning_rate=0.1)


UNBOUNDED = (math.nan, math.inf, -math.inf)
BAD = {
    "n d h n_test probe_every": (0, -1, 2.5, 2.0, "3", True, None),
    "steps seed": (-1, 2.5, "3", True, None),
    "lr noise_std momentum weight_decay adam_eps ridge_lambda": [-0.1, *UNBOUNDED, "0.1", True, None],
    "ridge_lambda": (0,),
    "teacher_decay": [-1, *UNBOUNDED, "1", None],
    "teacher_rank": (0, 1.5, "2", True, None, 1001),
    "batch_size": (0, -1, 1.5, "2", True, 2000, 5000),
    "lr_decay": (0, 1.5, -0.5, math.nan, math.inf, "0.5", True),
    "nesterov normalize_weights train_readout probe_sharpness": (1, 0, None, "yes"),
    "optimizer teacher activation labels update inputs readout feature_scale dtype": (
        "sgd",
        "",
        "REAL",
        None,
        1,
        ["adam"],
    ),
    "dtype": ("float16",),
    "lr": (10**400,),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for names, values in BAD.items() for name in names.split() for value in values],
    ids=lambda v: f"{v!r:.12}",
)
def test_bad_value_is_refused_by_name(name, value):
    """The message names the argument, what is allowed and the value."""
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .+; got "):
        ht.ExperimentConfig(**{name: value})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"momentum": 0.9}, ["momentum = 0.9", "optimizer='adam'", "momentum=0.0", "gd"]),
        ({"nesterov": True}, ["nesterov = True", "optimizer='adam'", "gd"]),
        ({"optimizer": "gd", "adam_eps": 1e-5}, ["adam_eps = 1e-05", "optimizer='gd'", "adam"]),
        ({"optimizer": "gd", "nesterov": True}, ["nesterov = True", "momentum above 0"]),
        ({"teacher_decay": 2.0}, ["teacher_decay = 2.0", "teacher_rank = 1", "larger rank"]),
        ({"optimizer": "muon", "probe_sharpness": True}, ["probe_sharpness = True", "muon", "adam, gd"]),
    ],
)
def test_what_the_optimizer_does_not_read_is_refused(fields, named):
    with refused(*named):
        ht.ExperimentConfig(**fields)


def test_momentum_stays_below_one():
    with refused("momentum", "[0, 1)", 1):
        ht.ExperimentConfig(optimizer="gd", momentum=1)
    assert ht.ExperimentConfig(optimizer="gd", momentum=0.9).momentum == 0.9


@pytest.mark.parametrize(
    "limits", [{"lr": 0}, {"lr_decay": 1}, {"steps": 0}, {"noise_std": 0}, {"n": 1}], ids=str
)
def test_limits_are_allowed(limits):
    assert ht.ExperimentConfig(**limits).to_dict() == DEFAULTS | limits


def test_for_profile():
    assert (for_profile("fast", fast=1, paper=2), for_profile("paper", fast=1, paper=2)) == (1, 2)
    with refused("profile", "'fast'", "'paper'", "'slow'"):
        for_profile("slow", fast=1, paper=2)


def test_a_rate_that_overflows_float32_is_refused_there_only():
    with refused("lr", "1e+36", "float32", "1e+38"):
        ht.ExperimentConfig(lr=1e38)
    assert ht.ExperimentConfig(lr=1e38, dtype="float64").lr == 1e38
