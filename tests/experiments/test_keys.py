"""A cell's key depends on the values that determine the measurement, and on no name in the code.

A change of one of KEYS makes stored results unreadable. Raise the version of a measurement instead, on which no key
here depends.
"""

from dataclasses import fields, is_dataclass, replace
from typing import Any
from unittest import mock

import pytest
import torch

from suite.backends import BACKENDS
from suite.claims import all_claims, find
from suite.experiments.annealed_training import ANNEALED_TRAINING
from suite.experiments.cell import NO_BATCH_SIZE, Cell, Measurement, Scope
from suite.experiments.gradient_noise import GRADIENT_VARIANCE
from suite.experiments.minima_line import LINE
from suite.experiments.training import TRAINING
from suite.experiments.tuned_training import TUNED_TRAINING
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.studies import all_studies, studies_of
from suite.timing.quick_timings import THREADS
from suite.timing.timed import UPDATE_TIME
from suite.training.budgets import (
    CappedUpdates,
    EqualEpochs,
    EqualUpdates,
    ExpectedTarget,
    FixedUpdates,
    GrowingBatch,
    GrowingLengths,
    TargetLoss,
    TenthOfTraining,
)
from suite.training.learning_rate import (
    FIXED,
    AdamSde,
    ConstantHalfLife,
    Decayed,
    LinearWarmUp,
    RateRule,
    SquareRoot,
    Tuned,
)
from suite.training.protocol import Protocol
from tests.conftest import tiny
from tests.experiments.test_cell import key

BUDGETS = (
    EqualEpochs(5),
    GrowingBatch(10, factor=2, after=(3, 6, 8)),
    EqualUpdates(5, batch_size=32),
    TargetLoss(0.1, max_updates=2000),
    ExpectedTarget(0.1, max_updates=2000, first=100),
    TenthOfTraining(5, batch_size=32),
    CappedUpdates(5, batch_size=32, max_updates=2000),
    FixedUpdates(500),
    GrowingLengths(0.0125, tuning_loss=0.1, max_updates=2000),
)
RATE_RULES = (
    FIXED,
    SquareRoot(32),
    LinearWarmUp(32, epochs=0.25),
    AdamSde(32),
    ConstantHalfLife(32),
    Decayed(2, after=(3, 6, 8)),
    Tuned(),
)
OPTIMIZERS = (
    sgd(momentum=0.9, nesterov=True),
    adam(),
    adamw().group("*.bias", weight_decay=0.0, lr_scale=0.5),
    Optimizer.of(torch.optim.RMSprop, alpha=0.9),
)


def first_version(measurement: Measurement) -> Measurement:
    """The measurement by its own name, whatever its version is today."""
    return replace(measurement, version=1)


def training(protocol: Protocol, measurement: Measurement = TRAINING, **fields) -> Cell:
    return Cell(first_version(measurement), "digits", "cpu", 8, 10, protocol, **fields)


def with_budget(budget) -> Cell:
    return training(Protocol(0.1, budget))


def with_rule(rule: RateRule, optimizer: Optimizer | None = None) -> Cell:
    return training(Protocol(0.1, EqualEpochs(5), rule, optimizer or sgd()))


def with_optimizer(optimizer: Optimizer) -> Cell:
    return training(Protocol(0.1, EqualEpochs(5), optimizer=optimizer))


def timing(backend: str = "cpu", **fields) -> Cell:
    return Cell(first_version(UPDATE_TIME), "digits", backend, 8, 6, **fields)


