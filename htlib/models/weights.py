"""Put together the weights in use from what checkpoints store of them.

A checkpoint may hold the direction and the length of a weight, a mask, a scale of its numbers, or the two
factors of an update.  None of these is a weight by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from htlib.models.entries import CheckpointError, Entry

_UPDATE = re.compile(
    r"^(?P<stem>.*?)[._]lora(_embedding|_linear_layer)?[._](?P<down>A|down|a)(?P<tail>(\.\w+)?(\.weight)?)$"
)
_UP = {"A": "B", "down": "up", "a": "b"}
_PACKED = re.compile(
    r"\.(qweight|qzeros|weight_packed|weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*))$"
    r"|_(blocks|packed)$"
)
_SCALE = re.compile(
    r"(^|[._])(scales?|scale_inv|scale_2|scb|absmax|quant_map|zeros|zero_points?|g_idx|amax|act_scales|smooth_scale|"
    r"weight_scales?|input_scales?|output_scales?|global_scale|scale_weight|scale_input|lora_magnitude_vector)"
    r"(_\d+|\.weight|\.default)?$",
    re.I,
)


def weights_in_use(entries: list[Entry]) -> list[Entry]:
    """Replace the ingredients of weights by the weights; ingredients stay as entries with a reason."""
    by_name = {entry.name: entry for entry in entries}
    made: dict[str, list[Entry]] = {}  # name of an ingredient -> what stands in its place
    for entry in entries:
        for recipe in _RECIPES:
            if (result := recipe(entry, by_name)) is not None:
                weights, used = result
                made[entry.name] = weights + made.get(entry.name, [])
                for name in used:
                    if name in by_name:
                        made.setdefault(name, []).append(_part(by_name[name], weights[0].name))
                break
    result = [new for entry in entries for new in made.get(entry.name, [entry])]
    taken = {e.name for e in result if e.reason is None}
    return [e for e in _once(result) if e.reason is None or e.name not in taken]


def _once(entries: list[Entry]) -> Iterator[Entry]:
    seen = set[tuple[str, str | None]]()
    for entry in entries:
        if (entry.name, entry.reason) not in seen:
            seen.add((entry.name, entry.reason))
            yield entry


def _part(entry: Entry, whole: str) -> Entry:
    return replace(entry, reason=f"a part of {whole}", part_of=whole)


Made = tuple[list[Entry], list[str]]


def _normalised(entry: Entry, by_name: dict[str, Entry]) -> Made | None:
    """g v / |v|, of torch's weight normalisation in both of its forms (Salimans & Kingma 2016)."""
    if match := re.search(r"^(.*)parametrizations\.(\w+)\.original1$", entry.name):
        name, length = match[1] + match[2], f"{match[1]}parametrizations.{match[2]}.original0"
    elif entry.name.endswith("_v") and (entry.shape is None or len(entry.shape) > 1):
        name = entry.name.removesuffix("_v")
        length = f"{name}_g"
    else:
        return None
    if length not in by_name:
        return None

    def load() -> Tensor:
        v, g = entry.load(), by_name[length].load()
        axes = [axis for axis in range(v.ndim) if g.ndim == 0 or g.shape[axis] == 1]
        return (g.double() * v.double() / torch.linalg.vector_norm(v.double(), dim=axes, keepdim=True)).to(
            v.dtype
        )

    return [replace(entry, name=name, load=_said(load, name))], [entry.name, length]


def _spectrally_normalised(entry: Entry, by_name: dict[str, Entry]) -> Made | None:
    """W / (u^T W v), of torch's spectral normalisation in both of its forms."""
    if match := re.search(r"^(.*)parametrizations\.(\w+)\.original$", entry.name):
        name = match[1] + match[2]
        vectors = [f"{match[1]}parametrizations.{match[2]}.0._{x}" for x in "uv"]
    elif entry.name.endswith("_orig"):
        name = entry.name.removesuffix("_orig")
        vectors = [f"{name}_u", f"{name}_v"]
    else:
        return None
    if not all(vector in by_name for vector in vectors):
        return None

    def load() -> Tensor:
        W, u, v = (by_name[n].load() for n in (entry.name, *vectors))
        axis = 0 if len(u) == W.shape[0] and len(v) * len(u) == W.numel() else 1
        matrix = W.movedim(axis, 0).flatten(1).double()
        return (W.double() / (u.double() @ matrix @ v.double())).to(W.dtype)

    return [replace(entry, name=name, load=_said(load, name))], [entry.name, *vectors]


def _masked(entry: Entry, by_name: dict[str, Entry]) -> Made | None:
    """The product with its mask, of torch's pruning."""
    name = entry.name.removesuffix("_orig")
    mask = f"{name}_mask"
    if name == entry.name or mask not in by_name:
        return None
    load = _said(lambda: entry.load() * by_name[mask].load().to(entry.load().dtype), name)
    return [replace(entry, name=name, load=load)], [entry.name, mask]


