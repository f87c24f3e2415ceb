"""Prune a model to a sparsity per layer, by magnitude or by Wanda's score."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from htlib.models.allocation_rows import tensor_of_row
from htlib.models.checkpoints import entries_of
from htlib.models.layers import Layer, Selection, Skipped, layers_of
from htlib.practice.weights import means_by_tensor

Batch = Tensor | Sequence[Any] | Mapping[str, Any]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, eq=False)
class _Target:
    """A weight, with the modules that have it and its name in each."""

    name: str
    weight: Tensor
    owners: list[tuple[nn.Module, str]]


def prune_(
    model: nn.Module,
    sparsity: pd.Series | float,
    score: str = "magnitude",
    batches: Iterable[Batch] | None = None,
) -> pd.DataFrame:
    """Prune a model in place, with the masks of `torch.nn.utils.prune`.

    Each weight loses exactly round(sparsity x entries) of them, those with the smallest scores: of the whole
    tensor by magnitude, and of each output (to one entry) by Wanda's score.  What is zero already counts.
    ``torch.nn.utils.prune.remove(module, "weight")`` makes a mask permanent.

    Parameters
    ----------
    model : Module
    sparsity : Series or float
        Of `htlib.allocate` for the model's table, or one number for all rows of `htlib.analyze`.  Rows of one
        tensor (gates, query, key and value) are pruned together, to their mean.  A tied weight is pruned in
        all of the modules that have it.
    score : {"magnitude", "wanda"}
        "magnitude": |W_ij|.  "wanda": |W_ij| times the norm of the input that the entry meets, over all
        samples and positions of `batches`; for a convolution it is the norm at that place of the kernel.
    batches : iterable, optional
        Inputs for "wanda": tensors, or tuples or dictionaries of arguments.

    Returns
    -------
    DataFrame
        One row per pruned weight: ``name``, ``sparsity``, the share of its entries that are zero now, and
        ``n_entries``.  ``.attrs["skipped"]`` maps every other weight of `sparsity` (of the model, for one
        number) to the reason why it is as it was: it is quantised or made of several parameters, or Wanda
        does not see its inputs (LSTM, GRU, attention's ``in_proj_weight`` and ``out_proj``), which magnitude
        can prune.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or `sparsity` names a weight that the model does not have.

    References
    ----------
    Sun et al. (2024), "A simple and effective pruning approach for large language models", eq. 1.

    Examples
    --------
    >>> import htlib
    >>> model = nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 30))
    >>> sparsity = htlib.allocate(htlib.analyze(model, progress=False), "sparsity", target=0.5)
    >>> table = prune_(model, sparsity, "wanda", [torch.randn(100, 40)])
    >>> round(float((table.sparsity * table.n_entries).sum() / table.n_entries.sum()), 3)
    0.5
    """
    if score not in _SCORES:
        raise ValueError(f"score must be one of {', '.join(_SCORES)}; got {score!r}")
    if (score == "wanda") != (batches is not None):
        raise ValueError("batches must be given for the score 'wanda', and for no other")
    skipped: dict[str, str] = {}
    if isinstance(sparsity, pd.Series):
        shares = means_by_tensor("sparsity", sparsity)
    else:
        shares, skipped = _uniform(model, sparsity)
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"sparsity must be from 0 to 1; {name} has {share}")
    targets: list[_Target] = []
    for name in shares:
        found = _target(model, name)
        if isinstance(found, str):
            skipped[name] = found
        elif score == "wanda" and (reason := _unseen(model, found)) is not None:
            skipped[name] = reason
        else:
            targets.append(found)
    norms = _input_norms(model, targets, batches) if batches is not None else {}
    rows: list[dict[str, Any]] = []
    for target in targets:
        if batches is not None and target.name not in norms:
            skipped[target.name] = "no batch reached it"
            continue
        mask = _SCORES[score](target, norms.get(target.name), shares[target.name])
        with torch.no_grad():  # a masked weight with a graph could not be copied
            for module, own in target.owners:
                prune.custom_from_mask(module, own, mask)
                _follow(model, module)
        rows.append(
            {"name": target.name, "sparsity": float((mask == 0).double().mean()), "n_entries": mask.numel()}
        )
    table = pd.DataFrame(rows, columns=["name", "sparsity", "n_entries"])
    table.attrs["skipped"] = skipped
    return table


def _uniform(model: nn.Module, share: float) -> tuple[dict[str, float], dict[str, str]]:
    """Return one share for each tensor that `htlib.analyze` has, and the reasons for the others."""
    if not isinstance(share, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"sparsity must be a Series or a number; got {type(share).__name__}")
    layers = list(layers_of(entries_of(model), Selection()))
    shares = {tensor_of_row(layer.name): float(share) for layer in layers if isinstance(layer, Layer)}
    return shares, {layer.name: layer.reason for layer in layers if isinstance(layer, Skipped)}


def _target(model: nn.Module, name: str) -> _Target | str:
    """Find a weight, or return why it cannot be pruned."""
    path, _, own = name.rpartition(".")
    modules = dict(model.named_modules(remove_duplicate=False))
    module = modules.get(path)
    weight = getattr(module, own, None) if module is not None else None
    if module is None or weight is None:
        if any(entry.name == name for entry in entries_of(model)):
            return "made of several parameters: merge them first"
        raise ValueError(f"sparsity must be of weights of the model; it has no weight {name!r}")
    if not isinstance(weight, Tensor) or weight.is_quantized or not weight.is_floating_point():
        return "quantised: prune before quantising"
    masked = f"{own}_mask" in dict(module.named_buffers(recurse=False))
    parameter = _own_parameters(module).get(f"{own}_orig" if masked else own)
    if parameter is None:
        return "made of several parameters: merge them first"
    owners = [
        (other, stored.removesuffix("_orig") if masked else stored)
        for other in model.modules()
        for stored, one in _own_parameters(other).items()
        if one is parameter
    ]
    return _Target(name, weight.detach(), owners)


def _own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    return dict(module.named_parameters(recurse=False, remove_duplicate=False))


def _unseen(model: nn.Module, target: _Target) -> str | None:
    """Return why Wanda does not see the inputs of a weight, or None if it does."""
    for module, own in target.owners:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return "tied to an embedding, which has no inputs to weigh: prune it by magnitude"
        attention = any(
            isinstance(m, nn.MultiheadAttention) and m.out_proj is module for m in model.modules()
        )
        if attention or own != "weight" or not _is_linear_in_its_weight(module):
            return f"Wanda does not see the inputs of {own} of {type(module).__name__}: prune it by magnitude"
    return None


def _is_linear_in_its_weight(module: nn.Module) -> bool:
    # Conv1D of transformers is linear, with the weight (in, out)
    known = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)
    return isinstance(module, known) or type(module).__name__ == "Conv1D"


def _input_norms(model: nn.Module, targets: list[_Target], batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Sum the squared inputs that each entry of a weight meets, and take the root.

    The sum of a layer's outputs is linear in its weight, and its gradient sums the inputs that each entry
    meets, whatever the groups, strides and padding; here the inputs are squared.
    """
    totals: dict[str, Tensor] = {}

    def record(target: _Target) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            with torch.enable_grad():
                weight = torch.zeros_like(target.weight, dtype=torch.float32).requires_grad_()
                out = _outputs(module, arguments[0].detach().float().square(), weight)
                (total,) = torch.autograd.grad(out.sum(), weight)
            totals[target.name] = (
                totals[target.name] + total.double() if target.name in totals else total.double()
            )

        return hook

    handles = [m.register_forward_pre_hook(record(t)) for t in targets for m, _ in t.owners]
    try:
        with torch.no_grad(), _evaluating(model):
            for batch in batches:
                if isinstance(batch, Mapping):
                    model(**batch)
                elif isinstance(batch, Tensor):
                    model(batch)
                else:
                    model(*batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total.sqrt() for name, total in totals.items()}


