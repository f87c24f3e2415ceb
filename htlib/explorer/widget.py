"""The explorer: move the settings of an experiment and watch its spectrum, alignment, tails and losses.

The widget does little itself.  Its front end (``static/explorer.js``) requests results from an engine and
draws them.  In Jupyter the engine is `htlib.explorer.trainer.KernelEngine`, and the two exchange the widget's
custom messages: the kernel receives ``{"type": "request", "id", "settings"}`` and
``{"type": "cancel", "id"}``; `htlib.explorer.messages` describes its answers.  The engine starts with the
first request of a front end.  Where there is no front end, as under papermill, only the still picture is
computed, once, when the cell is displayed.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from functools import cached_property
from typing import Any

import anywidget
import traitlets

from htlib.explorer.front_end import STATIC, one_module
from htlib.explorer.trainer import KernelEngine
from htlib.student.config import CHOICES, ExperimentConfig
from htlib.student.functions import TEACHERS
from htlib.student.optimizers import OPTIMIZERS
from htlib.student.training import train

_HOW = (
    "The live one needs JavaScript and WebAssembly, and a page that comes from a server (`make serve`) and "
    "not from a file; or open this chapter in Jupyter (`make env`, then `.venv/bin/jupyter lab book/`) and "
    "run this cell."
)
_SMALL = ExperimentConfig(n=600, d=300, h=450, n_test=2000)  # small enough to follow the controls at once
_NOISES = (0.0, 0.1, 0.3, 1.0, 3.0)
_CONTROLS = ("optimizer", "lr", "steps", "teacher", "labels", "noise_std", "feature_scale", "seed")


class Explorer(anywidget.AnyWidget):
    """Controls for an experiment, and pictures that follow them.

    Parameters
    ----------
    config : ExperimentConfig, optional
        The first position of the controls, and all settings that have no control.  Default: Adam at rate
        1, 10 steps, n = 600, d = 300, h = 450, small enough to follow the controls at once.  At the
        paper's sizes, ``Explorer(ht.ExperimentConfig())``, a step takes some tenths of a second.
    max_steps : int
        End of the step control; at least the steps of the configuration.
    **fields
        Fields of `ExperimentConfig` to change.

    Attributes
    ----------
    config : ExperimentConfig
        The first position of the controls.

    Raises
    ------
    TypeError, ValueError
        As for `ExperimentConfig`.

    Examples
    --------
    >>> widget = Explorer(n=60, d=20, h=30, optimizer="gd", lr=100)
    >>> widget.config.n_test, widget.config.lr
    (2000, 100.0)
    >>> widget.close()
    """

    _esm = one_module("marks", "panels", "controls", "readout", "share", "tour", "kernel", "explorer")
    _css = STATIC / "explorer.css"
    options = traitlets.Dict().tag(sync=True)

    def __init__(self, config: ExperimentConfig | None = None, *, max_steps: int = 50, **fields: Any) -> None:
        config = (_SMALL if config is None else config).replace(**fields)
        self.config = config
        self._engine = KernelEngine(config, max_steps=max(max_steps, config.steps))
        choices: dict[str, list[Any]] = {
            name: list(CHOICES[name]) for name in ("optimizer", "labels", "feature_scale")
        }
        choices["teacher"] = list(dict.fromkeys((*TEACHERS, config.teacher)))
        choices["noise_std"] = sorted({*_NOISES, config.noise_std})
        super().__init__(
            options={
                "settings": {name: getattr(config, name) for name in _CONTROLS},
                "choices": choices,
                "names": {name: optimizer.label for name, optimizer in OPTIMIZERS.items()},
                "defaults": ExperimentConfig().to_dict(),
                "max_steps": self._engine.max_steps,
            }
        )
        self.on_msg(self._receive)

    def close(self) -> None:
        """Stop training and remove the widget."""
        if "_engine" in vars(self):  # it is missing if the configuration was refused
            self._engine.close()
        super().close()

    def _receive(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        if content["type"] == "request":
            self._engine.request(content["settings"], self.send, id=content["id"])
        elif content["type"] == "cancel":
            self._engine.cancel(content["id"])

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the live widget and, for pages without a kernel, a picture of the first settings."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        plain = f"Interactive explorer: {_described(self.config)}. {_HOW}"
        return {**data, "text/html": self._still, "text/plain": plain}, metadata

    @property
    def _place(self) -> str:
        """HTML attributes by which the page puts a live explorer here.

        They are empty unless all settings without a control are the defaults, the only ones that the page can
        run.
        """
        settings = {name: getattr(self.config, name) for name in _CONTROLS}
        if self.config != _SMALL.replace(**settings):
            return ""
        return f' id="explorer" data-explorer="{html.escape(json.dumps(settings))}"'

    @cached_property
    def _still(self) -> str:
        from htlib.figures.pictures import laid_out
        from htlib.figures.runs import overview  # slow to import, and may not be needed

        run = train(self.config, progress=False)
        caption = f"Still picture of the interactive explorer: {_described(self.config)}."
        if run.diverged_at is not None:
            caption += f" The run diverges at step {run.diverged_at}."
        image = ""
        if len(run.metrics):
            figure = overview(run)
            file = io.BytesIO()
            with laid_out(figure):
                figure.savefig(file, format="png", dpi=2 * figure.dpi, facecolor="white")
            last = run.metrics.iloc[-1]
            alt = (
                "Spectrum, alignment, tail exponents and losses of one run. "
                f"After step {run.metrics.index[-1]}: spectral norm {last['spectral_norm']:.4g}, "
                f"{last['n_outliers']:.0f} eigenvalues beyond the noise edge, "
                f"alignment {last['alignment']:.2f}, PL_Alpha_Hill {last['alpha_hill']:.2f}, "
                f"test loss {last['test_loss']:.3g}."
            )
            image = (
                f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}" '
                f'width="{figure.get_figwidth() * figure.dpi:.0f}" style="max-width: 100%; height: auto" '
                f'alt="{html.escape(alt)}">'
            )
        how = re.sub("`(.+?)`", r"<code>\1</code>", _HOW)
        return (
            f'<figure class="explorer-still"{self._place}>{image}'
            f"<figcaption>{html.escape(caption)} {how}</figcaption></figure>"
        )


def _described(config: ExperimentConfig) -> str:
    from htlib.figures.labels import setting_label  # slow to import, and may not be needed

    fields = {name: getattr(config, name) for name in (*_CONTROLS, "n", "d", "h")}
    return setting_label(**fields).replace("$", "")
