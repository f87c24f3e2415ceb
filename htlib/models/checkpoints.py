"""List the tensors of a model, whatever it is: a module, a mapping, a file or a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from htlib.models.entries import Entry, entries_in
from htlib.models.files import entries_of_file
from htlib.models.folders import entries_of_folder
from htlib.models.weights import weights_in_use

Model = nn.Module | Mapping[str, Any] | str | os.PathLike[str]

_OF_A_WEIGHT = ("_mask", "_u", "_v")  # buffers of pruning and of spectral normalisation
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_KINDS = {
    (nn.Embedding, nn.EmbeddingBag): "embedding",
    _CONVOLUTIONS + _TRANSPOSED: "conv",
    (nn.Bilinear,): "stack",
}
_OF_ADAPTER = re.compile(r"^(.*/)?base_model\.model\.")


def entries_of(model: Model, base: Model | None = None) -> list[Entry]:
    """List the tensors of a model, in its order, without reading them.

    The model is given as for `htlib.analyze`; mappings may be nested and may hold arrays.  `base` is the
    model that the low-rank updates of `model` belong to.  Raises FileNotFoundError for a missing file,
    TypeError for another kind of model, and CheckpointError if no model can be read from a file.
    """
    entries = _stored(model)
    if base is not None:
        entries = [replace(e, name=_OF_ADAPTER.sub("", e.name)) for e in entries]
        known = {e.name for e in entries}
        entries = [e for e in _stored(base) if e.name not in known] + entries
    return weights_in_use(entries)


def _stored(model: Model) -> list[Entry]:
    if isinstance(model, nn.Module):
        return list(_of_module(model))
    if isinstance(model, Mapping):
        return entries_in(model)
    if not isinstance(model, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"model must be a torch module, a state dict or a path; got {type(model).__name__}")
    path = Path(model).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    return entries_of_folder(path) if path.is_dir() else entries_of_file(path)


def _of_module(module: nn.Module) -> Iterator[Entry]:
    """List the state of a module, with what its types say: buffers, embeddings, convolutions."""
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    owners = dict(module.named_modules(remove_duplicate=False))
    for entry in entries_in(module.state_dict()):
        prefix, _, own = entry.name.rpartition(".")
        if (head := entry.name.partition("parametrizations.")[0]) != entry.name:
            prefix = head.rstrip(".")
        owner = owners.get(prefix)
        if owner is None:
            yield entry
        elif f"{prefix}.{own}".lstrip(".") in buffers and not own.endswith(_OF_A_WEIGHT):
            yield replace(entry, reason="a buffer")
        else:
            yield replace(entry, kind=_kind(owner))
    for prefix, owner in owners.items():
        begin = f"{prefix}." if prefix else ""
        if parametrize.is_parametrized(owner):
            yield from _parametrised(owner, begin)
        scaling = getattr(owner, "scaling", None)  # of an adapter of PEFT
        if isinstance(scaling, Mapping) and hasattr(owner, "lora_A") and len(scaling) == 1:
            ((name, scale),) = scaling.items()
            factors: Any = owner.lora_A
            alpha = torch.tensor(float(scale) * factors[name].weight.shape[0])
            yield Entry(f"{begin}alpha", lambda alpha=alpha: alpha, ())


def _kind(owner: nn.Module) -> str | None:
    """Return what the type of a layer says; names decide about the parameters of other modules."""
    for types, kind in _KINDS.items():
        if isinstance(owner, types):
            return kind
    if type(owner) in (nn.Module, nn.ParameterList, nn.ParameterDict):  # they say nothing
        return None
    return "other" if type(owner).__module__.startswith("torch.nn.") else None


def _parametrised(owner: nn.Module, begin: str) -> Iterator[Entry]:
    """List the weights that parametrisations make, except those that `weights_in_use` puts together."""
    chains: Any = owner.parametrizations
    for name, chain in chains.items():
        kinds = {type(step).__name__ for step in chain}
        if kinds & {"_WeightNorm", "_SpectralNorm"} and len(chain) == 1:
            continue
        with torch.no_grad():
            weight = getattr(owner, name)
        yield Entry(
            f"{begin}{name}",
            lambda weight=weight: weight.detach(),
            tuple(weight.shape),
            weight.dtype,
            kind=_kind(owner),
        )
