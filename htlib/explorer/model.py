"""The layers of a reader's model: the table and the pictures of the page "Your checkpoint", from the kernel.

The front end (``static/layers``) is that of the page.  The rows come with the widget; the eigenvalues of a
layer come when it is chosen: the kernel receives ``{"type": "spectrum", "index"}`` and answers the same with
a buffer of float64, or with none if not all of them were computed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from htlib.explorer.front_end import STATIC, one_module
from htlib.models.checkpoints import Model, entries_of
from htlib.models.comparison import compare_models
from htlib.models.table import analyze, closing_sentence

# What the null of a table is, in the words of the page.
_NULLS = {
    "gaussian": "noise of the same shape",
    "uniform": "uniform noise of the same shape",
    "truncated": "truncated normal noise of the same shape",
    "shuffle": "the same entries, shuffled",
    "profile": "noise with the same norms of rows and columns",
}
_CHOOSING = ("base", "kinds", "max_size", "conv", "layout")  # options by which compare_models cannot choose
_MODULES = ("elements", "marchenko_pastur", "charts", "grid", "parts", "view", "changes", "widget")
_KEPT = ["eigenvalues", "live_shape"]
_STILL = ["name", "shape", "alpha_hill", "alpha_hill_null", "alpha_hill_z", "verdict", "alpha_ks", "n_spikes"]


class Layers(anywidget.AnyWidget):
    """The widget that `layers` makes.

    Attributes
    ----------
    table : DataFrame
        The table of `htlib.analyze`, with the eigenvalues, as the pictures of `htlib.figures` take it.
    changes : DataFrame or None
        The table of `htlib.compare_models`, with ``against``.
    """

    _esm = one_module(*(f"layers/{name}" for name in _MODULES))
    _css = STATIC / "layers" / "layers.css"
    content = traitlets.Dict().tag(sync=True)

    def __init__(
        self, table: pd.DataFrame, changes: pd.DataFrame | None, names: tuple[str, str], null: str | None
    ) -> None:
        rows = table.to_dict("records")
        self._eigenvalues = [row.get("eigenvalues") for row in rows]
        self.table = table
        self.changes = changes
        self._title, after = names
        shown = table.drop(columns=_KEPT, errors="ignore")
        content: dict[str, Any] = {
            "title": self._title,
            "file": _stem(self._title),
            "noise": None if null is None else _NULLS[null],
            "columns": list(shown),
            "table": _packed(shown.assign(law_shape=[_law_shape(row) for row in rows])),
            "skipped": _reasons(table),
            "changes": None,
        }
        if changes is not None:
            content["changes"] = {
                "title": "What changed" + ("" if after == self._title else f": {self._title} to {after}"),
                "file": _stem(after),
                "table": _packed(changes),
                "skipped": _reasons(changes),
            }
        super().__init__(content=content)
        self.on_msg(self._receive)

    def _receive(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        if content["type"] == "spectrum":
            values = self._eigenvalues[content["index"]]
            self.send(content, [values.tobytes()] if isinstance(values, np.ndarray) else [])

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the live widget and, for pages without a kernel, the most important columns."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        sentence = f"The layers of {self._title}. {closing_sentence(self.table)}"
        still = self.table[[name for name in _STILL if name in self.table]]
        return {**data, "text/html": still.to_html(float_format="%.4g"), "text/plain": sentence}, metadata


def layers(model_or_path: Model, *, against: Model | None = None, **options: Any) -> Layers:
    """Show the layers of a model in Jupyter, as the page "Your checkpoint" shows those of a file.

    The table of `htlib.analyze` can be sorted; a layer that one chooses in it, or in the picture of all
    exponents, shows its spectrum with the law of noise and the fitted bulk, and its tail.

    Parameters
    ----------
    model_or_path : Module, mapping, str or path
        As for `htlib.analyze`.
    against : Module, mapping, str or path, optional
        A later checkpoint: what changed from the model to this one is shown below, as `htlib.compare_models`
        measures it.
    **options
        Options of `htlib.analyze`.  With `against`, `base`, `kinds`, `max_size`, `conv` and `layout` are not
        allowed, because `htlib.compare_models` has none of these.

    Returns
    -------
    Layers
        A widget, whose ``.table`` is the DataFrame of ``analyze(..., keep_eigenvalues=True)``, and whose
        ``.changes`` is that of `htlib.compare_models`, or None.  It shows the model as it was in this call:
        what is trained afterwards is not in it.

    Raises
    ------
    FileNotFoundError, CheckpointError, TypeError, ValueError
        As for `htlib.analyze`; ValueError also for an option that does not go with `against`.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.ReLU(), torch.nn.Linear(60, 50))
    >>> shown = layers(model, progress=False)  # the last line of a cell: layers(model)
    >>> shown.table["name"].tolist()
    ['0.weight', '2.weight']
    >>> shown.close()
    """
    changes, after = None, ""
    if against is not None:
        if refused := [name for name in _CHOOSING if name in options]:
            raise ValueError(
                f"{refused[0]} does not go with against, because compare_models has no such option; "
                f"leave {refused[0]} out, or call layers for each of the two models"
            )
        entries_of(against)  # if it cannot be read, its error should not come only after the first table
        after = _title(against)
    options["keep_eigenvalues"] = True
    table = analyze(model_or_path, **options)
    if against is not None:
        known = signature(compare_models).parameters
        shared = {name: value for name, value in options.items() if name in known}
        changes = compare_models(model_or_path, against, **shared)
    return Layers(table, changes, (_title(model_or_path), after), options.get("null", "gaussian"))


def _title(model: Model) -> str:
    if isinstance(model, str | os.PathLike):
        return Path(model).name
    return "a state dict" if isinstance(model, Mapping) else type(model).__name__


def _stem(title: str) -> str:
    """Return the begin of the names of files that are saved."""
    return re.sub(r"\W+", "-", Path(title).stem)


def _reasons(table: pd.DataFrame) -> list[dict[str, str]]:
    return [{"name": name, "reason": reason} for name, reason in table.attrs["skipped"].items()]


def _law_shape(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the shape of the matrix whose noise the bulk is: without the spikes, a smaller one."""
    if not row["has_bulk"]:
        return None
    lost = int(row["n_spikes"]) // row["n_matrices"]
    h, d = row["live_shape"]
    return h - lost, d - lost


def _packed(table: pd.DataFrame) -> dict[str, Any]:
    values = [[_plain(value) for value in row] for row in table.itertuples(index=False, name=None)]
    return {"columns": list(table), "values": values}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: null for NaN, and an object for an infinite number."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else {"infinity": math.copysign(1, value)}
    return value
