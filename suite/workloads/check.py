"""Checks of a workload before it is measured. Each mistake is reported in one line."""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from suite.errors import UserError
from suite.workloads.data import Data
from suite.workloads.workload import Workload, cross_entropy

SPLITS = ("train", "test")


def load_checked(workload: Workload) -> Data:
    """Check the workload's data, model, loss, score and optimizer, and return the data.

    Raises UserError with the first problem.
    """
    data = _call(workload, "load()", workload.load)
    _check_data(workload, data)
    _check_batch_sizes(workload, len(data.train_inputs))
    model = _check_model(workload)
    _check_outputs(workload, model, data)
    _check_optimizer(workload, workload.initial_model(0), data)
    return data


def _error(workload: Workload, problem: str) -> UserError:
    return UserError(f"workload {workload.name}: {problem}")


def _call(workload: Workload, description: str, function: Callable, *arguments):
    """Call a `function` of the workload, and report an error of it in one line."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise _error(
            workload, f"{description} raises {type(error).__name__}: {reason[0] if reason else ''}"
        ) from error


def _check_data(workload: Workload, data: Data) -> None:
    if not isinstance(data, Data):
        raise _error(workload, f"load() returns {type(data).__name__}: return suite.workloads.Data(...)")
    for split in SPLITS:
        inputs, targets = getattr(data, f"{split}_inputs"), getattr(data, f"{split}_targets")
        for name, tensor in ((f"{split}_inputs", inputs), (f"{split}_targets", targets)):
            _check_tensor(workload, name, tensor)
        if len(inputs) != len(targets):
            raise _error(workload, f"{split}_inputs has {len(inputs)} examples and {split}_targets {len(targets)}")
    for kind in ("inputs", "targets"):
        train, test = getattr(data, f"train_{kind}"), getattr(data, f"test_{kind}")
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            raise _error(
                workload,
                f"train_{kind} are {_kind(train)}, test_{kind} {_kind(test)}: an example must look the same in both",
            )


def _kind(tensor: Tensor) -> str:
    shape = ", ".join(map(str, ("N", *tensor.shape[1:])))
    return f"{str(tensor.dtype).removeprefix('torch.')} [{shape}]"


def _check_tensor(workload: Workload, name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise _error(workload, f"{name} is a {type(tensor).__name__}: make it a torch.Tensor")
    if tensor.device.type != "cpu":
        raise _error(workload, f"{name} lies on {tensor.device}: leave data on the CPU, backends move it")
    if tensor.dim() == 0 or len(tensor) == 0:
        raise _error(workload, f"{name} is empty: each split needs an example")
    if tensor.requires_grad:
        raise _error(workload, f"{name} requires a gradient: detach it")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).flatten(start_dim=1 if tensor.dim() > 1 else 0).any(-1).sum())
        raise _error(workload, f"{name} has values that are not finite (NaN or infinite), in {bad} examples")


def _check_optimizer(workload: Workload, model: nn.Module, data: Data) -> None:
    """Check that the optimizer can update the workload's model."""
    optimizer = workload.optimizer
    if unmatched := optimizer.unmatched(model):
        names = [name for name, _ in model.named_parameters()]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise _error(
            workload,
            f"no parameter matches the group pattern '{unmatched[0]}': the model has {', '.join(names[:5])}{more}",
        )
    inputs, targets = data.train_inputs[:8], data.train_targets[:8]

    def update() -> None:
        torch_optimizer = optimizer.make(model, workload.learning_rate)
        workload.loss(model.train()(inputs), targets).mean().backward()
        torch_optimizer.step()

    _call(workload, f"one update with {optimizer.label}", update)


def _check_batch_sizes(workload: Workload, examples: int) -> None:
    if (largest := workload.batch_sizes[-1]) > examples:
        raise _error(workload, f"batch size {largest} is more than its {examples} training examples")


def _check_model(workload: Workload) -> nn.Module:
    model, again = (_call(workload, "model()", workload.initial_model, 0) for _ in range(2))
    if not isinstance(model, nn.Module):
        raise _error(workload, f"model() returns {type(model).__name__}: return a torch.nn.Module")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise _error(workload, "the model has no parameters to train")
    for parameter, repeated in zip(model.parameters(), again.parameters(), strict=False):
        if parameter is repeated:
            raise _error(workload, "model() returns the same model twice: make a new one at each call")
        if parameter.device.type != "cpu":
            raise _error(workload, f"the model is made on {parameter.device}: leave it on the CPU, backends move it")
        if not torch.isfinite(parameter).all():
            raise _error(workload, "the model's initial parameters are not finite")
        if parameter.shape != repeated.shape or not torch.equal(parameter, repeated):
            raise _error(workload, "model() differs for one seed: draw its parameters from torch's own generator")
    return model


