"""Mistakes in a workload, each of which is reported in one line."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from suite.errors import UserError
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.workloads import find, fingerprint, names
from suite.workloads.check import load_checked
from suite.workloads.load import load_once
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


class InPlace(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs.mul_(2))


class Energy(nn.Module):
    """Minus the slope of a learned energy: the forward pass needs a gradient."""

    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1, bias=False))

    def forward(self, inputs):
        inputs = inputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.energy(inputs).sum(), inputs, create_graph=True)
        return -slope


class Partly(nn.Module):
    """A model with a layer that its outputs do not depend on."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.used(inputs)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3, sparse=True)

    def forward(self, inputs):
        return self.embedding(inputs[:, 0].abs().long().clamp(max=4))


def normed():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def outlier():
    """Inputs in which example 30 is very large."""
    inputs = blobs().train_inputs.clone()
    inputs[30] = 1e30
    return inputs


def exits():
    raise SystemExit(3)


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
    "a load() that exits": ({"load": exits}, r"load\(\) raises SystemExit: 3 \(SUITE_DEBUG=1 shows where\)$"),
    "sparse inputs": (
        with_data(train_inputs=blobs().train_inputs.to_sparse()),
        r"train_inputs is sparse \(sparse_coo\): make it dense, to_dense\(\)",
    ),
    "nested inputs": (
        with_data(train_inputs=torch.nested.nested_tensor(list(blobs().train_inputs))),
        "train_inputs is a nested tensor: pad it",
    ),
    "complex inputs": (
        with_data(test_inputs=blobs().test_inputs.to(torch.complex64)),
        "test_inputs is complex64: make it real",
    ),
    "inputs changed in place": ({"model": lambda: InPlace(4, 3)}, "the model changes its inputs in place: make new"),
    "outputs changed by the loss": ({"loss": lambda y, _: y.mul_(2).sum(1)}, "the loss changes its outputs in place"),
    "targets changed by the score": (
        {"score": lambda y, t: (y.argmax(1) == t.add_(1)).float()},
        "the score changes its targets in place",
    ),
    "dropout in evaluation": (
        {"model": lambda: Shape(lambda y: nn.functional.dropout(y, 0.5))},
        "the model is random in evaluation mode: give functional dropout training=self.training",
    ),
    "a random loss": ({"loss": lambda y, _: y.sum(1) + torch.rand(len(y))}, "the loss is random"),
    "a loss of whole numbers": ({"loss": lambda _, t: t}, "the loss returns torch.int64: it must return floating"),
    "a forward pass that needs gradients": (
        {"model": Energy, "loss": lambda y, _: y.square().sum(1), "score": lambda y, _: y.sum(1)},
        r"evaluated without gradients \(torch.enable_grad\(\) in forward\(\) allows them\), raises RuntimeError",
    ),
    "a layer that is not used": ({"model": Partly}, "the parameter unused.weight has no gradient: freeze it"),
    "lazy parameters": ({"model": lambda: nn.LazyLinear(3)}, "the parameter weight has no shape yet: name its sizes"),
    "a sparse gradient": ({"model": Words}, "the gradient of embedding.weight is sparse: .* sparse=False"),
    "an infinite loss of one example": (
        with_data(train_inputs=outlier()) | {"loss": lambda y, _: y.exp().sum(1)},
        "the loss of training example 30 is not finite",
    ),
    "batch norm and a batch of one": (
        {"model": normed},
        r"cannot be trained on a batch of one example \(ValueError: .*\): leave 1 out of batch_sizes",
    ),
    "batch norm and a last batch of one": (
        {"model": normed, "batch_sizes": (3, 13), "small": 3, "large": 13},
        "batch sizes 3, 13 leave a last batch of one of the 40 training examples, .*: load 39 training examples",
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_inputs_of_every_floating_dtype_pass_and_have_a_fingerprint(dtype):
    data = {f"{split}_inputs": getattr(blobs(), f"{split}_inputs").to(dtype) for split in ("train", "test")}
    workload = tiny(model=lambda: network().to(dtype), **with_data(**data))
    assert fingerprint(workload, load_checked(workload)) != fingerprint(tiny(), blobs())


def test_targets_may_be_true_or_false():
    targets = {f"{split}_targets": getattr(blobs(), f"{split}_targets") > 0 for split in ("train", "test")}
    loss = nn.functional.binary_cross_entropy_with_logits
    workload = tiny(
        model=lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)),
        loss=lambda y, t: loss(y, t.float(), reduction="none"),
        score=lambda y, t: ((y > 0) == t).float(),
        **with_data(**targets),
    )
    assert len(fingerprint(workload, load_checked(workload))) == 16


def test_a_model_with_batch_norm_passes_where_no_batch_has_one_example():
    load_checked(tiny(model=normed, batch_sizes=(4, 16), small=4, large=16))


def test_load_is_called_once_in_a_process():
    calls = []

    def load():
        calls.append(1)
        return blobs()

    workload = tiny(load=load)
    assert load_checked(workload) is load_checked(workload) is load_once(workload)
    assert len(calls) == 1
