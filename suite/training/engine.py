"""Which way a cell is trained: as an ensemble, or plainly where an ensemble cannot or would be slower."""

import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from suite import seeds
from suite.backends import BACKENDS, CPU
from suite.cells import Cell, Measurement
from suite.devices import Device
from suite.optimizer_forms import FORMS
from suite.training import lockstep, looks, plain
from suite.training.ensemble import Ensemble
from suite.training.evaluate import evaluate
from suite.training.packing import parameter_count, replicas_per_call
from suite.training.protocol import Protocol
from suite.training.repaid import Compiling
from suite.training.update import update
from suite.workloads import Data, Workload

ENGINES = ("ensemble", "plain")


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Every replica of the cell: the table of looks at each, with a column `seed`."""
    examples = len(data.train_inputs)
    expected = cell.protocol.budget.expected_updates(examples, cell.batch_size)
    compiling = Compiling(workload, examples, cell, cell.repeats, expected)
    seen = train(workload, data, cell, [cell.protocol] * cell.repeats, range(cell.repeats), compiling)
    return looks.tables(seen, cell.protocol, examples, cell.batch_size)


def train(
    workload: Workload,
    data: Data,
    cell: Cell,
    protocols: Sequence[Protocol],
    replicas: Sequence[int],
    compiling: Compiling,
    ended: looks.Ended = looks.ends,
) -> list[list[looks.Look]]:
    """Train replica `replicas[i]` by `protocols[i]` where and with the engine that the cell says: the looks at each,
    up to that at which it has `ended`. `data` is not split yet."""
    backend, batch_size = BACKENDS[cell.backend], cell.batch_size
    data = data.to(backend.device.torch_device)
    if (together := cell.replicas_per_call) > 1:
        return lockstep.train(workload, data, protocols, batch_size, replicas, together, compiling, ended)
    return plain.train_in_turns(workload, data, protocols, batch_size, replicas, backend, ended)


TRAINING = Measurement("training", version=2, measure=measure, trains=True)


def packed(cell: Cell, workload: Workload) -> Cell:
    """The training `cell` with as many replicas in a call as suit it: one where an ensemble is slower."""
    if slower_as_ensemble(workload.initial_model(0), BACKENDS[cell.backend].device):
        return cell
    together = replicas_per_call(cell.repeats, parameter_count(workload), cell.batch_size)
    return replace(cell, replicas_per_call=together)


def slower_as_ensemble(model: nn.Module, device: Device) -> bool:
    """Convolutions of replicas become grouped ones, which a CPU computes slower than one after another."""
    convolutional = any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules())
    return convolutional and not device.is_accelerator


def why_not_ensemble(workload: Workload, data: Data) -> str | None:
    """Why `workload` cannot be trained as an ensemble, or None when it can.

    Tried: two updates of two replicas from up to four examples each, and an evaluation, must do what the plain engine
    does. Parameters that differ between two plain trainings already cannot be compared: those of a model that drops
    at random, and those that Adam moves by a gradient of nothing but rounding (a bias before batch norm).
    """
    if workload.optimizer.form is None:
        return f"only {', '.join(FORMS)} train in ensembles, not {workload.optimizer}"
    with seeds.torch_seeded("trial"):
        return _tried(workload, data)


def _tried(workload: Workload, data: Data) -> str | None:
    few = slice(0, min(4, len(data.train_inputs)))
    inputs, targets = data.train_inputs[few], data.train_targets[few]
    every = torch.arange(len(inputs)).expand(2, -1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop")
            ensemble = Ensemble(workload, [0, 1], workload.learning_rate)
            for _ in range(2):
                ensemble.update(inputs, targets, every)
            moved = _tensors(ensemble.parameters | ensemble.buffers, 1)
            judged = [values[1].item() for values in ensemble.evaluate(inputs, targets)]
    except Exception as error:
        return _reason(error)
    start = _tensors(_state(workload.initial_model(1)))
    models = [
        _twice_updated(workload, *batch) for batch in ((inputs, targets), (inputs.roll(1, 0), targets.roll(1, 0)))
    ]
    plain, reordered = (_tensors(_state(model)) for model in models)
    comparable = [name for name in start if _alike(start[name], plain[name], reordered[name])]
    if not all(_alike(start[name], moved[name], plain[name]) for name in comparable):
        return "it moves its model's parameters or buffers otherwise than a plain loop"
    plain_judged, reordered_judged = (evaluate(workload, model, inputs, targets) for model in models)
    if _close(plain_judged, reordered_judged) and not _close(judged, plain_judged):
        return "it evaluates its model otherwise than a plain loop"
    return None


def _close(one: Sequence[float], other: Sequence[float]) -> bool:
    return np.allclose(one, other, rtol=1e-3, equal_nan=True)


def _reason(error: Exception) -> str:
    if operation := re.search("batching rule for (\\S+)\\.", str(error)):
        return f"torch.func.vmap knows no {operation.group(1)}"
    return textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" ...")


def _twice_updated(workload: Workload, inputs: torch.Tensor, targets: torch.Tensor) -> nn.Module:
    model = workload.initial_model(1).train()
    optimizer = workload.optimizer.make(model, workload.learning_rate)
    for _ in range(2):
        update(CPU, model, workload.loss, optimizer, inputs, targets)
    return model


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _tensors(state: dict[str, torch.Tensor], replica: int | None = None) -> dict[str, torch.Tensor]:
    """Copies in double precision, of one `replica` where they are stacked."""
    return {
        name: (value if replica is None else value[replica]).detach().double().clone()
        for name, value in state.items()
    }


def _alike(before: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether a tensor moved alike, but for rounding, from what it was `before`. Where one is not a number, so must
    the other be."""
    if not torch.equal(one.isfinite(), other.isfinite()):
        return False
    apart, moved = (one - other).nan_to_num().norm(), (other - before).nan_to_num().norm()
    return bool(apart <= 1e-2 * moved + 1e-6 * before.norm())
