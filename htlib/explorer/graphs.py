"""Export the computations that a browser repeats as ONNX graphs, from this package's own torch code.

There are three kinds of graph, of one fixed size: an update of the student (`Step`), the measures of its
features (`Probe`), and the link functions of all teachers (`Links`).  Tests compare them with
`htlib.student.training` and `htlib.student.probes`.

Run them with at most the basic graph optimisations: with the extended ones of ONNX Runtime 1.32 the results
of `Probe` are wrong.
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

_STATES = 2  # tensors that a page without Python keeps between steps
GRAPH_OPTIMIZERS = tuple(name for name, optimizer in OPTIMIZERS.items() if optimizer.n_state <= _STATES)


class Step(nn.Module):
    """One full-batch update of the hidden weights, with the loss before it.

    The optimizer is one of `GRAPH_OPTIMIZERS`, and the options are its hyperparameters.
    """

    def __init__(self, optimizer: str, activation: ScalarFunction, **options: Any) -> None:
        super().__init__()
        self.optimizer, self.activation, self.options = OPTIMIZERS[optimizer], activation, options

    def forward(
        self, W: Tensor, a: Tensor, X: Tensor, y: Tensor, lr: Tensor, t: Tensor, m: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the loss at W, the new W, and m and v, of which an optimizer may use only the first or none.

        t and lr are float64, because in float32 Adam's 1 - beta2^t keeps only three digits.
        """
        loss, gradient, _ = network.loss_and_gradient(W, a, X, y, self.activation)
        used = self.optimizer.n_state
        W, state = self.optimizer.update(gradient, W, (m, v)[:used], t, lr, **self.options)
        m, v = (x.clone() for x in (*state, *(m, v)[used:]))  # an input cannot be an output
        return loss, W, m, v


class Probe(nn.Module):
    """Stage 2 of a snapshot: the ridge refit of the readout, its losses, and the kernel's alignment."""

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
        """Return ridge training loss, test loss, kernel-target alignment and saturation, all float64."""
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


class Links(nn.Module):
    """The link function of each teacher."""

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return one result for each member of `TEACHERS`."""
        z = z.clone()  # an input cannot be an output
        return tuple(teacher.value(z) for teacher in TEACHERS.values())


def solve_positive(A: Tensor, b: Tensor) -> Tensor:
    """Solve A x = b for a positive definite float64 A (m, m), by Gauss-Jordan elimination.

    ONNX has no factorisation, but it can express this loop.  Each pass over the matrix eliminates ten
    columns.  A positive definite matrix needs no exchange of pivots.

    Examples
    --------
    >>> A = torch.tensor([[4.0, 2.0], [2.0, 3.0]], dtype=torch.float64)
    >>> solve_positive(A, A @ torch.tensor([1.0, -1.0], dtype=torch.float64)).round(decimals=9).tolist()
    [1.0, -1.0]
    """
    m = len(A)
    missing = -m % _BLOCK  # additional unknowns, whose solution is zero
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
        # the columns of the block become those of the identity
        change = (columns - unit.index_select(1, at)) @ (_inverse(rows.index_select(1, at)) @ rows)
        return i + _BLOCK, T - change

    _, table = while_loop(more, eliminate, (torch.tensor(0), table))
    return table[:m, size]


def _inverse(P: Tensor) -> Tensor:
    """Invert one small positive definite block, with the loop unrolled."""
    unit = torch.eye(_BLOCK, dtype=P.dtype)
    T = torch.cat([P, unit], dim=1)
    for j in range(_BLOCK):
        T = T - (T[:, j : j + 1] - unit[:, j : j + 1]) * (T[j : j + 1] / T[j, j])
    return T[:, _BLOCK:]


def export_graphs(folder: Path, config: ExperimentConfig) -> None:
    """Write ``links.onnx``, ``probe.onnx`` and, for the optimizers that a page offers, ``step-<name>.onnx``.

    The folder is made if it is missing.  Only the sizes, the activation and the optimizers' hyperparameters
    of the config matter.  Raises ImportError without the packages of the extra "book".
    """
    if find_spec("onnxscript") is None:
        raise ImportError("export_graphs needs onnx and onnxscript: pip install 'htlib[book]'")
    folder.mkdir(parents=True, exist_ok=True)
    n, d, h, n_test = config.n, config.d, config.h, config.n_test
    activation = get_activation(config.activation)

    # a new tensor each time, because the exporter merges inputs that are the same object
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
    z, any_length = ones(2, dtype=torch.float64), ({0: torch.export.Dim.DYNAMIC},)
    _export(folder / "links.onnx", Links(), (z,), " ".join(TEACHERS), any_length)


def _export(
    path: Path, module: nn.Module, inputs: tuple[Tensor, ...], outputs: str, dynamic_shapes: Any = None
) -> None:
    import onnx
    from onnxscript import opset18

    def scalar(s: float, dtype: int = onnx.TensorProto.FLOAT, **_: Any) -> Any:
        """Make a constant in its own precision; the exporter's own function rounds all to float32."""
        return opset18.Constant(value=onnx.helper.make_tensor("scalar", int(dtype), [], [s]))

    for name in ("torch.onnx", "torch.export"):  # their reports do not matter here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))  # from the exporter's own code
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            optimize=False,  # its optimiser removes small constants, such as Adam's eps
            verbose=False,
            input_names=list(inspect.signature(module.forward).parameters),
            output_names=outputs.split(),
            dynamic_shapes=dynamic_shapes,
            custom_translation_table={torch.ops.aten.scalar_tensor.default: scalar},
        )
    assert program is not None
    onnx.save(program.model_proto, path)
