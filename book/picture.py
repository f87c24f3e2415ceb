"""Draw the picture of the landing page and the card of links to the book, from a run at the paper's sizes.

python book/picture.py
"""

from pathlib import Path

from matplotlib import pyplot as plt

import htlib as ht
from htlib import figures as hp
from htlib.spectra.noise import largest_eigenvalue_quantile

TITLES = {0: "start: bulk", 1: "one step: bulk and spike", 10: "ten steps: spread"}


def main() -> None:
    """Train once (Adam, rate 1, seed 0) and draw the spectrum at three steps."""
    run = ht.train(ht.ExperimentConfig(lr=1.0, steps=10))
    h, d = run.config.h, run.config.d
    law, edge = ht.MarchenkoPastur.of_gaussian_esd(h, d), largest_eigenvalue_quantile(h, d)
    plt.rcParams.update(hp.rc_params() | {"svg.hashsalt": "htlib"})  # the same run gives the same file
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharex=True, sharey=True)
    for ax, (step, title), color in zip(axes, TITLES.items(), (hp.GREY, hp.ORANGE, hp.ORANGE), strict=True):
        hp.spectrum(run.esd(step), law=law, edge=edge, bins=40, color=color, ax=ax)
        ax.set_title(title)
        ax.label_outer()
    axes[0].text(60, 90, "Marchenko-Pastur law", fontsize=10)
    axes[0].set(ylim=(0.5, 300))
    static = Path(__file__).parent / "static"
    figure.savefig(static / "spectrum.svg", metadata={"Date": None})
    figure.set_size_inches(12, 6.3)  # the shape of a card
    figure.suptitle("Heavy tails without noise", fontsize=26)
    figure.savefig(static / "card.png", dpi=100)


if __name__ == "__main__":
    main()
