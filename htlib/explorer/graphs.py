"""The computations that a browser repeats, as ONNX graphs exported from this package's own torch code.

Three kinds of graph of one fixed size: an update of the student (`Step`), the measures of its features
(`Probe`), and the teacher's link function.  Nothing here trains or measures by itself; the graphs
run wherever an ONNX runtime does.  They are tested against `htlib.student.training` and
`htlib.student.probes`.

They must be run with basic optimisations of the graph at most: with the extended ones of ONNX Runtime 1.32
the results of `Probe` are wrong.
"""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops import while_loop

from htlib.explorer.messages import SATURATED, SATURATION_SAMPLES
from htlib.student import network
from htlib.student.config import ExperimentConfig
from htlib.student.functions import TEACHERS, ScalarFunction, get_activation
from htlib.student.optimizers import OPTIMIZERS

_BLOCK = 10

GRAPH_OPTIMIZERS = tuple(name for name, optimizer in OPTIMIZERS.items() if optimizer.in_page)


class Step(nn.Module):
    """One full-batch update of the hidden weights, with the loss before it.

    Parameters
    ----------
    optimizer : str
        One of `GRAPH_OPTIMIZERS`.
    activation : ScalarFunction
    **options
        The optimizer's hyperparameters.
    """

    def __init__(self, optimizer: str, activation: ScalarFunction, **options: Any) -> None:
        super().__init__()
        self.optimizer, self.activation, self.options = OPTIMIZERS[optimizer], activation, options

    def forward(
        self, W: Tensor, a: Tensor, X: Tensor, y: Tensor, lr: Tensor, t: Tensor, m: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The loss at W, the new W, and the optimizer's state in m and v, of which it may need fewer.

        t and lr are float64: 1 - beta2^t of Adam has lost all but three digits in float32.
        """
        loss, gradient, _ = network.loss_and_gradient(W, a, X, y, self.activation)
        used = self.optimizer.n_state
        W, state = self.optimizer.update(gradient, W, (m, v)[:used], t, lr, **self.options)
        m, v = (x.clone() for x in (*state, *(m, v)[used:]))  # an input cannot be an output
        return loss, W, m, v


class Probe(nn.Module):
    """Stage 2 of a snapshot: the readout refitted by ridge regression, its losses, the kernel's alignment."""

    def __init__(self, activation: ScalarFunction) -> None:
        super().__init__()
        self.activation = activation

    def forward(
        self,
        W: Tensor,
        X: Tensor,
        y: Tensor,
        X_test: Tensor,
        y_test: Tensor,
        input_scale: Tensor,
        ridge_lambda: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ridge training loss, test loss, kernel-target alignment and saturation, all float64."""
        ceiling = SATURATED * (self.activation.bound or math.inf)
        saturated = network.features(W, X[:SATURATION_SAMPLES], self.activation).abs() > ceiling
        F, F_test = (self._features(W, inputs, input_scale) for inputs in (X, X_test))
        y, y_test = y.double(), y_test.double()
        n, h = F.shape
        gram, moment = F.T @ F, F.T @ y
        kta = moment.square().sum() / (gram.square().sum().sqrt() * y.square().sum())
        penalty = ridge_lambda * (n / h)
        solution = solve_positive(gram + penalty * torch.eye(h, dtype=torch.float64), moment)
        train_loss = (F @ solution - y).square().mean()
        test_loss = (F_test @ solution - y_test).square().mean()
        return train_loss, test_loss, kta, saturated.double().mean()

    def _features(self, W: Tensor, X: Tensor, input_scale: Tensor) -> Tensor:
        features = network.features(W, X, self.activation, input_scale)
        return features.double() / math.sqrt(W.shape[0])


class _Elementwise(nn.Module):
    def __init__(self, function: ScalarFunction) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function.value(z)


def solve_positive(A: Tensor, b: Tensor) -> Tensor:
    """Solution of A x = b for a positive definite A, by Gauss-Jordan elimination in a loop that exports.

    ONNX has no factorisation.  Ten columns are eliminated at a time, to pass over the matrix less often.  No
    pivots are exchanged: a positive definite matrix needs none.

    Parameters
    ----------
    A : (m, m) float64 tensor
    b : (m,) float64 tensor

    Returns
    -------
    (m,) float64 tensor

    Examples
    --------
    >>> A = torch.tensor([[4.0, 2.0], [2.0, 3.0]], dtype=torch.float64)
    >>> solve_positive(A, A @ torch.tensor([1.0, -1.0], dtype=torch.float64)).round(decimals=9).tolist()
    [1.0, -1.0]
    """
    m = len(A)
    missing = -m % _BLOCK  # more unknowns, which are zero
    ones = nn.functional.pad(torch.zeros(m, dtype=A.dtype), (0, missing), value=1.0)
    A = nn.functional.pad(A, (0, missing, 0, missing)) + torch.diag(ones)
    table = torch.cat([A, nn.functional.pad(b, (0, missing))[:, None]], dim=1)
    size, unit = m + missing, torch.eye(m + missing, dtype=A.dtype)
    block = torch.arange(_BLOCK)

    def more(i: Tensor, _: Tensor) -> Tensor:
        return i < size

    def eliminate(i: Tensor, T: Tensor) -> tuple[Tensor, Tensor]:
        at = i + block
        rows, columns = T.index_select(0, at), T.index_select(1, at)
        # these rows become those of the identity, and all others lose their entries of the block
        change = (columns - unit.index_select(1, at)) @ (_inverse(rows.index_select(1, at)) @ rows)
        return i + _BLOCK, T - change

    _, table = while_loop(more, eliminate, (torch.tensor(0), table))
    return table[:m, size]


def _inverse(P: Tensor) -> Tensor:
    """Of one small positive definite block, unrolled."""
    unit = torch.eye(_BLOCK, dtype=P.dtype)
    T = torch.cat([P, unit], dim=1)
    for j in range(_BLOCK):
        T = T - (T[:, j : j + 1] - unit[:, j : j + 1]) * (T[j : j + 1] / T[j, j])
    return T[:, _BLOCK:]


def export_graphs(folder: Path, config: ExperimentConfig) -> None:
    """Write ``probe``, and ``step-<optimizer>`` and ``link-<teacher>`` for each that a page offers.

    Parameters
    ----------
    folder : Path
        Made if missing; gets a file ``<name>.onnx`` each.
    config : ExperimentConfig
        Sizes, activation and the optimizers' hyperparameters; the rest is input of the graphs or does not
        matter.

    Raises
    ------
    ImportError
        Without the packages ``onnx`` and ``onnxscript`` (extra "book").
    """
    if find_spec("onnxscript") is None:
        raise ImportError("export_graphs needs onnx and onnxscript: pip install 'htlib[book]'")
    folder.mkdir(parents=True, exist_ok=True)
    n, d, h, n_test = config.n, config.d, config.h, config.n_test
    activation = get_activation(config.activation)

    # a new tensor each time: inputs that are one object become one input
    def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.ones(shape, dtype=dtype)

    for optimizer in GRAPH_OPTIMIZERS:
        state = (ones(h, d), ones(h), ones(n, d), ones(n))
        numbers = (ones(dtype=torch.float64), ones(dtype=torch.float64))
        step = Step(optimizer, activation, **OPTIMIZERS[optimizer].options(config))
        _export(
            folder / f"step-{optimizer}.onnx",
            step,
            (*state, *numbers, ones(h, d), ones(h, d)),
            "loss W_new m_new v_new",
        )
    data = (ones(h, d), ones(n, d), ones(n), ones(n_test, d), ones(n_test))
    numbers = (ones(), ones(dtype=torch.float64))
    _export(
        folder / "probe.onnx",
        Probe(activation),
        (*data, *numbers),
        "ridge_train_loss test_loss kta saturation",
    )
    for name, teacher in TEACHERS.items():
        z, any_length = ones(2, dtype=torch.float64), ({0: torch.export.Dim.DYNAMIC},)
        _export(folder / f"link-{name}.onnx", _Elementwise(teacher), (z,), "f", any_length)


def _export(
    path: Path, module: nn.Module, inputs: tuple[Tensor, ...], outputs: str, dynamic_shapes: Any = None
) -> None:
    import onnx
    from onnxscript import opset18

    def scalar(s: float, dtype: int = onnx.TensorProto.FLOAT, **_: Any) -> Any:
        """A constant in the precision it is used in: the exporter's own rounds all to float32."""
        return opset18.Constant(value=onnx.helper.make_tensor("scalar", int(dtype), [], [s]))

    for name in ("torch.onnx", "torch.export"):  # they report operators and attempts that do not matter
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))  # of the exporter's own code
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            optimize=False,  # its optimiser removes what is small, such as Adam's eps
            verbose=False,
            input_names=list(inspect.signature(module.forward).parameters),
            output_names=outputs.split(),
            dynamic_shapes=dynamic_shapes,
            custom_translation_table={torch.ops.aten.scalar_tensor.default: scalar},
        )
    assert program is not None
    onnx.save(program.model_proto, path)
