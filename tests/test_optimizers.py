"""Optimizers: every stacked form against the torch optimizer, update by update, and rejected settings."""

import json
import pickle
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from suite.errors import UserError, last_line
from suite.optimizers import Optimizer, adam, adamw, set_learning_rate, sgd
from suite.optimizers.forms import FORMS
from suite.training.ensemble import Ensemble
from tests.conftest import network, tiny

UPDATES, REPLICAS, BATCH_SIZE = 50, 3, 8
OPTIMIZERS = {
    "sgd": (0.1, sgd()),
    "sgd, weight decay": (0.1, sgd(weight_decay=0.1)),
    "momentum": (0.03, sgd(momentum=0.9)),
    "momentum, weight decay": (0.03, sgd(momentum=0.9, weight_decay=0.1)),
    "momentum, dampening": (0.1, sgd(momentum=0.9, dampening=0.5)),
    "nesterov": (0.03, sgd(momentum=0.9, nesterov=True, weight_decay=0.01)),
    "adam": (0.01, adam()),
    "adam, weight decay": (0.01, adam(betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)),
    "adamw": (0.01, adamw()),
    "adamw, weight decay": (0.01, adamw(betas=(0.8, 0.99), weight_decay=0.3)),
    "sgd, groups": (0.1, sgd(momentum=0.5, weight_decay=0.1).group("*.bias", weight_decay=0, lr_scale=2)),
    "adamw, groups": (0.01, adamw(weight_decay=0.3).group("0.*", betas=(0.5, 0.9)).group("*.bias", weight_decay=0)),
}


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3, bias=False))


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))


MODELS = {"linear": network, "layer norm": normalised, "convolution": convolutional}


def rate_of(rate: float, changing: bool, update: int) -> float:
    """A constant learning rate, or one that falls to a tenth and rises again."""
    return rate * (1 - 0.9 * abs(update % 20 - 10) / 10) if changing else rate


def plain_parameters(
    workload, rate: float, changing: bool, indices: torch.Tensor, replica: int
) -> dict[str, torch.Tensor]:
    """The parameters of one replica after its batches `indices` [UPDATES, B], with the torch optimizer."""
    data, model = workload.load(), workload.initial_model(replica)
    optimizer = workload.optimizer.make(model, rate)
    for update, batch in enumerate(indices):
        set_learning_rate(optimizer, rate_of(rate, changing, update))
        optimizer.zero_grad()
        workload.loss(model(data.train_inputs[batch]), data.train_targets[batch]).mean().backward()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def trained_ensemble(
    workload, rate: float, changing: bool, indices: torch.Tensor, compiled: bool = False
) -> Ensemble:
    """The ensemble of all replicas after their batches `indices` [UPDATES, R, B]."""
    data = workload.load()
    ensemble = Ensemble(workload, range(REPLICAS), rate)
    if compiled:
        ensemble.compile(data.train_inputs, data.train_targets, BATCH_SIZE)
        assert ensemble.compiled_for(BATCH_SIZE)
    for update, batches in enumerate(indices):
        ensemble.learning_rates.fill_(rate_of(rate, changing, update))
        ensemble.update(data.train_inputs, data.train_targets, batches)
    return ensemble


def assert_follows_torch(workload, rate: float, changing: bool, compiled: bool = False) -> None:
    generator = torch.Generator().manual_seed(3)
    indices = torch.randint(40, (UPDATES, REPLICAS, BATCH_SIZE), generator=generator)
    ensemble = trained_ensemble(workload, rate, changing, indices, compiled)
    for replica in range(REPLICAS):
        plain = plain_parameters(workload, rate, changing, indices[:, replica], replica)
        for name, expected in plain.items():
            parameter = ensemble.parameters[name][replica]
            assert (parameter - expected).norm() <= 1e-5 * expected.norm(), (name, replica)


