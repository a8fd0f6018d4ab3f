"""The engine that trains replicas: as ensembles, or one after another where an ensemble is impossible or slower."""

import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from suite import seeds
from suite.backends import CPU, Backend
from suite.devices import Device
from suite.optimizers.forms import FORMS
from suite.training import evaluations, lockstep, plain
from suite.training.compile_policy import CompilePolicy
from suite.training.ensemble import Ensemble
from suite.training.evaluate import evaluate
from suite.training.packing import parameter_count, replicas_per_call
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload


@dataclass(frozen=True)
class Engine:
    """A backend and the number of replicas that it trains in one call: as an ensemble, or plainly where it is 1."""

    backend: Backend
    replicas_per_call: int = 1

    def train(
        self,
        workload: Workload,
        data: Data,
        protocols: Sequence[Protocol],
        batch_size: int,
        replicas: Sequence[int],
        policy: CompilePolicy,
        ended: evaluations.Ended = evaluations.ends,
    ) -> list[list[evaluations.Evaluation]]:
        """Train replica `replicas[i]` by `protocols[i]` until it has `ended`, and return the evaluations of each.

        `data` is not split yet.
        """
        data = data.to(self.backend.device.torch_device)
        if self.replicas_per_call > 1:
            return lockstep.train(
                workload, data, protocols, batch_size, replicas, self.replicas_per_call, policy, ended
            )
        return plain.train_in_turns(workload, data, protocols, batch_size, replicas, self.backend, ended)


def best_replicas_per_call(workload: Workload, device: Device, replicas: int, batch_size: int) -> int:
    """Number of `replicas` to train in one call: 1 where an ensemble is slower."""
    if slower_as_ensemble(workload.initial_model(0), device):
        return 1
    return replicas_per_call(replicas, parameter_count(workload), batch_size)


def slower_as_ensemble(model: nn.Module, device: Device) -> bool:
    """Whether an ensemble of `model` trains slower than one replica after another.

    A CPU computes the grouped convolutions of an ensemble slower than separate ones.
    """
    convolutional = any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules())
    return convolutional and not device.is_accelerator


def why_not_ensemble(workload: Workload, data: Data) -> str | None:
    """The reason why `workload` cannot be trained as an ensemble, or None when it can.

    A trial compares two updates and an evaluation of an ensemble of two replicas with the plain engine, on up to four
    examples. It ignores parameters that already differ between two plain trainings: those of a model with dropout,
    and those that Adam moves by a gradient of pure rounding (a bias before batch norm).
    """
    if workload.optimizer.form is None:
        return f"only {', '.join(FORMS)} train in ensembles, not {workload.optimizer}"
    with seeds.torch_seeded("trial"):
        return _trial(workload, data)


def _trial(workload: Workload, data: Data) -> str | None:
    inputs, targets = data.train_inputs[:4], data.train_targets[:4]
    indices = torch.arange(len(inputs)).expand(2, -1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop")
            ensemble = Ensemble(workload, [0, 1], workload.learning_rate)
            for _ in range(2):
                ensemble.update(inputs, targets, indices)
            ensemble_state = _tensors(ensemble.parameters | ensemble.buffers, 1)
            ensemble_values = [values[1].item() for values in ensemble.evaluate(inputs, targets)]
    except Exception as error:
        return _reason(error)
    initial = _tensors(_state(workload.initial_model(1)))
    batches = ((inputs, targets), (inputs.roll(1, 0), targets.roll(1, 0)))
    models = [_plain_model(workload, *batch) for batch in batches]
    plain_state, reordered_state = (_tensors(_state(model)) for model in models)
    comparable = [name for name in initial if _same_step(initial[name], plain_state[name], reordered_state[name])]
    if not all(_same_step(initial[name], ensemble_state[name], plain_state[name]) for name in comparable):
        return "its parameters or buffers differ between an ensemble and a plain loop"
    plain_values, reordered_values = (evaluate(workload, model, inputs, targets) for model in models)
    if _same_values(plain_values, reordered_values) and not _same_values(ensemble_values, plain_values):
        return "its loss or score differs between an ensemble and a plain loop"
    return None


def _same_values(values: Sequence[float], reference: Sequence[float]) -> bool:
    return np.allclose(values, reference, rtol=1e-3, equal_nan=True)


def _reason(error: Exception) -> str:
    if operation := re.search("batching rule for (\\S+)\\.", str(error)):
        return f"torch.func.vmap has no rule for {operation.group(1)}"
    return textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" ...")


def _plain_model(workload: Workload, inputs: torch.Tensor, targets: torch.Tensor) -> nn.Module:
    """The model of replica 1 after two updates from the same batch."""
    model = workload.initial_model(1).train()
    optimizer = workload.optimizer.make(model, workload.learning_rate)
    for _ in range(2):
        update(CPU, model, workload.loss, optimizer, inputs, targets)
    return model


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _tensors(state: dict[str, torch.Tensor], replica: int | None = None) -> dict[str, torch.Tensor]:
    """Copies of the tensors in double precision; those of `replica` where they are stacked."""
    return {
        name: (value if replica is None else value[replica]).detach().double().clone()
        for name, value in state.items()
    }


def _same_step(initial: torch.Tensor, tensor: torch.Tensor, reference: torch.Tensor) -> bool:
    """Whether `tensor` and `reference` made the same step from `initial`, to within rounding.

    Values that are not finite must be at the same positions.
    """
    if not torch.equal(tensor.isfinite(), reference.isfinite()):
        return False
    difference, step = (tensor - reference).nan_to_num().norm(), (reference - initial).nan_to_num().norm()
    return bool(difference <= 1e-2 * step + 1e-6 * initial.norm())
