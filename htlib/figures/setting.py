"""Draw the task of the student."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from htlib.figures.style import BLACK, GREEN, GREY, WIDTH, in_book_style
from htlib.student.functions import gaussian_mean, get_teacher
from htlib.student.problem import Problem


@in_book_style
def task(problem: Problem, teacher: str = "softplus") -> Figure:
    """Draw the targets against the teacher's index, with the teacher and its best linear part.

    Parameters
    ----------
    problem : Problem
    teacher : str
        The teacher of the problem.

    Returns
    -------
    Figure
    """
    function = get_teacher(teacher).value
    index = problem.train.inputs @ problem.teacher_direction
    z = np.linspace(-4, 4, 201)
    curve = function(torch.from_numpy(z)).numpy()
    slope = gaussian_mean(lambda z: function(z) * z)
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    ax.plot(index, problem.train.targets, ".", ms=3, color=GREY, alpha=0.5)
    ax.plot(z, curve, color=GREEN, lw=2.4)
    ax.plot(z, slope * z, "--", color=BLACK, lw=2.0)
    ax.text(3.0, np.interp(3.0, z, curve) + 0.5, "the teacher", color=GREEN, ha="right")
    ax.text(4.0, -1.4, "all that this student can learn", ha="right")
    ax.text(-3.9, 1.6, "noisy targets", color=GREY)
    ax.axhline(0, color=BLACK, lw=0.6)
    ax.set(xlabel=r"index $z = \langle \beta, x \rangle$", ylabel="target y")
    return figure