def _check_outputs(workload: Workload, model: nn.Module, data: Data) -> None:
    inputs, targets = _probe_examples(data)
    model.eval()
    outputs = _call(workload, f"the model, given inputs {_kind(inputs)},", model, inputs)
    if not isinstance(outputs, Tensor):
        raise _error(workload, f"the model returns a {type(outputs).__name__}: return one tensor")
    if outputs.dim() == 0 or len(outputs) != len(inputs):
        raise _error(
            workload,
            f"the model returns shape {list(outputs.shape)} for a batch of {len(inputs)}: the first must be "
            "the batch",
        )
    if not torch.isfinite(outputs).all():
        raise _error(workload, "the model's outputs are not finite (NaN or infinite) at its initial parameters")
    _check_labels(workload, outputs, data)
    losses = _check_per_example(workload, "loss", workload.loss, outputs, targets)
    _check_per_example(workload, "score", workload.score, outputs, targets)
    _check_gradient(workload, model, losses)
    _check_independence(workload, model, inputs, targets, losses.detach())
    _check_device(workload, inputs)


def _probe_examples(data: Data) -> tuple[Tensor, Tensor]:
    """A few examples, including those with the smallest and the largest class number where targets have one."""
    indices = list(range(min(4, len(data.train_inputs))))
    if data.train_targets.dim() == 1:
        indices += [int(data.train_targets.argmin()), int(data.train_targets.argmax())]
    return data.train_inputs[indices], data.train_targets[indices]


def _check_labels(workload: Workload, outputs: Tensor, data: Data) -> None:
    if workload.loss is not cross_entropy or outputs.dim() < 2:
        return
    for split in SPLITS:
        targets = getattr(data, f"{split}_targets")
        if targets.is_floating_point():
            raise _error(workload, f"{split}_targets are {targets.dtype}: cross-entropy wants class numbers, int64")
        low, high, classes = int(targets.min()), int(targets.max()), outputs.shape[1]
        if low < 0 or high >= classes:
            raise _error(
                workload,
                f"{split}_targets range from {low} to {high}, but the model has {classes} outputs: "
                f"class numbers must lie between 0 and {classes - 1}",
            )


def _check_per_example(workload: Workload, name: str, function: Callable, outputs: Tensor, targets: Tensor) -> Tensor:
    values = _call(workload, f"the {name}", function, outputs, targets)
    if not isinstance(values, Tensor) or values.shape != (len(targets),):
        shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise _error(
            workload,
            f"the {name} returns {shape} for a batch of {len(targets)}: it must return one value per example, "
            f"[{len(targets)}] (for torch's losses: reduction='none')",
        )
    if not torch.isfinite(values).all():
        raise _error(workload, f"the {name} is not finite (NaN or infinite) at the initial parameters")
    return values


def _check_gradient(workload: Workload, model: nn.Module, losses: Tensor) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        gradients = torch.autograd.grad(losses.mean(), parameters, allow_unused=True)
    except RuntimeError as error:
        raise _error(workload, "the loss has no gradient: compute it from the model's outputs with torch") from error
    if any(gradient is None for gradient in gradients):
        raise _error(workload, "some parameters have no gradient: freeze them, or use them in forward()")


def _check_independence(
    workload: Workload, model: nn.Module, inputs: Tensor, targets: Tensor, losses: Tensor
) -> None:
    for i in range(len(inputs)):
        alone = _call(
            workload,
            "the model or the loss, given a batch of one example,",
            lambda i=i: workload.loss(model(inputs[i : i + 1]), targets[i : i + 1]),
        )
        if alone.shape != (1,) or not math.isclose(alone.item(), losses[i].item(), rel_tol=1e-2, abs_tol=1e-4):
            raise _error(
                workload,
                "an example's loss changes with the other examples of its batch: model and loss must treat each "
                "alone in evaluation mode",
            )


def _check_device(workload: Workload, inputs: Tensor) -> None:
    """Check on the meta device that forward() makes no tensor on the CPU."""
    model = workload.initial_model(0).to("meta").eval()
    try:
        outputs = model(inputs.to("meta"))
    except Exception as error:
        if re.search(r"\bdevices?\b.*\b(cpu|meta)\b|\bnot on the expected device\b", str(error)):
            raise _error(
                workload,
                "the model ignores its input's device: make new tensors in forward() with device=inputs.device",
            ) from error
        return
    if isinstance(outputs, Tensor) and outputs.device.type != "meta":
        raise _error(workload, "the model ignores its input's device: its outputs lie on another")
