"""Checks of a workload before it is measured. Each mistake is reported in one line."""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from suite import seeds
from suite.workloads.batch_of_one import batch_of_one_problem, meets_batch_of_one
from suite.workloads.calls import call, refusal
from suite.workloads.check_data import SPLITS, check_data, kind_of
from suite.workloads.chunks import chunks, values_of_an_example
from suite.workloads.data import Data
from suite.workloads.load import load_once
from suite.workloads.workload import Workload, cross_entropy


def load_checked(workload: Workload) -> Data:
    """Check the workload's data, model, loss, score and optimizer, and return the data.

    Raises UserError with the first problem.
    """
    data = call(workload, "load()", load_once, workload)
    check_data(workload, data)
    _check_batch_sizes(workload, len(data.train_inputs))
    model = _check_model(workload)
    _check_outputs(workload, model, data)
    _check_every_example(workload, model, data)
    _check_training(workload, data)
    _check_optimizer(workload, workload.initial_model(0), data)
    return data


def _check_optimizer(workload: Workload, model: nn.Module, data: Data) -> None:
    """Check that the optimizer can update the workload's model."""
    optimizer = workload.optimizer
    if unmatched := optimizer.unmatched(model):
        names = [name for name, _ in model.named_parameters()]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise refusal(
            workload,
            f"no parameter matches the group pattern '{unmatched[0]}': the model has {', '.join(names[:5])}{more}",
        )
    inputs, targets = data.train_inputs[:8], data.train_targets[:8]

    def update() -> None:
        torch_optimizer = optimizer.make(model, workload.learning_rate)
        workload.loss(model.train()(inputs), targets).mean().backward()
        torch_optimizer.step()

    call(workload, f"one update with {optimizer.label}", update)


def _check_batch_sizes(workload: Workload, examples: int) -> None:
    if (largest := workload.batch_sizes[-1]) > examples:
        raise refusal(workload, f"batch size {largest} is more than its {examples} training examples: leave it out")


def _check_model(workload: Workload) -> nn.Module:
    model, again = (call(workload, "model()", workload.initial_model, 0) for _ in range(2))
    if not isinstance(model, nn.Module):
        raise refusal(workload, f"model() returns {type(model).__name__}: return a torch.nn.Module")
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise refusal(workload, f"the parameter {name} has no shape yet: name its sizes instead of a lazy module")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise refusal(workload, "the model has no parameters to train: leave requires_grad of some on")
    for parameter, repeated in zip(model.parameters(), again.parameters(), strict=False):
        if parameter is repeated:
            raise refusal(workload, "model() returns the same model twice: make a new one at each call")
        if parameter.device.type != "cpu":
            raise refusal(workload, f"the model is made on {parameter.device}: leave it on the CPU, backends move it")
        if not torch.isfinite(parameter).all():
            raise refusal(workload, "the model's initial parameters are not finite: draw finite ones in model()")
        if parameter.shape != repeated.shape or not torch.equal(parameter, repeated):
            raise refusal(workload, "model() differs for one seed: draw its parameters from torch's own generator")
    return model


def _check_outputs(workload: Workload, model: nn.Module, data: Data) -> None:
    inputs, targets = _probe_examples(data)
    model.eval()
    outputs = _unchanging(workload, f"the model, given inputs {kind_of(inputs)},", model, inputs=inputs)
    if not isinstance(outputs, Tensor):
        raise refusal(workload, f"the model returns a {type(outputs).__name__}: return one tensor")
    if outputs.dim() == 0 or len(outputs) != len(inputs):
        raise refusal(
            workload,
            f"the model returns shape {list(outputs.shape)} for a batch of {len(inputs)}: the first must be "
            "the batch",
        )
    if not torch.isfinite(outputs).all():
        raise refusal(
            workload,
            "the model's outputs are not finite (NaN or infinite) at its initial parameters: scale its inputs or its "
            "parameters",
        )
    _check_repeats(
        workload,
        "the model is random in evaluation mode: give functional dropout training=self.training, or use nn.Dropout",
        outputs,
        call(workload, "the model, called again,", model, inputs),
    )
    with torch.no_grad():
        call(
            workload,
            "the model, evaluated without gradients (torch.enable_grad() in forward() allows them),",
            model,
            inputs,
        )
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
        numbers = data.train_targets.double()
        indices += [int(numbers.argmin()), int(numbers.argmax())]
    return data.train_inputs[indices], data.train_targets[indices]


