"""Presets: each describes a sweep, its sizes for each profile and its figure in a TOML file.

title = "..."                    what the preset shows
figure = "rate_map"              a member of `htlib.figures.FIGURES`: runs -> Figure
kind = "student"                 optional: "network" for real networks (`htlib.sweeps.kinds`)
keep_overlaps = false            optional, as for `htlib.train`
[[grid]]                         one or more grids, see `htlib.sweep`
[fast] and [paper]               seeds, and `grid`: a table of values that replace those of every grid,
                                 or an array of tables that replaces the grids

A preset is read and checked without torch; what computes is imported when it is run.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htlib.student.config import for_profile
from htlib.sweeps.grid import expand
from htlib.sweeps.kinds import KINDS, Task, by_training

if TYPE_CHECKING:
    from htlib.sweeps.store import Store

_FOLDER = "experiments"
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "title": ((str,), "a text"),
    "figure": ((str,), "a text"),
    "kind": ((str,), "a text"),
    "keep_overlaps": ((bool,), "true or false"),
    "grid": ((dict, list), "a table or an array of tables"),
    "fast": ((dict,), "a table"),
    "paper": ((dict,), "a table"),
}


@dataclass(frozen=True)
class Experiment:
    """A preset at one profile.

    Attributes
    ----------
    name, title : str
    figure : str
        Name of the function that draws its runs.
    grid : list of dict
    seeds : int or list of int
    keep_overlaps : bool
    kind : str
        A member of `htlib.sweeps.kinds.KINDS`.
    """

    name: str
    title: str
    figure: str
    grid: list[dict[str, Any]]
    seeds: int | list[int]
    keep_overlaps: bool = False
    kind: str = "student"

    def configs(self, seeds: int | Iterable[int] | None = None) -> list[Any]:
        """Return the configurations that it runs, in order; `seeds` are by default those of the preset."""
        if seeds is None:
            return list(self._configs)
        return expand(self.grid, seeds, KINDS[self.kind].config)

    @cached_property
    def _configs(self) -> list[Any]:
        return expand(self.grid, self.seeds, KINDS[self.kind].config)

    def tasks(self, device: str = "cpu", seeds: int | Iterable[int] | None = None) -> list[Task]:
        """Return the work that it asks for, one task per configuration."""
        return [
            Task(config, (config.reading,), device, keep_overlaps=self.keep_overlaps)
            for config in self.configs(seeds)
        ]

    def trainings(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        scheduler: str | None = None,
        **options: Any,
    ) -> list[Any]:
        """Return each of its trainings once, with all of the readings that its grids name.

        `store` and `scheduler` are those of `runs`, `options` its ``workers``, ``threads`` and ``progress``.
        """
        from htlib.sweeps.compute import run_tasks

        return run_tasks(list(by_training(self.tasks()).values()), store, scheduler, **options)

    def runs(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        scheduler: str | None = None,
        *,
        seeds: int | Iterable[int] | None = None,
        device: str = "cpu",
        **options: Any,
    ) -> list[Any]:
        """Return its runs, which are read from the store or computed.

        Parameters
        ----------
        store, scheduler
            As for `htlib.sweep`.
        seeds : int or iterable of int, optional
            By default those of the preset.
        device : str
            Any torch device, for the student.
        **options
            ``workers``, ``threads``, ``progress`` of `htlib.sweep`.

        Returns
        -------
        list of Trajectory, or of NetworkRun
        """
        from htlib.sweeps.compute import run_tasks

        return run_tasks(self.tasks(device, seeds), store, scheduler, **options)


def load_experiment(name: str | os.PathLike[str], profile: str = "fast") -> Experiment:
    """Read a preset.

    Parameters
    ----------
    name : str or path
        A file, with or without ``.toml``, or the name of one in the folder ``experiments`` here or above.
    profile : {"fast", "paper"}

    Returns
    -------
    Experiment

    Raises
    ------
    FileNotFoundError
        If there is no such preset; the message lists the presets that exist.
    ValueError
        If the file is not a preset; the message names what is wrong and where.
    """
    path = _find(name)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    if unknown := sorted(content.keys() - _KINDS.keys()):
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; a preset has {', '.join(sorted(_KINDS))}")
    if missing := sorted(_KINDS.keys() - content.keys() - {"kind", "keep_overlaps"}):
        raise ValueError(f"{path}: {missing[0]!r} is missing")
    for name, value in content.items():
        _check_kind(path, name, value)
    if (kind := content.get("kind", "student")) not in KINDS:
        raise ValueError(f"{path}: 'kind' must be one of {', '.join(KINDS)}; got {kind!r}")
    sizes: Mapping[str, Any] = for_profile(profile, fast=content["fast"], paper=content["paper"])
    if unknown := sorted(sizes.keys() - {"seeds", "grid"}):
        raise ValueError(f"{path}: unknown key {unknown[0]!r} in [{profile}]; it has seeds and grid")
    grids = content["grid"] if isinstance(content["grid"], list) else [content["grid"]]
    change = sizes.get("grid", {})
    _check_kind(path, "grid", change)
    experiment = Experiment(
        name=path.stem,
        title=content["title"],
        figure=content["figure"],
        grid=change if isinstance(change, list) else [{**grid, **change} for grid in grids],
        seeds=sizes.get("seeds", 5),
        keep_overlaps=content.get("keep_overlaps", False),
        kind=kind,
    )
    try:
        experiment.configs()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return experiment


def presets() -> list[str]:
    """Return the names of all presets in the folder ``experiments`` here or above."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def _check_kind(path: Path, name: str, value: Any) -> None:
    kinds, words = _KINDS[name]
    entries: list[Any] = value if isinstance(value, list) else []
    if not isinstance(value, kinds) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: {name!r} must be {words}; got {value!r}")


def _find(name: str | os.PathLike[str]) -> Path:
    given = Path(name)
    for candidate in (given, given.parent / f"{given.name}.toml"):
        if candidate.is_file():
            return candidate
    folder = _folder(f"no preset {str(given)!r}, and ")
    candidate = folder / f"{given.name.removesuffix('.toml')}.toml"
    if str(given.parent) not in (".", _FOLDER) or not candidate.is_file():
        raise FileNotFoundError(f"no preset {str(given)!r}; {folder} has {', '.join(presets())}")
    return candidate


def _folder(reason: str = "") -> Path:
    folders = [folder / _FOLDER for folder in (Path.cwd(), *Path.cwd().parents)]
    folder = next((f for f in folders if f.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f"{reason}no folder {_FOLDER!r} here or above")
    return folder
