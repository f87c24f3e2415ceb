"""Every layer of a model beside noise: Gaussian noise is made once for each shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.models.layers import Layer
from htlib.spectra.nulls import NULLS, against_null, check_null, gaussian_esd, measured

Array = NDArray[np.float64]


class LayerNulls:
    """Replicates for the layers of one model, of one kind (a key of `NULLS`)."""

    def __init__(self, null: str, n_replicates: int, seed: int) -> None:
        check_null(null, n_replicates)
        self._null, self._n_replicates, self._seed = null, n_replicates, seed
        self._gaussian: dict[tuple[int, ...], pd.DataFrame] = {}

    def columns(self, layer: Layer, row: Mapping[str, Any]) -> dict[str, float]:
        """Where the measures of a layer stand among those of its replicates."""
        values = dict(row)
        if self._null == "gaussian":
            (h, d), count = layer.shape, len(layer.matrices)
            values["spectral_norm"] /= row["frobenius_norm"] / np.sqrt(h * d * count)  # of unit entries
            replicates = self._unit_noise(h, d, count)
        else:
            rng = np.random.default_rng(self._seed)
            replicates = self._measures(lambda: [NULLS[self._null](matrix, rng) for matrix in layer.matrices])
        table = against_null(values, replicates)
        columns = {"alpha_hill_null": table.null_mean["alpha_hill"]}
        for name, z, percentile in zip(table.index, table.z, table.percentile, strict=True):
            columns |= {f"{name}_z": z, f"{name}_percentile": percentile}
        return columns

    def _unit_noise(self, h: int, d: int, count: int) -> pd.DataFrame:
        key = (*sorted((h, d)), count)  # a matrix and its transpose have one law
        if key not in self._gaussian:
            rng = np.random.default_rng([self._seed, *key])
            self._gaussian[key] = self._measures(lambda: [gaussian_esd(h, d, rng) for _ in range(count)])
        return self._gaussian[key]

    def _measures(self, spectra: Callable[[], list[Array]]) -> pd.DataFrame:
        return pd.DataFrame([measured(np.concatenate(spectra())) for _ in range(self._n_replicates)])
