"""Cut a matrix into overlapping windows of one shape and pool their spectra (FARMS; Hu et al. 2025).

All windows have the same shape, so the exponent of noise is the same for every layer, whatever its shape.
What else a window changes is less welcome: a signal that is spread over the whole matrix is weaker in a part.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from htlib.spectra.eigenvalues import as_matrix, esd, is_ill_conditioned

Array = NDArray[np.float64]


def spectrum_windows(
    W: Tensor | ArrayLike,
    side: int,
    ratio: float = 1.0,
    positions: int = 9,
    *,
    reach_edge: bool = False,
    pool: bool = True,
) -> Array:
    """Compute the eigenvalues of windows of W at a grid of positions, as FARMS does.

    A window has `side` rows and ``int(ratio * side)`` columns.  Along an axis of R entries, windows of r
    begin at 0, s, 2 s, ... with the step s = max(1, (R - r) // (positions - 1)), so that the last one may
    miss up to positions - 2 entries at the far edge, as in the released code.  There are fewer than
    `positions` windows where the axis has no room for more.

    Parameters
    ----------
    W : (h, d) tensor or array
    side : int
        Rows of a window.
    ratio : float
        Columns of a window per row.
    positions : int
        Number of positions along each axis.  FARMS has 9 with windows of 100 rows for image models (ratio
        1 in the paper, 2 by default in the code), and 10 to 15 with 2000 x 2000 for language models.
    reach_edge : bool
        Space the windows evenly from edge to edge instead.
    pool : bool
        Return all eigenvalues in one ascending list, which is the average of the windows' distributions.
        Otherwise return one row per window, to average an estimator over the windows.

    Returns
    -------
    (n_windows * min(r, c),) or (n_windows, min(r, c)) float64 array
        Raw eigenvalues, ascending; the windows in the order of their rows, then columns.

    Raises
    ------
    ValueError
        If W is not a finite matrix, a window does not fit into it, or an option is below 1.

    Notes
    -----
    Eigenvalues of overlapping windows are far from independent: the pooled list has more values than W, and
    no more information.

    References
    ----------
    Hu, Goel, Killiakov & Yang (2025), "Eigenspectrum Analysis of Neural Networks without Aspect Ratio Bias".

    Examples
    --------
    >>> W = np.diag([3.0, 2.0, 1.0])
    >>> spectrum_windows(W, 2, positions=2).tolist()
    [0.0, 0.0, 1.0, 4.0, 4.0, 4.0, 4.0, 9.0]
    """
    matrix = as_matrix(W, dtype=None)
    width = int(ratio * side)
    for name, value in (("side", side), ("int(ratio * side)", width), ("positions", positions)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    h, d = matrix.shape
    if side > h or width > d:
        raise ValueError(
            f"side = {side} and ratio = {ratio:g} make windows of {side} x {width}, which do not fit into "
            f"{h} x {d}; choose a smaller side or ratio"
        )
    corners = [
        (row, column)
        for row in _starts(h, side, positions, reach_edge)
        for column in _starts(d, width, positions, reach_edge)
    ]
    windows = [matrix[i : i + side, j : j + width] for i, j in corners]
    # what is computed at a time takes three times what W takes in float32, or is one window
    room = max(1, 3 * h * d // (2 * (side * width + min(side, width) ** 2)))
    n_threads = min(torch.get_num_threads(), room, len(windows))
    at_once = min(room // n_threads, -(-len(windows) // n_threads))
    parts = [windows[begin : begin + at_once] for begin in range(0, len(windows), at_once)]
    if n_threads == 1:
        spectra = [_spectra(part) for part in parts]
    else:  # LAPACK leaves the interpreter free, and one thread per matrix is faster than many
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_threads) as threads:
            spectra = list(threads.map(_spectra, parts))
    result = np.concatenate(spectra)
    return np.sort(result, axis=None) if pool else result


def _spectra(windows: list[Tensor]) -> Array:
    """Return the spectra of windows of one shape, one row each."""
    grams = _grams(windows)  # the copies of the windows are gone before LAPACK makes its own
    if not np.isfinite(grams).all():
        raise ValueError("the squared singular values overflow float64; rescale the matrix")
    result = np.linalg.eigvalsh(grams).astype(np.float64, copy=False)
    for row, window in enumerate(windows):
        # the Gram matrix has lost small eigenvalues to rounding, or has rounding in place of zeros
        if is_ill_conditioned(torch.from_numpy(result[row])):
            result[row] = esd(window)
    return result


def _grams(windows: list[Tensor]) -> Array:
    h, d = windows[0].shape
    stack = np.empty((len(windows), h, d))
    for copy, window in zip(stack, windows, strict=True):
        torch.from_numpy(copy).copy_(window)
    rows = stack if h <= d else stack.transpose(0, 2, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        return rows @ rows.transpose(0, 2, 1)


def _starts(size: int, window: int, positions: int, reach_edge: bool) -> list[int]:
    room = size - window
    if positions == 1:
        return [0]
    if reach_edge:
        return sorted({round(room * k / (positions - 1)) for k in range(positions)})
    step = max(1, room // (positions - 1))
    return list(range(0, room + 1, step))[:positions]
