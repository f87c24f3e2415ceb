"""Heavy tails without noise: weight spectra of two-layer networks, and tools for any network.

Companion of arXiv 2406.04657.  ``import htlib as ht`` is the one door to

- the spectrum of any matrix: `esd`, exponents, spikes, nulls, overlaps of singular vectors;
- the layers of any model: `analyze`, `compare_models`;
- the two-layer student of the paper: `ExperimentConfig`, `make_problem`, `train`;
- one step in closed form: `one_step_law`, `predict_one_step`; where training is stable: `stability`,
  `predict_sharpness`;
- real networks with rates, decay, sparsity or experts allocated to their layers, and the controls:
  `train_network`, `against_controls`;
- many runs, kept in a store: `sweep`, `load_experiment`, `Store`.

`ht.figures` draws all of these and `ht.explorer` moves them; `ht.explorer.layers` shows a model.  Each name
is imported when it is first used, so that nobody waits for torch who does not need it.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Threads that wait for the others sleep.  By default they spin, which is a fifth faster on an idle machine
# and ten times slower beside several other programs.  OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from htlib import explorer as explorer
    from htlib import figures as figures
    from htlib.ledger.controls import against_controls
    from htlib.models.allocation import allocate
    from htlib.models.comparison import compare_models
    from htlib.models.controls import with_controls
    from htlib.models.entries import CheckpointError
    from htlib.models.recorder import SpectrumRecorder
    from htlib.models.smoothing import smooth
    from htlib.models.table import analyze, describe, summarize
    from htlib.networks.config import NetworkConfig
    from htlib.networks.run import NetworkRun
    from htlib.networks.training import train_network
    from htlib.practice.balance import TempBalance
    from htlib.practice.pruning import prune_
    from htlib.practice.weights import bit_widths, lora_experts, parameter_groups
    from htlib.spectra.alternatives import compare_distributions
    from htlib.spectra.eigenvalues import effective_rank, esd, spectral_entropy, stable_rank
    from htlib.spectra.estimators import fit_released_peak, measure_noise, tail_exponent
    from htlib.spectra.generalized import GeneralizedMarchenkoPastur
    from htlib.spectra.measures import SpectrumMeasures, spectrum_measures
    from htlib.spectra.noise import MarchenkoPastur
    from htlib.spectra.nulls import NullDistribution, null_distribution
    from htlib.spectra.power_law import HillPlot, PowerLawFit, fit_power_law, hill_alpha, hill_plot
    from htlib.spectra.resampling import Bootstrap, GoodnessOfFit, bootstrap_power_law, goodness_of_fit
    from htlib.spectra.spikes import BulkFit, fit_marchenko_pastur
    from htlib.spectra.tail_index import bootstrap_threshold, moment_tail_index
    from htlib.spectra.traps import CorrelationTraps, correlation_traps, det_x
    from htlib.spectra.vectors import Overlaps, principal_angles, singular_vector_overlaps
    from htlib.spectra.windows import spectrum_windows
    from htlib.student.config import ExperimentConfig
    from htlib.student.problem import Dataset, Problem, make_problem
    from htlib.student.readout import kernel_target_alignment, teacher_alignment
    from htlib.student.run import RecordError, Trajectory
    from htlib.student.training import train, train_rates
    from htlib.sweeps.compute import SweepError, sweep, sweep_runs
    from htlib.sweeps.presets import Experiment, load_experiment
    from htlib.sweeps.store import Store, StoreError
    from htlib.theory.one_step import OneStepLaw, OneStepPrediction, one_step_law, predict_one_step
    from htlib.theory.stability import Stability, predict_sharpness, stability

__all__ = [
    "Bootstrap",
    "BulkFit",
    "CheckpointError",
    "CorrelationTraps",
    "Dataset",
    "Experiment",
    "ExperimentConfig",
    "GeneralizedMarchenkoPastur",
    "GoodnessOfFit",
    "HillPlot",
    "MarchenkoPastur",
    "NetworkConfig",
    "NetworkRun",
    "NullDistribution",
    "OneStepLaw",
    "OneStepPrediction",
    "Overlaps",
    "PowerLawFit",
    "Problem",
    "RecordError",
    "SpectrumMeasures",
    "SpectrumRecorder",
    "Stability",
    "Store",
    "StoreError",
    "SweepError",
    "TempBalance",
    "Trajectory",
    "against_controls",
    "allocate",
    "analyze",
    "bit_widths",
    "bootstrap_power_law",
    "bootstrap_threshold",
    "compare_distributions",
    "compare_models",
    "correlation_traps",
    "describe",
    "det_x",
    "effective_rank",
    "esd",
    "fit_marchenko_pastur",
    "fit_power_law",
    "fit_released_peak",
    "goodness_of_fit",
    "hill_alpha",
    "hill_plot",
    "kernel_target_alignment",
    "load_experiment",
    "lora_experts",
    "make_problem",
    "measure_noise",
    "moment_tail_index",
    "null_distribution",
    "one_step_law",
    "parameter_groups",
    "predict_one_step",
    "predict_sharpness",
    "principal_angles",
    "prune_",
    "singular_vector_overlaps",
    "smooth",
    "spectral_entropy",
    "spectrum_measures",
    "spectrum_windows",
    "stability",
    "stable_rank",
    "summarize",
    "sweep",
    "sweep_runs",
    "tail_exponent",
    "teacher_alignment",
    "train",
    "train_network",
    "train_rates",
    "with_controls",
]

# The home of each name.  Type checkers and editors read the imports above instead.
_NAMES = {
    "htlib.ledger.controls": "against_controls",
    "htlib.models.allocation": "allocate",
    "htlib.models.comparison": "compare_models",
    "htlib.models.controls": "with_controls",
    "htlib.models.entries": "CheckpointError",
    "htlib.models.recorder": "SpectrumRecorder",
    "htlib.models.smoothing": "smooth",
    "htlib.models.table": "analyze describe summarize",
    "htlib.networks.config": "NetworkConfig",
    "htlib.networks.run": "NetworkRun",
    "htlib.networks.training": "train_network",
    "htlib.practice.balance": "TempBalance",
    "htlib.practice.pruning": "prune_",
    "htlib.practice.weights": "bit_widths lora_experts parameter_groups",
    "htlib.spectra.alternatives": "compare_distributions",
    "htlib.spectra.eigenvalues": "effective_rank esd spectral_entropy stable_rank",
    "htlib.spectra.estimators": "fit_released_peak measure_noise tail_exponent",
    "htlib.spectra.generalized": "GeneralizedMarchenkoPastur",
    "htlib.spectra.measures": "SpectrumMeasures spectrum_measures",
    "htlib.spectra.noise": "MarchenkoPastur",
    "htlib.spectra.nulls": "NullDistribution null_distribution",
    "htlib.spectra.power_law": "HillPlot PowerLawFit fit_power_law hill_alpha hill_plot",
    "htlib.spectra.resampling": "Bootstrap GoodnessOfFit bootstrap_power_law goodness_of_fit",
    "htlib.spectra.spikes": "BulkFit fit_marchenko_pastur",
    "htlib.spectra.tail_index": "bootstrap_threshold moment_tail_index",
    "htlib.spectra.traps": "CorrelationTraps correlation_traps det_x",
    "htlib.spectra.vectors": "Overlaps principal_angles singular_vector_overlaps",
    "htlib.spectra.windows": "spectrum_windows",
    "htlib.student.config": "ExperimentConfig",
    "htlib.student.problem": "Dataset Problem make_problem",
    "htlib.student.readout": "kernel_target_alignment teacher_alignment",
    "htlib.student.run": "RecordError Trajectory",
    "htlib.student.training": "train train_rates",
    "htlib.sweeps.compute": "SweepError sweep sweep_runs",
    "htlib.sweeps.presets": "Experiment load_experiment",
    "htlib.sweeps.store": "Store StoreError",
    "htlib.theory.one_step": "OneStepLaw OneStepPrediction one_step_law predict_one_step",
    "htlib.theory.stability": "Stability predict_sharpness stability",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
_PACKAGES = ("explorer", "figures")


def __getattr__(name: str) -> Any:
    """Import a public name, which is an attribute from then on."""
    if name in _PACKAGES:
        return importlib.import_module(f"htlib.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'htlib' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