def _check_labels(workload: Workload, outputs: Tensor, data: Data) -> None:
    if workload.loss is not cross_entropy or outputs.dim() < 2:
        return
    for split in SPLITS:
        targets = getattr(data, f"{split}_targets")
        if targets.is_floating_point():
            raise refusal(workload, f"{split}_targets are {targets.dtype}: cross-entropy wants class numbers, int64")
        low, high, classes = int(targets.min()), int(targets.max()), outputs.shape[1]
        if low < 0 or high >= classes:
            raise refusal(
                workload,
                f"{split}_targets range from {low} to {high}, but the model has {classes} outputs: "
                f"class numbers must lie between 0 and {classes - 1}",
            )


def _check_per_example(workload: Workload, name: str, function: Callable, outputs: Tensor, targets: Tensor) -> Tensor:
    values = _unchanging(workload, f"the {name}", function, outputs=outputs, targets=targets)
    if isinstance(values, Tensor) and name == "loss" and not values.is_floating_point():
        raise refusal(workload, f"the loss returns {values.dtype}: it must return floating-point numbers")
    if not isinstance(values, Tensor) or values.shape != (len(targets),):
        shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise refusal(
            workload,
            f"the {name} returns {shape} for a batch of {len(targets)}: it must return one value per example, "
            f"[{len(targets)}] (for torch's losses: reduction='none')",
        )
    if not torch.isfinite(values).all():
        raise refusal(
            workload,
            f"the {name} is not finite (NaN or infinite) at the initial parameters: avoid divisions by zero and "
            "logarithms of zero",
        )
    again = call(workload, f"the {name}, called again,", function, outputs, targets)
    _check_repeats(workload, f"the {name} is random: it must depend on outputs and targets alone", values, again)
    return values


def _unchanging(workload: Workload, description: str, function: Callable, **arguments: Tensor):
    """Call `function` with copies of `arguments`. Raises UserError where it changes one of them in place."""
    copies = {name: argument.clone() for name, argument in arguments.items()}
    values = call(workload, description, function, *copies.values())
    for name, argument in arguments.items():
        if not torch.equal(copies[name], argument):
            raise refusal(
                workload,
                f"{description.partition(',')[0]} changes its {name} in place: make new tensors, such as x.div(2) "
                "for x.div_(2)",
            )
    return values


def _check_repeats(workload: Workload, problem: str, values: Tensor, again: Tensor) -> None:
    if not torch.allclose(values.double(), again.double(), rtol=1e-3, atol=1e-6):
        raise refusal(workload, problem)


def _check_gradient(workload: Workload, model: nn.Module, losses: Tensor) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not losses.requires_grad:
        raise refusal(workload, "the loss has no gradient: compute it from the model's outputs with torch")
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    gradients = call(
        workload, "the backward pass", lambda: torch.autograd.grad(losses.mean(), parameters, allow_unused=True)
    )
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is None:
            raise refusal(workload, f"the parameter {name} has no gradient: freeze it, or use it in forward()")
        if gradient.layout != torch.strided:
            raise refusal(workload, f"the gradient of {name} is sparse: make its layer with sparse=False")
        if not torch.isfinite(gradient).all():
            raise refusal(
                workload,
                f"the gradient of {name} is not finite (NaN or infinite) at the initial parameters: avoid roots and "
                "logarithms of zero",
            )


