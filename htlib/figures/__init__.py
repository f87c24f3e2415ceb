"""Draw spectra, runs and sweeps.  Nothing here computes an experiment, saves a file or shows a window.

Small pieces take results and an optional Axes and return the Axes: `spectrum`, `power_law`, `hill`,
`seeds`, `against_rate`, `trajectory`, `strips`, `prediction`, `layer_spectrum`.  Whole figures take results
and return a Figure: `overview`, `model_overview`, `measured_and_predicted`, and the members of `FIGURES`,
which `draw` finds by name.  `setting_label` and `legend_key` help with legends; `rc_params` returns the
Matplotlib settings of the book.
"""

from importlib.util import find_spec

if find_spec("seaborn") is None:
    raise ImportError("htlib.figures needs Matplotlib and seaborn: pip install 'htlib[figures]'")

from htlib.figures.curves import against_rate, seeds, strips, trajectory
from htlib.figures.labels import setting_label
from htlib.figures.models import layer_spectrum, model_overview
from htlib.figures.one_step import measured_and_predicted, prediction
from htlib.figures.optimizers import optimizer_spectra
from htlib.figures.practice import (
    practice_controls,
    practice_layers,
    practice_pruning,
    practice_rates,
    practice_story,
)
from htlib.figures.runs import FIGURES, along_steps, draw, overview, rate_map, tail_controls
from htlib.figures.spectra import hill, power_law, spectrum
from htlib.figures.stability import along_edge, collapse
from htlib.figures.style import (
    BLACK,
    BLUE,
    GOLD,
    GREEN,
    GREY,
    LABELS,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    OPTIMIZER_NAMES,
    ORANGE,
    PINK,
    SKY,
    legend_key,
    looks_in_turn,
    rc_params,
)
from htlib.figures.vectors import overlap_maps, subspace_overlaps

__all__ = [
    "BLACK",
    "BLUE",
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
    "SKY",
    "against_rate",
    "along_edge",
    "along_steps",
    "collapse",
    "draw",
    "hill",
    "layer_spectrum",
    "legend_key",
    "looks_in_turn",
    "measured_and_predicted",
    "model_overview",
    "optimizer_spectra",
    "overlap_maps",
    "overview",
    "power_law",
    "practice_controls",
    "practice_layers",
    "practice_pruning",
    "practice_rates",
    "practice_story",
    "prediction",
    "rate_map",
    "rc_params",
    "seeds",
    "setting_label",
    "spectrum",
    "strips",
    "subspace_overlaps",
    "tail_controls",
    "trajectory",
]
