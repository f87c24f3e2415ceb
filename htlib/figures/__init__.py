"""Draw spectra, runs and sweeps.  Nothing here computes an experiment, saves a file or shows a window.

Small pieces take results and an optional Axes and return the Axes: `spectrum`, `power_law`, `hill`,
`seeds`, `against_rate`, `trajectory`, `strips`, `prediction`, `layer_spectrum`, `filled_and_outlined`.  Whole
figures take results and return a Figure: the members of `FIGURES`, which take runs and which `draw` finds by
name, and others, as `overview`, `model_overview` or `worth`.  `titled` writes a message above a figure,
`Frames` shows figures one at a time; `setting_label` and `legend_key` help with legends; `rc_params` returns
the Matplotlib settings of the book.
"""

from importlib.util import find_spec

if find_spec("seaborn") is None:
    raise ImportError("htlib.figures needs Matplotlib and seaborn: pip install 'htlib[figures]'")

from htlib.figures.controls import filled_and_outlined, label_control, noise_and_tail, upper_ends
from htlib.figures.curves import against_rate, seeds, strips, trajectory
from htlib.figures.estimators import (
    heavy_calls,
    law_exponents,
    noise_exponents,
    spectrum_calls,
    spike_windows,
    three_nulls,
)
from htlib.figures.frames import Frames
from htlib.figures.labels import setting_label
from htlib.figures.losses import (
    correlations,
    decays,
    gain_controls,
    gains,
    loss_change,
    predicted_gains,
    ridge_losses,
    ridge_paths,
    tail_and_loss,
    worth,
)
from htlib.figures.models import layer_spectrum, model_overview
from htlib.figures.one_step import one_step_map, predicted_hill, prediction, rate_spectra, spike_and_labels
from htlib.figures.optimizers import optimizer_spectra
from htlib.figures.practice import (
    practice_controls,
    practice_layers,
    practice_pruning,
    practice_rates,
    practice_story,
)
from htlib.figures.runs import FIGURES, along_steps, draw, overview, rate_map, tail_controls
from htlib.figures.setting import task
from htlib.figures.spectra import hill, power_law, spectrum
from htlib.figures.stability import along_edge, collapse, phase_maps
from htlib.figures.style import (
    BLACK,
    BLUE,
    BROWN,
    GOLD,
    GREEN,
    GREY,
    LABELS,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    OPTIMIZER_NAMES,
    ORANGE,
    PINK,
    PURPLE,
    SCALE_LOOKS,
    SKY,
    legend_key,
    looks_in_turn,
    rc_params,
    titled,
)
from htlib.figures.vectors import overlap_maps, subspace_overlaps, teacher_shares, update_controls

__all__ = [
    "BLACK",
    "BLUE",
    "BROWN",
    "FIGURES",
    "GOLD",
    "GREEN",
    "GREY",
    "LABELS",
    "OPTIMIZER_COLORS",
    "OPTIMIZER_MARKERS",
    "OPTIMIZER_NAMES",
    "ORANGE",
    "PINK",
    "PURPLE",
    "SCALE_LOOKS",
    "SKY",
    "Frames",
    "against_rate",
    "along_edge",
    "along_steps",
    "collapse",
    "correlations",
    "decays",
    "draw",
    "filled_and_outlined",
    "gain_controls",
    "gains",
    "heavy_calls",
    "hill",
    "label_control",
    "law_exponents",
    "layer_spectrum",
    "legend_key",
    "looks_in_turn",
    "loss_change",
    "model_overview",
    "noise_and_tail",
    "noise_exponents",
    "one_step_map",
    "optimizer_spectra",
    "overlap_maps",
    "overview",
    "phase_maps",
    "power_law",
    "practice_controls",
    "practice_layers",
    "practice_pruning",
    "practice_rates",
    "practice_story",
    "predicted_gains",
    "predicted_hill",
    "prediction",
    "rate_map",
    "rate_spectra",
    "rc_params",
    "ridge_losses",
    "ridge_paths",
    "seeds",
    "setting_label",
    "spectrum",
    "spectrum_calls",
    "spike_and_labels",
    "spike_windows",
    "strips",
    "subspace_overlaps",
    "tail_and_loss",
    "tail_controls",
    "task",
    "teacher_shares",
    "three_nulls",
    "titled",
    "trajectory",
    "update_controls",
    "upper_ends",
    "worth",
]
