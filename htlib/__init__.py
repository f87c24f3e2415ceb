"""Heavy tails without noise: weight spectra of two-layer networks, and tools for any network.

Companion of arXiv 2406.04657.  ``import htlib as ht``.
"""

from htlib.alignment import kernel_target_alignment, teacher_alignment
from htlib.config import ExperimentConfig
from htlib.experiments import Experiment, load_experiment
from htlib.heavy_tail import HillPlot, PowerLawFit, fit_power_law, hill_alpha, hill_plot
from htlib.overlaps import Overlaps, principal_angles, singular_vector_overlaps
from htlib.problem import Dataset, Problem, make_problem
from htlib.random_matrix import MarchenkoPastur
from htlib.records import RecordError, Trajectory
from htlib.spectrum import effective_rank, esd, spectral_entropy, stable_rank
from htlib.store import Store, StoreError
from htlib.sweep import SweepError, sweep, sweep_runs
from htlib.training import train, train_rates

__all__ = [
    "Dataset",
    "Experiment",
    "ExperimentConfig",
    "HillPlot",
    "MarchenkoPastur",
    "Overlaps",
    "PowerLawFit",
    "Problem",
    "RecordError",
    "Store",
    "StoreError",
    "SweepError",
    "Trajectory",
    "effective_rank",
    "esd",
    "fit_power_law",
    "hill_alpha",
    "hill_plot",
    "kernel_target_alignment",
    "load_experiment",
    "make_problem",
    "principal_angles",
    "singular_vector_overlaps",
    "spectral_entropy",
    "stable_rank",
    "sweep",
    "sweep_runs",
    "teacher_alignment",
    "train",
    "train_rates",
]