@pytest.mark.parametrize("changing", [False, True], ids=["constant rate", "changing rate"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fifty_updates_of_an_ensemble_equal_those_of_torch(name, model, changing):
    rate, optimizer = OPTIMIZERS[name]
    assert_follows_torch(tiny(model=MODELS[model], optimizer=optimizer), rate, changing)


@pytest.mark.parametrize("name", ["momentum, dampening", "adam, weight decay", "adamw, groups"])
def test_fifty_updates_of_a_compiled_ensemble_equal_those_of_torch(name):
    rate, optimizer = OPTIMIZERS[name]
    assert_follows_torch(tiny(optimizer=optimizer), rate, changing=True, compiled=True)


def test_the_comparison_detects_a_different_weight_decay():
    workload = tiny(optimizer=adamw(weight_decay=0.3))
    indices = torch.randint(40, (UPDATES, REPLICAS, BATCH_SIZE), generator=torch.Generator().manual_seed(3))
    ensemble = trained_ensemble(tiny(optimizer=adamw(weight_decay=0.299)), 0.01, False, indices)
    expected = plain_parameters(workload, 0.01, False, indices[:, 0], 0)["0.weight"]
    assert (ensemble.parameters["0.weight"][0] - expected).norm() > 1e-5 * expected.norm()


def test_every_form_is_compared():
    assert {optimizer.name for _, optimizer in OPTIMIZERS.values()} == set(FORMS)


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_names_and_defaults_are_those_of_torch(form):
    optimizer = Optimizer.of(form.torch_class)
    (group,) = optimizer.make(network(), 0.1).param_groups
    assert optimizer.form is form
    assert {name: group[name] for name in form.defaults} == dict(form.defaults)


def test_a_torch_class_equals_its_short_name():
    assert Optimizer.of(torch.optim.SGD, momentum=0.9) == sgd(momentum=0.9)
    assert Optimizer.of(torch.optim.Adam) == adam()
    assert Optimizer.of(torch.optim.AdamW, weight_decay=0.1) == adamw(weight_decay=0.1)


def local() -> type[torch.optim.Optimizer]:
    class Own(torch.optim.SGD):
        pass

    return Own


REJECTED = {
    "a beta of 1": (lambda: adamw(betas=(0.9, 1.0)), "optimizer AdamW: Invalid beta parameter at index 1: 1.0"),
    "a negative weight decay": (lambda: adam(weight_decay=-1.0), "Invalid weight_decay value: -1.0"),
    "a negative momentum": (lambda: sgd(momentum=-0.1), "Invalid momentum value: -0.1"),
    "momentum without end": (
        lambda: sgd(momentum=1.0),
        "with momentum 1.0 the movement grows without end: give less than 1",
    ),
    "Nesterov without momentum": (lambda: sgd(nesterov=True), "Nesterov momentum requires a momentum"),
    "a momentum that is NaN": (lambda: sgd(momentum=float("nan")), "momentum is nan: give a finite number"),
    "a tensor": (lambda: sgd(weight_decay=torch.tensor(0.1)), "weight_decay is a Tensor: give a number"),
    "an unknown name": (lambda: Optimizer.of(torch.optim.Adagrad, beta=0.9), "unexpected keyword argument 'beta'"),
    "a learning rate": (lambda: Optimizer.of(torch.optim.Adagrad, lr=0.1), "leave out lr"),
    "no class": (lambda: Optimizer.of("adam"), "give one such as torch.optim.RMSprop"),
    "no optimizer": (lambda: Optimizer.of(nn.Linear), "not a class of optimizers"),
    "a group's unknown name": (lambda: adamw().group("*.bias", decay=0.0), "unexpected keyword argument 'decay'"),
    "a group's wrong value": (lambda: adamw().group("*.bias", weight_decay=-1.0), "Invalid weight_decay value"),
    "a group's negative rate": (lambda: sgd().group("*.bias", lr_scale=-1), "lr_scale must be a number of 0 or more"),
    "a group's learning rate": (lambda: sgd().group("*.bias", lr=0.1), "a group has no lr; give lr_scale"),
    "a class that no other process finds": (lambda: Optimizer.of(local()), "define the class at the top of its file"),
    "a group of nothing": (lambda: sgd().group(weight_decay=0.1), "needs patterns of parameter names"),
}


@pytest.mark.parametrize(("make", "message"), REJECTED.values(), ids=REJECTED)
def test_wrong_settings_are_rejected_in_one_line(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_equal_after_pickling_and_from_its_key_fields(name):
    optimizer = OPTIMIZERS[name][1]
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer
    assert Optimizer.from_key_fields(json.loads(json.dumps(optimizer.key_fields()))) == optimizer


def test_groups_become_parameter_groups_of_torch():
    optimizer = adamw(weight_decay=0.3).group("0.*", lr_scale=0.5).group("*.bias", weight_decay=0)
    rest, first, biases = optimizer.make(network(), 0.1).param_groups
    assert [len(group["params"]) for group in (rest, first, biases)] == [1, 2, 1]
    assert [group["lr"] for group in (rest, first, biases)] == [0.1, 0.05, 0.1]
    assert [group["weight_decay"] for group in (rest, first, biases)] == [0.3, 0.3, 0.0]


def test_an_unknown_class_is_constructed_as_given_and_has_no_stacked_form():
    optimizer = Optimizer.of(torch.optim.Adadelta, rho=0.8, weight_decay=0.5)
    made = optimizer.make(network(), 0.01)
    assert type(made) is torch.optim.Adadelta
    assert [made.param_groups[0][name] for name in ("lr", "rho", "weight_decay")] == [0.01, 0.8, 0.5]
    assert (optimizer.form, optimizer.momentum, optimizer.plain_sgd) == (None, None, False)
    assert str(optimizer) == "Adadelta, rho 0.8, weight_decay 0.5"
    assert Optimizer.of(torch.optim.AdamW, amsgrad=True).form is None


@pytest.mark.parametrize(
    ("optimizer", "momentum", "gain"),
    [
        (sgd(), 0.0, 1),
        (sgd(momentum=0.9), 0.9, 10),
        (adam(), 0.9, 1),
        (adamw(betas=(0.5, 0.9)), 0.5, 1),
    ],
    ids=str,
)
def test_the_momentum_gain_is_the_ratio_of_the_last_to_the_first_step_along_a_constant_gradient(
    optimizer, momentum, gain
):
    assert optimizer.momentum == momentum
    assert optimizer.momentum_gain == pytest.approx(gain)
    parameter = nn.Linear(1, 1, bias=False).double()
    made, steps = optimizer.changed(weight_decay=0).make(parameter, 0.1), []
    for _ in range(2000):
        parameter.weight.grad = torch.ones(1, 1, dtype=torch.float64)
        before = parameter.weight.item()
        made.step()
        steps.append(before - parameter.weight.item())
    assert steps[-1] / steps[0] == pytest.approx(gain, rel=1e-6)


def test_dampening_shortens_the_steps_that_momentum_lengthens():
    assert sgd(momentum=0.9, dampening=0.9).momentum_gain == pytest.approx(1)
    assert sgd(momentum=0.9, dampening=0.5).momentum_gain == pytest.approx(5)


def test_the_defaults_of_a_class_without_a_stacked_form_are_part_of_its_key():
    adadelta = Optimizer.of(torch.optim.Adadelta, rho=0.8)
    assert {"eps", "weight_decay"} <= dict(adadelta.defaults).keys()
    assert not {"lr", "rho"} & dict(adadelta.defaults).keys()
    other = replace(adadelta, defaults=tuple((dict(adadelta.defaults) | {"eps": 1e-3}).items()))
    assert other.key_fields() != adadelta.key_fields()
    restored = Optimizer.from_key_fields(adadelta.key_fields())
    assert (restored.key_fields(), str(restored)) == (adadelta.key_fields(), str(adadelta))
    assert sgd().defaults == ()


def test_with_momentum_is_the_lectures_form():
    assert sgd(momentum=0.9, nesterov=True).with_momentum(0.8) == sgd(momentum=0.8)
    assert sgd(momentum=0.9, dampening=0.1).with_momentum(0.0) == sgd()
    assert adamw(betas=(0.9, 0.99), weight_decay=0.1).with_momentum(0.0) == adamw((0.0, 0.99), weight_decay=0.1)
    assert adamw().group("*.bias", betas=(0.5, 0.9)).momentum is None


def test_the_text_has_the_hyperparameters_that_differ_from_the_defaults():
    assert str(sgd()) == "SGD"
    assert str(adamw(betas=(0.9, 0.95), weight_decay=0.1)) == "AdamW, betas 0.9 and 0.95, weight_decay 0.1"
    assert (
        str(sgd(momentum=0.9).group("*.bias", "n.*", weight_decay=0, lr_scale=2))
        == "SGD, momentum 0.9, *.bias and n.* with learning rate times 2, weight_decay 0"
    )


def test_a_workload_rejects_the_name_of_an_optimizer():
    with pytest.raises(ValidationError) as error:
        tiny(optimizer="adam")
    assert last_line(error.value).startswith("Workload: optimizer is 'adam': give one of suite.optimizers")


def test_the_key_consists_of_plain_values():
    fields = adamw(weight_decay=0.1).group("*.bias", weight_decay=0).key_fields()
    assert fields == {
        "name": "adamw",
        "hyperparameters": [["betas", [0.9, 0.999]], ["eps", 1e-8], ["weight_decay", 0.1]],
        "groups": [{"patterns": ["*.bias"], "lr_scale": 1.0, "hyperparameters": [["weight_decay", 0.0]]}],
    }
    assert sgd(momentum=0) == sgd(momentum=0.0)
