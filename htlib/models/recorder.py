"""Record the spectra of a model while it is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from htlib.models.table import analyze


class SpectrumRecorder:
    """Measure the weight matrices of a module every few steps of its training.

    Call `step` after each step of a loop, or hand `lightning_callback` or `trainer_callback` to a trainer.

    Parameters
    ----------
    model : Module
    every : int
        Steps between two measurements; the start is measured too.
    path : str or path, optional
        A ``.csv`` file to which each measurement is added at once, so that nothing is lost if training is.
    measures : sequence of str
        Columns of `htlib.analyze` to keep.
    **options
        ``include``, ``exclude``, ``kinds``, ``embeddings``, ``min_size``, ``conv`` of `htlib.analyze`.

    Raises
    ------
    ValueError
        If `every` is below 1, or `path` does not end in ``.csv``.
    FileExistsError
        If the file exists already.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(20, 30)
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
    >>> recorder = SpectrumRecorder(model, every=5)
    >>> for _ in range(10):
    ...     model(torch.ones(1, 20)).sum().backward()
    ...     optimizer.step()
    ...     recorder.step()
    >>> recorder.table[["step", "name"]].values.tolist()
    [[0, 'weight'], [5, 'weight'], [10, 'weight']]
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 100,
        path: str | os.PathLike[str] | None = None,
        measures: Sequence[str] = ("alpha_hill", "alpha_ks", "stable_rank", "spectral_norm", "n_spikes"),
        **options: Any,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1; got {every}")
        self._path = None if path is None else Path(path)
        if self._path is not None and self._path.suffix != ".csv":
            raise ValueError(f"path must end in .csv; got {self._path}")
        if self._path is not None and self._path.exists():
            raise FileExistsError(f"{self._path} exists: name another file, or remove it")
        self._model, self._every, self._options = model, every, options
        self._columns = ["name", *measures]
        self._tables: list[pd.DataFrame] = []
        self.steps = 0
        self.record()

    @property
    def table(self) -> pd.DataFrame:
        """All measurements: a row per step and layer, with ``step``, ``name`` and the measures."""
        return pd.concat(self._tables, ignore_index=True)

    def step(self) -> None:
        """Count a step of training, and measure if it is time."""
        self.steps += 1
        if self.steps % self._every == 0:
            self.record()

    def record(self) -> None:
        """Measure now."""
        whole = analyze(self._model, null=None, progress=False, **self._options)
        table = whole.loc[:, self._columns]
        table.insert(0, "step", self.steps)
        self._tables.append(table)
        if self._path is not None:
            table.to_csv(self._path, mode="a", header=len(self._tables) == 1, index=False)

    def lightning_callback(self) -> Any:
        """Return a callback for ``lightning.Trainer(callbacks=[...])``, which needs the package lightning."""
        from lightning.pytorch import Callback  # pyright: ignore

        recorder = self

        class Recorder(Callback):  # pyright: ignore
            def on_train_batch_end(self, *_: Any, **__: Any) -> None:
                recorder.step()

        return Recorder()

    def trainer_callback(self) -> Any:
        """Return a callback for ``transformers.Trainer(callbacks=[...])``, which needs transformers."""
        from transformers import TrainerCallback  # pyright: ignore

        recorder = self

        class Recorder(TrainerCallback):  # pyright: ignore
            def on_step_end(self, *_: Any, **__: Any) -> None:
                recorder.step()

        return Recorder()