def _scaled(entry: Entry, by_name: dict[str, Entry]) -> Made | None:
    """Numbers of eight bits, times their scales: one, one per row, or one per block."""
    name, data = entry.name, "._data"
    stem = name.rpartition(".")[0]
    prefix = f"{stem}." if stem else ""
    last = name.rpartition(".")[2]
    candidates = [f"{name}_scale_inv", f"{name}_scale", f"{prefix}scale_{last}", f"{prefix}SCB"]
    if name.endswith(data):
        candidates = [name.removesuffix(data) + "._scale"]
    scale = next((c for c in candidates if c in by_name), None)
    if scale is None or (entry.shape is not None and len(entry.shape) < 2):
        return None
    whole = name.removesuffix(data)

    def load() -> Tensor:
        stored = entry.load()
        if stored.dtype not in _EIGHT_BITS:
            what = str(stored.dtype).removeprefix("torch.")
            raise CheckpointError(f"packed numbers ({what}) with scales: dequantise the model first")
        divisor = 127 if scale.endswith("SCB") else 1
        grown = _grown(by_name[scale].load().float() / divisor, tuple(stored.shape))
        zeros = next((z for z in (f"{name}_zero_point", f"{prefix}zero_point") if z in by_name), None)
        shift = _grown(by_name[zeros].load().float(), tuple(stored.shape)) if zeros else 0.0
        return (stored.float() - shift) * grown

    used = [scale] + [z for z in (f"{name}_zero_point",) if z in by_name]
    new = replace(entry, name=whole, load=_said(load, whole), identity=None)
    return [new], [*used, *([name] if whole != name else [])]


_EIGHT_BITS = (
    torch.int8,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
)


def _grown(scale: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat scales, one per block, to the shape of the numbers; the blocks at the ends may be smaller."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.ndim == 1:
        scale = scale[:, None] if len(scale) == shape[0] else scale[None]
    while scale.ndim < len(shape):
        scale = scale[..., None]
    if scale.ndim != len(shape):
        raise CheckpointError(f"its scales have the shape {tuple(scale.shape)}, its numbers {shape}")
    for axis, (count, size) in enumerate(zip(scale.shape, shape, strict=True)):
        if count in (1, size):
            continue
        block = 2 ** math.ceil(math.log2(size / count))
        if math.ceil(size / block) != count:
            if size % count:
                raise CheckpointError(f"its scales have the shape {tuple(scale.shape)}, its numbers {shape}")
            block = size // count
        scale = scale.repeat_interleave(block, axis).narrow(axis, 0, size)
    return scale


def _low_rank(entry: Entry, by_name: dict[str, Entry]) -> Made | None:
    """(alpha / r) B A of LoRA (Hu et al. 2022), and W + (alpha / r) B A where W is there too."""
    match = _UPDATE.search(entry.name)
    if match is None:
        return None
    begin, end = match.span("down")
    other = entry.name[:begin] + _UP[match["down"]] + entry.name[end:]
    if other not in by_name:
        return None
    stem, adapter = match["stem"], match["tail"].removesuffix(".weight").lstrip(".")
    alpha = next((a for a in (f"{stem}.alpha", f"{stem}.lora_alpha") if a in by_name), None)
    update = f"{stem}.lora" + (f".{adapter}" if adapter not in ("", "default") else "")

    def product() -> Tensor:
        A, B = entry.load(), by_name[other].load()
        flat = B.flatten(1).double() @ A.flatten(1).double()
        scale = 1.0 if alpha is None else float(by_name[alpha].load()) / A.shape[0]
        shape = (B.shape[0], *A.shape[1:])
        return (scale * flat.reshape(shape)).to(A.dtype)

    shape = None
    if entry.shape is not None and (up := by_name[other].shape) is not None:
        shape = (up[0], *entry.shape[1:])
    made = [
        replace(entry, name=update, load=_said(product, update), shape=shape, kind="update", identity=None)
    ]
    used = [entry.name, other, *([alpha] if alpha else [])]
    bases = (f"{stem}.base_layer.weight", f"{stem}.weight", f"{stem}.linear.weight")
    base = next((b for b in bases if b in by_name), None)
    several = sum(1 for n in by_name if (m := _UPDATE.search(n)) and m["stem"] == stem) > 1
    magnitude = any(n.startswith(f"{stem}.lora_magnitude_vector") for n in by_name)
    if base is not None and alpha is not None and not several and not magnitude:
        whole = f"{stem}.weight"

        def merged() -> Tensor:
            W = by_name[base].load()
            return (W.double() + product().double().reshape(W.shape)).to(W.dtype)

        made.append(replace(by_name[base], name=whole, load=_said(merged, whole), identity=None))
        used.append(base)
    return made, used


def _said(load: Callable[[], Tensor], name: str) -> Callable[[], Tensor]:
    def checked() -> Tensor:
        try:
            return load()
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"the parts of {name} do not fit together: {error}") from error

    return checked


_RECIPES = (_low_rank, _normalised, _spectrally_normalised, _masked, _scaled)


def part_of_quantised(name: str) -> str | None:
    """Return what a name says of a quantised weight, or None."""
    if _PACKED.search(name):
        return "packed integers of a quantised weight: dequantise the model first"
    return "a scale, not a weight" if _SCALE.search(name) else None
