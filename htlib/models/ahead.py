"""Compute the spectra of small layers side by side, while others are measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby

import torch
from threadpoolctl import threadpool_limits

from htlib.models.layers import Layer, Skipped
from htlib.spectra.in_place import esd_beside

_SMALL = 1024  # singular values; with a larger matrix, memory matters more, and it has threads of its own


def spectra_ahead(layers: Iterable[Layer | Skipped]) -> Iterator[Layer | Skipped]:
    """Yield layers in their order; the spectra of small ones are in the making, one thread each.

    As many are computed side by side as torch has threads, and no more are in memory.
    """
    n_threads = torch.get_num_threads()
    for alone, some in groupby(layers, _is_computed_alone):
        if alone or n_threads == 1:
            yield from some
        else:
            yield from _side_by_side(some, n_threads)


def _is_computed_alone(layer: Layer | Skipped) -> bool:
    return isinstance(layer, Layer) and (layer.matrices.device.type != "cpu" or min(layer.shape) > _SMALL)


def _side_by_side(layers: Iterable[Layer | Skipped], n_threads: int) -> Iterator[Layer | Skipped]:
    ahead: deque[Layer | Skipped] = deque()
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as threads,
    ):
        try:
            for layer in layers:
                if isinstance(layer, Layer):
                    layer = replace(layer, spectrum=threads.submit(layer.compute, esd_beside))
                ahead.append(layer)
                while sum(isinstance(one, Layer) for one in ahead) == n_threads:
                    yield ahead.popleft()
            yield from ahead
        finally:
            torch.set_num_threads(n_threads)  # that of MKL is one for all threads
