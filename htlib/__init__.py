"""Heavy tails without noise: weight spectra of two-layer networks, and tools for any network.

Companion of arXiv 2406.04657.  ``import htlib as ht``.
"""

from htlib.alignment import kernel_target_alignment, teacher_alignment
from htlib.checkpoints import CheckpointError
from htlib.comparisons import compare_distributions
from htlib.config import ExperimentConfig
from htlib.experiments import Experiment, load_experiment
from htlib.heavy_tail import HillPlot, PowerLawFit, fit_power_law, hill_alpha, hill_plot
from htlib.measures import SpectrumMeasures, spectrum_measures
from htlib.models import analyze, compare_models
from htlib.nulls import NullDistribution, null_distribution
from htlib.overlaps import Overlaps, principal_angles, singular_vector_overlaps
from htlib.problem import Dataset, Problem, make_problem
from htlib.random_matrix import MarchenkoPastur
from htlib.records import RecordError, Trajectory
from htlib.resampling import Bootstrap, GoodnessOfFit, bootstrap_power_law, goodness_of_fit
from htlib.spectrum import effective_rank, esd, spectral_entropy, stable_rank
from htlib.spiked import BulkFit, fit_marchenko_pastur
from htlib.store import Store, StoreError
from htlib.sweep import SweepError, sweep, sweep_runs
from htlib.theory import OneStepLaw, OneStepPrediction, one_step_law, predict_one_step
from htlib.training import train, train_rates

__all__ = [
    "Bootstrap",
    "BulkFit",
    "CheckpointError",
    "Dataset",
    "Experiment",
    "ExperimentConfig",
    "GoodnessOfFit",
    "HillPlot",
    "MarchenkoPastur",
    "NullDistribution",
    "OneStepLaw",
    "OneStepPrediction",
    "Overlaps",
    "PowerLawFit",
    "Problem",
    "RecordError",
    "SpectrumMeasures",
    "Store",
    "StoreError",
    "SweepError",
    "Trajectory",
    "analyze",
    "bootstrap_power_law",
    "compare_distributions",
    "compare_models",
    "effective_rank",
    "esd",
    "fit_marchenko_pastur",
    "fit_power_law",
    "goodness_of_fit",
    "hill_alpha",
    "hill_plot",
    "kernel_target_alignment",
    "load_experiment",
    "make_problem",
    "null_distribution",
    "one_step_law",
    "predict_one_step",
    "principal_angles",
    "singular_vector_overlaps",
    "spectral_entropy",
    "spectrum_measures",
    "stable_rank",
    "sweep",
    "sweep_runs",
    "teacher_alignment",
    "train",
    "train_rates",
]