def _outputs(module: Any, x: Tensor, weight: Tensor) -> Tensor:
    """Apply a layer with another weight, and without its bias and hooks."""
    if isinstance(module, nn.Linear):
        return functional.linear(x, weight)
    if isinstance(module, _CONVOLUTIONS):
        convolution: Any = module
        return convolution._conv_forward(x, weight, None)  # it pads as the module does
    if isinstance(module, _TRANSPOSED):
        function: Any = getattr(functional, f"conv_transpose{weight.ndim - 2}d")
        options = (module.stride, module.padding, module.output_padding, module.groups, module.dilation)
        return function(x, weight, None, *options)
    return x @ weight  # Conv1D of transformers


def _by_magnitude(target: _Target, norm: Tensor | None, share: float) -> Tensor:
    return _without_lowest(target.weight.abs().reshape(1, -1), share).reshape(target.weight.shape)


def _by_wanda(target: _Target, norm: Tensor | None, share: float) -> Tensor:
    """Compare the entries of each output."""
    if norm is None:
        raise ValueError("batches must be given for the score 'wanda'")
    module, _ = target.owners[0]
    scores = target.weight.abs().double() * norm
    index = torch.arange(scores.numel(), device=scores.device).reshape(scores.shape)
    if isinstance(module, _TRANSPOSED):  # (in, out / groups, k...), and outputs differ from group to group
        index = index.unflatten(0, (int(module.groups), -1)).transpose(1, 2).flatten(0, 1)
    elif not isinstance(module, (nn.Linear, *_CONVOLUTIONS)):  # Conv1D of transformers: (in, out)
        index = index.T
    index = index.flatten(1)  # (outputs, inputs)
    mask = torch.ones(scores.numel(), device=scores.device, dtype=target.weight.dtype)
    mask[index] = _without_lowest(scores.flatten()[index], share).to(mask.dtype)
    return mask.reshape(scores.shape)


_SCORES: dict[str, Callable[[_Target, Tensor | None, float], Tensor]] = {
    "magnitude": _by_magnitude,
    "wanda": _by_wanda,
}


def _without_lowest(scores: Tensor, share: float) -> Tensor:
    """Return a mask without the lowest scores of each row; the rows lose equally many, to one entry."""
    n_rows, length = scores.shape
    count = round(share * scores.numel())
    each, more = divmod(count, n_rows)
    order = scores.argsort(dim=1, stable=True)
    mask = torch.ones_like(scores)
    mask.scatter_(1, order[:, :each], 0.0)
    if more and each < length:
        following = order[:, each]
        rows = scores.gather(1, following[:, None])[:, 0].argsort(stable=True)[:more]
        mask[rows, following[rows]] = 0.0
    return mask


def _follow(model: nn.Module, module: nn.Module) -> None:
    """Have attention mask its output projection: it reads that weight without calling the module."""
    attentions: list[Any] = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    for attention in attentions:
        if attention.out_proj is module and _mask_out_proj not in attention._forward_pre_hooks.values():
            attention.register_forward_pre_hook(_mask_out_proj)


def _mask_out_proj(attention: nn.Module, arguments: Any) -> None:
    projection: Any = attention.out_proj
    for hook in projection._forward_pre_hooks.values():
        if isinstance(hook, prune.BasePruningMethod):
            hook(projection, arguments)


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    """Switch dropout and the like off, and each module back to its mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
