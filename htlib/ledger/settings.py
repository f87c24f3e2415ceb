"""Settings: each picks runs of an experiment, one run per seed or one curve per seed.

A setting maps fields of `ExperimentConfig` to values.  A number may be "min" or "max" of the values that were
run.  ``lr`` may be "2 x critical": a run within ten per cent of that multiple of the critical rate predicted
for real labels.  ``ridge_lambda`` may be "best": the value with the lowest mean test loss, which must not be
the smallest or largest that was run.  A size that is not named is free; any other field that is not named has
its default.  ``step`` is the step at which the runs are looked at, by default the last one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from htlib.student.config import ExperimentConfig
from htlib.student.problem import draw_readout
from htlib.student.run import Trajectory
from htlib.theory.one_step import OneStepLaw, law_of_config

Setting = Mapping[str, Any]

_SIZES = ("n", "d", "h")
# Fields that are free unless a setting names them: sizes, the seed, and how the run was measured.
_FREE = frozenset({*_SIZES, "n_test", "steps", "probe_every", "probe_sharpness", "seed"})
_DEFAULTS = ExperimentConfig().to_dict()


def chosen(runs: Sequence[Trajectory], setting: Setting) -> list[Trajectory]:
    """Return the runs that a setting picks, one per seed, ordered by seed."""
    return [group[0] for group in grouped(runs, setting)]


def grouped(runs: Sequence[Trajectory], setting: Setting, varied: str = "") -> list[list[Trajectory]]:
    """Return the runs that a setting picks, as one list per seed.

    The list has one run, or one for each value of the varied field.
    """
    found = matching(runs, setting, varied)
    values = sorted({getattr(run.config, varied) for run in found}) if varied else [None]
    groups: dict[int, list[Trajectory]] = {seed: [] for seed in sorted({r.config.seed for r in runs})}
    for run in sorted(found, key=lambda r: getattr(r.config, varied)) if varied else found:
        groups[run.config.seed].append(run)
    numbers = [len(group) for group in groups.values()]
    if not values or set(numbers) != {len(values)}:
        each = f"a run per seed and {varied}" if varied else "one run per seed"
        raise ValueError(f"setting {dict(setting)} must pick {each}; it picks {numbers}")
    return list(groups.values())


def matching(runs: Sequence[Trajectory], setting: Setting, varied: str = "") -> list[Trajectory]:
    """Return all runs that fit a setting, with any value of the varied field."""
    wanted = {name: wish for name, wish in setting.items() if name != "step"}
    if unknown := [name for name in (*wanted, varied) if name and name not in _DEFAULTS]:
        raise ValueError(f"unknown field {unknown[0]!r} in setting {dict(setting)}")
    fixed = {name: default for name, default in _DEFAULTS.items() if name not in _FREE} | wanted
    fixed.pop(varied, None)
    words = {k: v for k, v in fixed.items() if isinstance(v, str) and not isinstance(_DEFAULTS[k], str)}
    found = [r for r in runs if all(getattr(r.config, k) == v for k, v in fixed.items() if k not in words)]
    # sizes first: the critical rate depends on them
    for name in sorted(words, key=lambda name: name not in _SIZES):
        found = _said(found, name, words[name], setting)
    return found


def _said(runs: list[Trajectory], name: str, word: str, setting: Setting) -> list[Trajectory]:
    """Return the runs whose field has the value that the word describes."""

    def at(run: Trajectory) -> Any:
        return getattr(run.config, name)

    values = sorted({at(run) for run in runs} - {None})
    if not values:
        return []
    if word in ("min", "max"):
        picked = values[0] if word == "min" else values[-1]
    elif name == "lr" and word.endswith(" x critical"):
        if len({shape_of(run) for run in runs}) > 1:
            raise ValueError(
                f"setting {dict(setting)} must name n, d and h: the critical rate depends on them"
            )
        goal = float(word.removesuffix(" x critical")) * law_of(runs[0], labels="real").critical_lr
        picked = min(values, key=lambda lr: abs(math.log(lr / goal)))
        if not 0.9 < picked / goal < 1.1:
            raise ValueError(f"no run is near lr = {word}, {goal:.4g}; the nearest is {picked:g}")
    elif name == "ridge_lambda" and word == "best":
        losses = [
            np.mean([r.metrics.test_loss[step_of(r, setting)] for r in runs if at(r) == v]) for v in values
        ]
        best = int(np.argmin(losses))
        if best in (0, len(values) - 1):
            raise ValueError(f"the best ridge_lambda is {values[best]:g}, an end of what was run: run more")
        picked = values[best]
    else:
        raise ValueError(f"{name} must be a number or a word that this module explains; got {word!r}")
    return [run for run in runs if at(run) == picked]


def shape_of(run: Trajectory) -> tuple[int, int, int]:
    return run.config.n, run.config.d, run.config.h


def step_of(run: Trajectory, setting: Setting) -> int:
    """Return the step at which a setting looks at a run."""
    step = setting.get("step", run.config.steps)
    if step not in run.metrics.index:
        raise ValueError(f"step {step} of seed {run.config.seed} was not measured, or the run diverged")
    return step


def law_of(run: Trajectory, *, drawn: bool = False, labels: str = "") -> OneStepLaw:
    """Return the law for a run, or for other labels.

    If ``drawn``, the norm |a| is the one that the seed has drawn, and otherwise sqrt(h).
    """
    config = run.config
    if config.labels == "centred":
        raise ValueError("centred labels are not predicted")
    known = "real" if config.labels == "real" else "shuffled"
    norm = float(np.linalg.norm(draw_readout(config))) if drawn else None
    return _law(config.training.replace(lr=ExperimentConfig.lr), labels or known, norm)


@lru_cache(maxsize=32)  # a law keeps what it has solved, for all rates
def _law(config: ExperimentConfig, labels: str, norm: float | None) -> OneStepLaw:
    return law_of_config(config, labels=labels, readout_norm=norm)
