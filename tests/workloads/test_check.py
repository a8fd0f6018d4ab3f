"""Mistakes in a workload, each of which is reported in one line."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from suite.errors import UserError
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.workloads import find, names
from suite.workloads.check import load_checked
from tests.conftest import blobs, network, tiny

NAN = torch.tensor(float("nan"))


def with_data(**changes):
    return {"load": lambda: replace(blobs(), **changes)}


def spoiled(name: str, value: float) -> dict:
    """The change of the data in which one value of `name` is replaced."""
    tensor = getattr(blobs(), name).clone()
    tensor.view(-1)[5] = value
    return with_data(**{name: tensor})


class MakesTensorsOnTheCpu(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.layer(inputs) + torch.ones(3)


class Shape(nn.Module):
    """A model whose outputs are reshaped by `change`."""

    def __init__(self, change):
        super().__init__()
        self.layer, self.change = nn.Linear(4, 3), change

    def forward(self, inputs):
        return self.change(self.layer(inputs))


SHARED = network()


def random_without_torch():
    import random

    model = network()
    with torch.no_grad():
        model[0].weight.fill_(random.SystemRandom().random())
    return model


def raises(*_):
    raise OSError("the disk is gone")


BROKEN = {
    "load raises": ({"load": raises}, "load\\(\\) raises OSError: the disk is gone"),
    "load returns a tuple": ({"load": lambda: (1, 2)}, "load\\(\\) returns tuple"),
    "NumPy instead of a tensor": (with_data(train_inputs=blobs().train_inputs.numpy()), "train_inputs is a ndarray"),
    "a list of targets": (with_data(test_targets=[1, 2]), "test_targets is a list"),
    "an empty training split": (
        with_data(train_inputs=torch.empty(0, 4), train_targets=torch.empty(0, dtype=torch.int64)),
        "train_inputs is empty",
    ),
    "an empty test split": (
        with_data(test_inputs=torch.empty(0, 4), test_targets=torch.empty(0, dtype=torch.int64)),
        "test_inputs is empty",
    ),
    "fewer targets than inputs": (
        with_data(train_targets=blobs().train_targets[:7]),
        "40 examples and train_targets 7",
    ),
    "NaN inputs": (spoiled("train_inputs", float("nan")), "train_inputs has values that are not finite .* in 1 ex"),
    "infinite test inputs": (spoiled("test_inputs", float("inf")), "test_inputs has values that are not finite"),
    "NaN targets": (with_data(train_targets=blobs().train_targets * NAN), "train_targets has values that are not"),
    "test examples of another shape": (with_data(test_inputs=torch.ones(20, 5)), "an example must look the same"),
    "test examples of another type": (
        with_data(test_inputs=blobs().test_inputs.double()),
        "float64 .* the same in both",
    ),
    "inputs that require a gradient": (
        with_data(train_inputs=blobs().train_inputs.clone().requires_grad_()),
        "requires a gradient",
    ),
    "double inputs for a float model": (
        with_data(train_inputs=blobs().train_inputs.double(), test_inputs=blobs().test_inputs.double()),
        "the model, given inputs float64 \\[N, 4\\], raises RuntimeError",
    ),
    "inputs of the wrong width": (
        with_data(train_inputs=torch.ones(40, 5), test_inputs=torch.ones(20, 5)),
        "the model, given inputs float32 \\[N, 5\\], raises RuntimeError",
    ),
    "a label too large": (
        spoiled("train_targets", 3),
        "train_targets range from 0 to 3, but the model has 3 outputs",
    ),
    "a negative label": (spoiled("train_targets", -1), "train_targets range from -1 to 2"),
    "a test label too large": (spoiled("test_targets", 9), "test_targets range from 0 to 9"),
    "labels that are fractions": (
        with_data(train_targets=blobs().train_targets.float(), test_targets=blobs().test_targets.float()),
        "cross-entropy wants class numbers",
    ),
    "a batch larger than the data": (
        {"batch_sizes": (1, 16, 64)},
        "batch size 64 is more than its 40 training examples",
    ),
    "a group of no parameter": (
        {"optimizer": adamw().group("*.bias", weight_decay=0).group("norm.*", weight_decay=0)},
        "no parameter matches the group pattern 'norm.\\*': the model has 0.weight, 0.bias, 2.weight, 2.bias$",
    ),
    "an optimizer that requires a closure": (
        {"optimizer": Optimizer.of(torch.optim.LBFGS)},
        "one update with LBFGS raises TypeError: .* 'closure'",
    ),
    "an optimizer of sparse gradients": (
        {"optimizer": Optimizer.of(torch.optim.SparseAdam)},
        "one update with SparseAdam raises RuntimeError: .* dense gradients",
    ),
    "an optimizer of matrices": (
        {"optimizer": Optimizer.of(torch.optim.Muon)},
        "one update with Muon raises ValueError: Muon only supports 2D parameters",
    ),
    "model raises": ({"model": raises}, "model\\(\\) raises OSError"),
    "model is a function": ({"model": lambda: torch.relu}, "model\\(\\) returns builtin_function_or_method"),
    "a model without parameters": ({"model": nn.Flatten}, "no parameters to train"),
    "the same model every time": ({"model": lambda: SHARED}, "returns the same model twice"),
    "a model of its own randomness": ({"model": random_without_torch}, "differs for one seed"),
    "outputs without a batch": ({"model": lambda: Shape(lambda y: y.sum())}, "returns shape \\[\\] for a batch of 6"),
    "outputs of the wrong length": (
        {"model": lambda: Shape(lambda y: y[:2])},
        "returns shape \\[2, 3\\] for a batch",
    ),
    "outputs in a tuple": ({"model": lambda: Shape(lambda y: (y, y))}, "returns a tuple"),
    "outputs that are NaN": ({"model": lambda: Shape(lambda y: y * NAN)}, "outputs are not finite"),
    "a loss that is one mean": ({"loss": nn.functional.cross_entropy}, "the loss returns \\[\\] .* reduction='none'"),
    "a loss of another shape": ({"loss": lambda y, _: y}, "the loss returns \\[6, 3\\]"),
    "a loss that is a number": ({"loss": lambda *_: 1.0}, "the loss returns float"),
    "a loss that raises": ({"loss": raises}, "the loss raises OSError"),
    "a loss that is NaN": ({"loss": lambda y, _: y.sum(1) * NAN}, "the loss is not finite"),
    "a loss without a gradient": ({"loss": lambda y, _: y.detach().sum(1)}, "the loss has no gradient"),
    "a loss that mixes examples": ({"loss": lambda y, _: y.sum(1) + y.sum()}, "changes with the other examples"),
    "a score that is one mean": (
        {"score": lambda y, t: (y.argmax(1) == t).float().mean()},
        "the score returns \\[\\]",
    ),
    "a parameter that is not used": (
        {"model": lambda: nn.ModuleList([nn.Linear(4, 3)]).extend([])},
        "the model, given inputs .* raises NotImplementedError",
    ),
    "a model that ignores its input's device": ({"model": MakesTensorsOnTheCpu}, "ignores its input's device"),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_workload_is_reported_in_one_line(changes, message):
    with pytest.raises(UserError, match=f"^workload tiny: .*{message}") as error:
        load_checked(tiny(**changes))
    assert "\n" not in str(error.value)


OPTIMIZERS = (
    sgd(weight_decay=0.1),
    sgd(momentum=0.9),
    sgd(momentum=0.9, nesterov=True),
    adam(),
    adamw().group("*.bias", weight_decay=0, lr_scale=2),
    Optimizer.of(torch.optim.RMSprop, momentum=0.9),
    Optimizer.of(torch.optim.AdamW, amsgrad=True),
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_every_optimizer_that_can_make_an_update_passes(optimizer):
    load_checked(tiny(optimizer=optimizer))


def test_an_optimizer_for_matrices_passes_with_a_model_of_matrices():
    load_checked(tiny(model=lambda: nn.Linear(4, 3, bias=False), optimizer=Optimizer.of(torch.optim.Muon)))


def test_the_update_of_the_check_leaves_model_and_data_unchanged():
    workload = tiny(optimizer=sgd(momentum=0.9))
    before = [parameter.clone() for parameter in workload.initial_model(0).parameters()]
    data = load_checked(workload)
    assert all(map(torch.equal, workload.initial_model(0).parameters(), before))
    assert torch.equal(data.train_inputs, blobs().train_inputs)


def test_a_correct_workload_passes_and_its_data_is_returned():
    assert torch.equal(load_checked(tiny()).train_inputs, blobs().train_inputs)


@pytest.mark.parametrize("name", ["digits", "twenty"])
def test_built_in_workloads_pass(name):
    assert name in names()
    load_checked(find(name))
