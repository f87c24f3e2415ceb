"""Find the model in a folder, as tools write them, and say of every other file why it is not read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from htlib.models.entries import CheckpointError, Entry, refusal
from htlib.models.files import entries_of_file, format_of

_PREFERRED = ("index", "safetensors", "torch index", "torch", "npz", "keras", "hdf5", "onnx", "npy")
_OF_TRAINING = re.compile(
    r"optim|sched|scaler|training_args|trainer_state|rng_state|random_states|(^|_)events\.|dataloader|sampler",
    re.I,
)
_STAGE = re.compile(r"^(global_?)?(checkpoint|ckpt|epoch|step|iter(ation)?)[-_=]?(\d+)$", re.I)
_SHARD = re.compile(r"-\d+-of-\d+\.")
_DEEPEST = 4


@dataclass
class _Found:
    """The files of a model below a folder, and the reasons why the others are none."""

    models: list[Path] = field(default_factory=list[Path])
    skipped: dict[Path, str] = field(default_factory=dict[Path, str])


def entries_of_folder(folder: Path) -> list[Entry]:
    """List the tensors of the model in a folder, and an entry with the reason for every other file.

    The model is that of the folder itself; else that of its last checkpoint, or of all its subfolders (as of
    a pipeline).  Of one model in several formats or variants, one is read.  Names that two files share begin
    with that of their file.  Raises FileNotFoundError if there is no model.
    """
    root = _snapshot(folder)
    found = _search(root, 0)
    if not found.models:
        bad = [reason for reason in found.skipped.values() if str(root) in reason]
        if len(bad) > 1:
            bad = [f"{folder} holds no model, and {len(bad)} files that cannot be read, such as: {bad[0]}"]
        raise (CheckpointError if bad else FileNotFoundError)(
            bad[0] if bad else f"{folder} holds no model: no .safetensors, torch, .npz, .h5 or .onnx file"
        )
    entries: list[Entry] = []
    for path in found.models:
        inner = str(path.relative_to(root).parent)
        try:
            read = entries_of_file(path)
        except CheckpointError as error:  # the other files are still read
            read = [Entry(path.name, refusal(str(error)), file=path.name)]
        if inner != ".":
            read = [replace(e, name=f"{inner}/{e.name}", file=f"{inner}/{e.file}") for e in read]
        entries += read + _scales_of_adapter(path.parent, read)
    names = [entry.name for entry in entries]
    doubled = {name for name in names if names.count(name) > 1} if len(found.models) > 1 else set[str]()
    entries = [replace(e, name=f"{e.file}/{e.name}") if e.name in doubled else e for e in entries]
    shards = {root / Path(entry.file) for entry in entries}
    others = {path: reason for path, reason in found.skipped.items() if path not in shards}
    return entries + [
        Entry(str(path.relative_to(root)), refusal(reason), reason=reason) for path, reason in others.items()
    ]


def _snapshot(folder: Path) -> Path:
    """Return the folder of the files in a hub's cache: the revision "main", else the last one."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return folder
    main = folder / "refs" / "main"
    if main.is_file() and (chosen := snapshots / main.read_text().strip()).is_dir():
        return chosen
    revisions = sorted((p for p in snapshots.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    return revisions[-1] if revisions else folder


def _search(folder: Path, depth: int) -> _Found:
    found = _Found()
    formats: dict[Path, str] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".") and not p.is_dir()):
        try:
            what = format_of(path) if path.is_file() else None
        except CheckpointError as error:
            if path.suffix in (".json", ".txt", ".md", ".yml", ".yaml"):
                what = None
            else:
                found.skipped[path] = str(error)
                continue
        if not path.is_file():
            found.skipped[path] = "a link to a file that is missing"
        elif _OF_TRAINING.search(path.name):
            found.skipped[path] = "of the training, not of the model"
        elif what is None:
            found.skipped[path] = "not a file of tensors"
        else:
            formats[path] = "torch index" if what == "index" and ".safetensors" not in path.name else what
    _choose(formats, found)
    inner = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith((".", "__"))]
    if depth == _DEEPEST:
        return found
    stages = sorted((p for p in inner if _STAGE.search(p.name)), key=lambda p: int(_number(p.name)))
    chosen_format = formats.get(found.models[0]) if found.models else None
    last_read = bool(found.models)
    for path in [*reversed(stages), *(p for p in inner if p not in stages)]:
        below = _search(path, depth + 1)
        if not below.models:
            found.skipped |= below.skipped
            continue
        if path in stages and last_read:
            found.skipped[path] = "an earlier checkpoint of the same model"
            continue
        if chosen_format is not None and _family(format_of(below.models[0])) != _family(chosen_format):
            found.skipped |= dict.fromkeys(below.models, "in another format than the model") | below.skipped
            continue
        last_read = last_read or path in stages
        found.models += below.models
        found.skipped |= below.skipped
    return found


def _number(name: str) -> str:
    match = _STAGE.search(name)
    return match[4] if match else "0"


def _family(what: str | None) -> str | None:
    return {"index": "safetensors", "torch index": "torch"}.get(what or "", what)


def _choose(formats: dict[Path, str], found: _Found) -> None:
    """Choose among the files of one folder: one format, and of several variants the plain one."""
    if not formats:
        return
    best = min(formats.values(), key=_PREFERRED.index)
    chosen = [path for path, what in formats.items() if what == best]
    if best.endswith("index"):
        chosen.sort(key=lambda p: (len(p.name), p.name))
        index, *others = chosen
        found.models.append(index)
        shards = set(_shards(index))
        found.skipped |= dict.fromkeys(others, f"another variant of {index.name}")
        rest = [path for path in formats if path not in chosen and path.name not in shards]
        found.skipped |= dict.fromkeys(rest, f"not in {index.name}")
        found.skipped |= {p: f"a shard of {index.name}" for p in formats if p.name in shards}
        return
    other = [path for path, what in formats.items() if what != best]
    found.skipped |= dict.fromkeys(other, f"in another format than {chosen[0].name}, which is read")
    plain = {path.name.split(".")[0] for path in chosen if path.name.count(".") == 1}
    for path in chosen:
        parts = path.name.split(".")
        if len(parts) > 2 and parts[0] in plain and not _SHARD.search(path.name) and parts[-1] != "tar":
            found.skipped[path] = f"another variant of {parts[0]}.{parts[-1]}"
        else:
            found.models.append(path)


def _shards(index: Path) -> Iterator[str]:
    try:
        yield from map(str, json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # reading the index says what is wrong with it


def _scales_of_adapter(folder: Path, entries: list[Entry]) -> list[Entry]:
    """Add the scale alpha of each low-rank update, which PEFT keeps in adapter_config.json."""
    path = folder / "adapter_config.json"
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        alpha, by_name = float(config["lora_alpha"]), dict(config.get("alpha_pattern") or {})
        by_rank = bool(config.get("use_rslora"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    scales: list[Entry] = []
    for entry in entries:
        stem, found, _ = entry.name.partition(".lora_A")
        if found and entry.shape:
            own = next((float(a) for key, a in by_name.items() if f".{stem}".endswith(f".{key}")), alpha)
            value = torch.tensor(own * (entry.shape[0] ** 0.5 if by_rank else 1.0))
            scales.append(Entry(f"{stem}.alpha", lambda value=value: value, (), file=path.name))
    return scales