def _check_independence(
    workload: Workload, model: nn.Module, inputs: Tensor, targets: Tensor, losses: Tensor
) -> None:
    for i in range(len(inputs)):
        alone = call(
            workload,
            "the model or the loss, given a batch of one example,",
            lambda i=i: workload.loss(model(inputs[i : i + 1]), targets[i : i + 1]),
        )
        tolerance = max(1e-2, 8 * torch.finfo(losses.dtype).eps)
        if alone.shape != (1,) or not math.isclose(alone.item(), losses[i].item(), rel_tol=tolerance, abs_tol=1e-4):
            raise refusal(
                workload,
                "an example's loss changes with the other examples of its batch: model and loss must treat each "
                "alone in evaluation mode",
            )


@torch.no_grad()
def _check_every_example(workload: Workload, model: nn.Module, data: Data) -> None:
    """Check that loss and score are finite for every example, at the initial parameters."""
    for split in SPLITS:
        inputs, targets = getattr(data, f"{split}_inputs"), getattr(data, f"{split}_targets")
        bad = {"loss": [], "score": []}
        for chunk_inputs, chunk_targets in chunks(inputs, targets, values_of_an_example(workload, inputs)):
            outputs = call(workload, f"the model, given {split}_inputs,", model, chunk_inputs)
            for name, function in (("loss", workload.loss), ("score", workload.score)):
                values = call(workload, f"the {name}, given {split}_targets,", function, outputs, chunk_targets)
                bad[name].append(~torch.isfinite(values))
        for name, parts in bad.items():
            if places := torch.cat(parts).nonzero().flatten().tolist():
                kind = {"train": "training", "test": "test"}[split]
                more = f" and {len(places) - 1} more" if len(places) > 1 else ""
                raise refusal(
                    workload,
                    f"the {name} of {kind} example {places[0]}{more} is not finite (NaN or infinite) at the initial "
                    "parameters: leave the example out, or mend its target",
                )


def _check_training(workload: Workload, data: Data) -> None:
    """Check that a training can make an update from every batch that it will meet, the last one of an epoch too."""
    inputs, targets = data.train_inputs, data.train_targets

    def forward(examples: int) -> None:
        with seeds.torch_seeded("check"):
            workload.loss(workload.initial_model(0).train()(inputs[:examples]), targets[:examples]).mean().backward()

    few = min(8, len(inputs))
    call(workload, "the model or the loss, in training mode,", forward, few)
    if (reason := batch_of_one_problem(workload, data)) is None:
        return
    remedy = "or use a normalisation that needs no batch, such as nn.GroupNorm"
    if workload.batch_sizes[0] == 1:
        raise refusal(
            workload,
            f"the model cannot be trained on a batch of one example ({reason}): leave 1 out of batch_sizes, {remedy}",
        )
    lonely = [size for size in workload.batch_sizes if meets_batch_of_one(size, len(inputs))]
    if lonely:
        raise refusal(
            workload,
            f"batch sizes {', '.join(map(str, lonely))} leave a last batch of one of the {len(inputs)} training "
            f"examples, and the model cannot be trained on it ({reason}): load {len(inputs) - 1} training examples, "
            f"{remedy}",
        )


def _check_device(workload: Workload, inputs: Tensor) -> None:
    """Check on the meta device that forward() makes no tensor on the CPU."""
    model = workload.initial_model(0).to("meta").eval()
    try:
        outputs = model(inputs.to("meta"))
    except Exception as error:
        if re.search(r"\bdevices?\b.*\b(cpu|meta)\b|\bnot on the expected device\b", str(error)):
            raise refusal(
                workload,
                "the model ignores its input's device: make new tensors in forward() with device=inputs.device",
            ) from error
        return
    if isinstance(outputs, Tensor) and outputs.device.type != "meta":
        raise refusal(workload, "the model ignores its input's device: its outputs lie on another")