CELLS = {
    "training": training(Protocol(0.1, EqualEpochs(5)), replicas_per_call=10),
    "tuned training": training(Protocol(0.1, EqualEpochs(5), Tuned()), TUNED_TRAINING, replicas_per_call=10),
    "epochs": with_budget(BUDGETS[0]),
    "growing batch": with_budget(BUDGETS[1]),
    "updates": with_budget(BUDGETS[2]),
    "target loss": with_budget(BUDGETS[3]),
    "expected target": with_budget(BUDGETS[4]),
    "tenth of training": with_budget(BUDGETS[5]),
    "fixed updates": with_budget(BUDGETS[7]),
    "growing lengths": training(Protocol(0.1, BUDGETS[8], Tuned(), annealed=True), ANNEALED_TRAINING),
    "square root": with_rule(RATE_RULES[1]),
    "linear with warm-up": with_rule(RATE_RULES[2]),
    "Adam SDE": with_rule(RATE_RULES[3], adam()),
    "constant half-life": with_rule(RATE_RULES[4], adamw()),
    "decayed": with_rule(RATE_RULES[5], sgd(momentum=0.9)),
    "parameter group": with_optimizer(adamw(weight_decay=0.1).group("*.bias", "norm.*", weight_decay=0.0)),
    "no stacked form": with_optimizer(Optimizer.of(torch.optim.Adadelta, rho=0.8)),
    "with replacement": training(Protocol(0.1, EqualEpochs(5), with_replacement=True)),
    "two batch sizes": training(Protocol(0.1, BUDGETS[3]), LINE, compared_with=1),
    "no batch size": replace(training(Protocol(0.1, BUDGETS[5]), GRADIENT_VARIANCE), batch_size=NO_BATCH_SIZE),
    "timing": timing("sequential", optimizer=adamw()),
    "timing with a DataLoader": timing(optimizer=sgd(), input_pipeline="dataloader"),
}
KEYS = {
    "training": "e2f6c64d8e96c50b62a0",
    "tuned training": "34bf165bc7a1eee01e85",
    "epochs": "618285c76f62cbc852c2",
    "growing batch": "37667aa79ccf4b95c578",
    "updates": "324c66b4648ca94f06b3",
    "target loss": "f1f08b2c5964227d8ea3",
    "expected target": "a42e142ffeaba0c444e5",
    "tenth of training": "e28618687f26403e527c",
    "fixed updates": "0fceac45906dc0b3ce00",
    "growing lengths": "608689c8297bd3449b74",
    "square root": "bb1b9696e129b2c8d279",
    "linear with warm-up": "69abffd971fb4a40e69f",
    "Adam SDE": "8690a5531876a08eee27",
    "constant half-life": "dfeb6338449e49344750",
    "decayed": "e8ce88b4924819ca9787",
    "parameter group": "4ae3f34591d3f40a1be3",
    "no stacked form": "f151d1888e74328015bf",
    "with replacement": "b123af34d3ac9f2812b0",
    "two batch sizes": "329862e8ced6503635b1",
    "no batch size": "e2286e41311a80c230c1",
    "timing": "2ad2db5f412a5c85983b",
    "timing with a DataLoader": "34ef3cdee86476b7858c",
}
KEY_OF_BASE_SEED_1 = "2e813d18d01e36eac0c2"


@pytest.mark.parametrize("name", CELLS)
def test_the_keys_of_stored_cells_stay_as_they_are(name):
    assert key(CELLS[name]) == KEYS[name]


def test_the_key_of_another_base_seed_stays_as_it_is():
    assert key(CELLS["training"], base_seed=1) == KEY_OF_BASE_SEED_1


def test_different_cells_have_different_keys():
    assert len({*KEYS.values(), KEY_OF_BASE_SEED_1}) == len(KEYS) + 1


def test_the_names_of_measurements_stay_as_they_are():
    """A key holds the name."""
    planned = (cell for part in (*all_claims(), *all_studies()) for cell in part.cells(tiny(), SCOPE))
    assert {THREADS.name, *(cell.measurement.name for cell in planned)} == {
        "annealed_training",
        "ball_ends",
        "ball_phases",
        "ball_rolling",
        "edge_of_stability",
        "epoch_time",
        "escape_times",
        "gradient_noise",
        "gradient_variance",
        "leaving",
        "line",
        "noise_scale",
        "path",
        "sharpness",
        "standstill",
        "surface",
        "threads",
        "training",
        "tuned_training",
        "update_time",
        "weighted_sum",
    }


def renamed(value: Any) -> Any:
    """The same value, of classes with other names."""
    if isinstance(value, tuple):
        return tuple(map(renamed, value))
    if not is_dataclass(value):
        return value
    renamed_type = type("Renamed", (type(value),), {"__module__": "elsewhere"})
    return renamed_type(**{field.name: renamed(getattr(value, field.name)) for field in fields(value)})


@pytest.mark.parametrize("name", CELLS)
def test_renaming_a_class_changes_no_key(name):
    cell = renamed(CELLS[name])
    assert type(cell).__name__ == type(cell.measurement).__name__ == "Renamed"
    assert key(cell) == KEYS[name]


CLASSES = {type(value) for value in (*BUDGETS, *RATE_RULES)} | {Cell, Measurement, Protocol, Optimizer}


@pytest.mark.parametrize("name", CELLS)
def test_rewording_texts_changes_no_key(name, monkeypatch):
    for each in CLASSES:
        for method in ("__str__", "__repr__", "describe"):
            monkeypatch.setattr(each, method, lambda *_: "reworded", raising=False)
    assert str(CELLS[name].protocol or CELLS[name].optimizer) == "reworded"
    assert key(CELLS[name]) == KEYS[name]


