"""Label the values of settings, find the settings that differ among runs, and group runs by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from htlib.figures.style import LABEL_LOOKS, OPTIMIZER_COLORS, OPTIMIZER_NAMES, looks_in_turn, shades
from htlib.student.config import ExperimentConfig
from htlib.student.run import Trajectory

# Symbols stand between dollar signs for Matplotlib; if these are removed, a label is plain text.
_FORMS = {
    "lr": "$η$ = {}",
    "n": "$n$ = {}",
    "d": "$d$ = {}",
    "h": "$h$ = {}",
    "ridge_lambda": "$λ$ = {}",
    "noise_std": "$ς$ = {}",
    "lr_decay": "$γ$ = {}",
    "adam_eps": "$ϵ$ = {}",
    "steps": "{} steps",
    "seed": "seed {}",
    "teacher": "{} teacher",
    "labels": "{} labels",
    "inputs": "{} inputs",
    "readout": "readout of {}",
    "teacher_rank": "{} directions",
    "teacher_decay": "weights $k^{{-{}}}$",
    "batch_size": "batches of {}",
    "update": "{} update",
    "feature_scale": "{} feature scale",
}
_WORDS: dict[tuple[str, Any], str] = {
    ("steps", 1): "1 step",
    ("teacher_rank", 1): "1 direction",
    ("batch_size", None): "all samples",
    ("train_readout", True): "both layers",
    ("train_readout", False): "first layer",
    ("readout", "gaussian"): "Gaussian readout",
    ("inputs", "gaussian"): "Gaussian inputs",
    ("lr_decay", None): "constant rate",
    ("normalize_weights", True): "normalised",
    ("normalize_weights", False): "not normalised",
    **{("optimizer", name): label for name, label in OPTIMIZER_NAMES.items()},
}


def setting_label(**fields: Any) -> str:
    """Write fields of a configuration as a legend or a title shows them.

    Parameters
    ----------
    **fields
        Fields of `ExperimentConfig`, in the order of the label.

    Returns
    -------
    str

    Examples
    --------
    >>> setting_label(optimizer="adam", lr=1.0), setting_label(lr_decay=None), setting_label(labels="real")
    ('Adam, $η$ = 1', 'constant rate', 'real labels')
    """
    return ", ".join(_label(name, value) for name, value in fields.items())


def by_setting(runs: Sequence[Trajectory], *, ignore: Collection[str] = ()) -> dict[str, list[Trajectory]]:
    """Group runs by the fields that differ among them, except the seed and the ignored fields.

    The keys are labels of the settings, in order of appearance; where nothing differs, the label has the
    optimizer and the rate.
    """
    names = [name for name in varying(runs) if name not in ignore] or ["optimizer", "lr"]
    groups: dict[str, list[Trajectory]] = {}
    for run in runs:
        label = setting_label(**{name: getattr(run.config, name) for name in names})
        groups.setdefault(label, []).append(run)
    return groups


def looks_of(settings: Mapping[str, Sequence[Trajectory]]) -> dict[str, dict[str, Any]]:
    """Choose a look for each setting; where optimizers or rates differ, each has its optimizer's colour.

    The smaller the rate, the paler.

    Controls of the labels then have the colour of their labels.
    """
    looks = dict(zip(settings, looks_in_turn(), strict=False))
    optimizers = {label: group[0].config.optimizer for label, group in settings.items()}
    rates = {group[0].config.lr for group in settings.values()}
    if len(set(optimizers.values())) > 1 or len(rates) > 1:
        for name in dict.fromkeys(optimizers.values()):
            labels = [label for label in settings if optimizers[label] == name]
            labels = [label for label in labels if settings[label][0].config.labels == "real"]
            for label, shade in zip(labels, shades(OPTIMIZER_COLORS[name], len(labels)), strict=True):
                looks[label]["color"] = shade
        for label, group in settings.items():
            if group[0].config.labels != "real":
                looks[label]["color"] = LABEL_LOOKS[group[0].config.labels]["color"]
    return looks


def varying(runs: Sequence[Trajectory]) -> list[str]:
    """List the fields, except the seed, in which runs differ; optimizer and rate come first."""
    names = [field.name for field in dataclasses.fields(ExperimentConfig) if field.name != "seed"]
    names = sorted(names, key=lambda name: name not in {"optimizer", "lr"})
    return [name for name in names if len({getattr(run.config, name) for run in runs}) > 1]


def _label(name: str, value: Any) -> str:
    if (name, value) in _WORDS:
        return _WORDS[name, value]
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return _FORMS.get(name, f"{name} = {{}}").format(shown)
