"""Compare the updates of a run with its weights, and with a control that has the same singular values."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.spectra.vectors import SingularSystem, overlaps_of, singular_vector_overlaps
from htlib.student.run import Trajectory

Array = NDArray[np.float64]


def scramble(M: Array, rng: np.random.Generator) -> Array:
    """Permute the rows and the columns of a matrix and change their signs, all at random.

    This is a product with two orthogonal matrices: the singular values stay, and the directions forget what
    they were related to.

    Examples
    --------
    >>> M = np.diag([3.0, 2.0, 1.0])
    >>> np.linalg.svd(scramble(M, np.random.default_rng(0)))[1]
    array([3., 2., 1.])
    """
    rows, columns = M.shape
    permuted = M[rng.permutation(rows)][:, rng.permutation(columns)]
    return permuted * rng.choice([-1, 1], (rows, 1)) * rng.choice([-1, 1], columns)


def compare_updates(run: Trajectory, steps: Iterable[int], *, k: int = 100) -> pd.DataFrame:
    """Compare the update of a step with the weights around it, with a scrambled one and with the next.

    Parameters
    ----------
    run : Trajectory
        With the weights of every step (``keep_weights``).
    steps : iterable of int
        1 is the update from the start.
    k : int
        Dimension of the leading right subspaces, which are compared by their mean squared cosine.

    Returns
    -------
    DataFrame
        Indexed by seed and step: ``scrambled`` (a scrambled update against the weights plus itself),
        ``stays`` (the weights before against those after), ``size`` (Frobenius norm of the update over that
        of the weights), ``next`` (cosine of the update and the next one, NaN at the last step).

    Raises
    ------
    ValueError
        If the run does not hold the weights.

    Examples
    --------
    >>> import htlib as ht
    >>> run = ht.train(ht.ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=2), keep_weights=True)
    >>> compare_updates(run, [1, 2], k=5)["next"].isna().tolist()
    [False, True]
    """
    W, rng = run.weights, np.random.default_rng(run.config.seed)
    rows: list[dict[str, float]] = []
    for step in steps:
        if not {step - 1, step} <= W.keys():
            raise ValueError(f"the run holds no weights around step {step}; train with keep_weights=True")
        before, after = W[step - 1], W[step]
        M = after - before
        control = scramble(M, rng)
        norm = float(np.linalg.norm(M))
        row = {
            "seed": run.config.seed,
            "step": step,
            "scrambled": singular_vector_overlaps(before + control, control, k).subspace(k)[1],
            "stays": overlaps_of(SingularSystem(before), SingularSystem(after), k).subspace(k)[1],
            "size": norm / float(np.linalg.norm(before)),
            "next": np.nan,
        }
        if step + 1 in W:
            following = W[step + 1] - after
            row["next"] = float(np.vdot(M, following)) / norm / float(np.linalg.norm(following))
        rows.append(row)
    return pd.DataFrame(rows).set_index(["seed", "step"])


def teacher_share(run: Trajectory, direction: Array, steps: Iterable[int], *, k: int = 100) -> pd.DataFrame:
    """Return the part of a direction, in squared length, that the leading right vectors of the weights hold.

    Parameters
    ----------
    run : Trajectory
        With the weights of these steps.
    direction : (d,) array
        Of length 1.
    steps : iterable of int
    k : int

    Returns
    -------
    DataFrame
        Indexed by seed and step; column j holds the part in the first j vectors, j = 1, ..., k.
    """
    rows = {
        (run.config.seed, step): np.cumsum(
            (SingularSystem(run.weights[step]).right(k).numpy().T @ direction) ** 2
        )
        for step in steps
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=range(1, k + 1)).pipe(_named)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    table.index = pd.MultiIndex.from_tuples(table.index, names=["seed", "step"])
    return table