def another(value: Any) -> Any:
    """A value that differs from `value`, of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value, another(value[-1]))
    return 2 * value + 1


FIELDS = [(value, field.name) for value in (*BUDGETS, *RATE_RULES) for field in fields(value)]


@pytest.mark.parametrize(("value", "name"), FIELDS, ids=lambda value: str(value).replace(" ", "_"))
def test_the_key_changes_with_each_number_of_a_budget_and_of_a_rate_rule(value, name):
    cell_with = with_rule if isinstance(value, RateRule) else with_budget
    changed = replace(value, **{name: another(getattr(value, name))})
    assert key(cell_with(changed)) != key(cell_with(value))


@pytest.mark.parametrize(("cell_with", "values"), [(with_budget, BUDGETS), (with_rule, RATE_RULES)])
def test_budgets_and_rate_rules_with_the_same_numbers_have_different_keys(cell_with, values):
    assert len({key(cell_with(value)) for value in values}) == len(values)


def test_the_key_changes_with_the_least_beta2_of_the_rules_that_have_one():
    rules = (AdamSde(32), ConstantHalfLife(32))
    keys = {key(with_rule(rule, adamw())) for rule in rules}
    assert not {key(with_rule(replace(rule, least_beta2=0.8), adamw())) for rule in rules} & keys


HYPERPARAMETERS = [(optimizer, name) for optimizer in OPTIMIZERS for name, _ in optimizer.hyperparameters]


@pytest.mark.parametrize(("optimizer", "name"), HYPERPARAMETERS, ids=lambda value: str(value).replace(" ", "_"))
def test_the_key_changes_with_each_hyperparameter(optimizer, name):
    changed = optimizer.changed(**{name: another(optimizer.get(name))})
    assert key(with_optimizer(changed)) != key(with_optimizer(optimizer))
    assert key(timing(optimizer=changed)) != key(timing(optimizer=optimizer))


def test_the_key_changes_with_the_class_of_the_optimizer():
    same = (adam(weight_decay=0.1), adamw(weight_decay=0.1), Optimizer.of(torch.optim.RMSprop, weight_decay=0.1))
    assert len({key(with_optimizer(optimizer)) for optimizer in same}) == len(same)


def test_the_key_changes_with_the_fields_of_a_parameter_group():
    groups = (
        {"patterns": ["*.bias"]},
        {"patterns": ["*.weight"]},
        {"patterns": ["*.bias", "*.weight"]},
        {"patterns": ["*.bias"], "weight_decay": 0.0},
        {"patterns": ["*.bias"], "lr_scale": 0.5},
    )
    optimizers = [adamw(), *(adamw().group(*group.pop("patterns"), **group) for group in groups)]
    assert len({key(with_optimizer(optimizer)) for optimizer in optimizers}) == len(optimizers)


@pytest.mark.parametrize("change", [{"learning_rate": 0.2}, {"with_replacement": True}])
def test_the_key_changes_with_the_rate_and_with_the_way_batches_are_drawn(change):
    protocol = Protocol(0.1, EqualEpochs(5))
    assert key(training(replace(protocol, **change))) != key(training(protocol))


def test_a_whole_number_and_the_same_number_with_a_point_have_one_key():
    assert key(training(Protocol(1, TargetLoss(2, 9)))) == key(training(Protocol(1.0, TargetLoss(2.0, 9))))
    assert key(with_optimizer(sgd(momentum=0))) == key(with_optimizer(sgd(momentum=0.0)))


SCOPE = Scope((1, 4, 16), (1, 4, 16), (1, 4, 16), 3, 2, tuple(BACKENDS), training_backend="cpu", factorial=True)


@pytest.mark.parametrize("claim", ["update_sequential", "update_parallel", "epoch_time", "momentum_speed_up"])
def test_timings_of_workloads_with_different_optimizers_have_different_keys(claim):
    parts = (find(claim), *studies_of(claim))
    plain, momentum, adaptive = (
        {
            key(cell)
            for part in parts
            for cell in part.cells(tiny(optimizer=optimizer), SCOPE)
            if cell.measurement.timed
        }
        for optimizer in (sgd(), sgd(momentum=0.9), adamw())
    )
    assert plain
    assert plain.isdisjoint(momentum)
    assert adaptive.isdisjoint(plain | momentum)


def test_the_key_of_a_cell_that_goes_through_several_batch_sizes_changes_with_them():
    threads = [Cell(THREADS, "digits", "cpu", NO_BATCH_SIZE, 1, batch_sizes=sizes) for sizes in ((1, 4), (1, 8))]
    assert len(set(map(key, threads))) == 2


def test_a_training_that_had_no_device_is_measured_once_there_is_one():
    absent = mock.Mock(type="cuda", unavailable=lambda: "no such device")
    present = mock.Mock(type="cuda", unavailable=lambda: None)
    fields = [with_budget(EqualEpochs(5)).key_fields("f", device, 0)["device"] for device in (absent, present)]
    assert fields == ["none", "cuda"]
