"""Learning rates at every batch size, evaluation schedules, and the end of a training."""

import itertools
import json
import pickle
from dataclasses import replace

import pandas as pd
import pytest
from joblib.externals.loky.backend.reduction import dumps

from suite.optimizers import adam, adamw, sgd
from suite.training.budgets import (
    EqualEpochs,
    EqualUpdates,
    ExpectedTarget,
    GrowingBatch,
    TargetLoss,
    TenthOfTraining,
)
from suite.training.learning_rate import (
    FINE_SEARCH,
    FIXED,
    AdamSde,
    ConstantHalfLife,
    Decayed,
    LinearWarmUp,
    SquareRoot,
    Tuned,
)
from suite.training.protocol import Protocol
from tests.conftest import tiny


def test_equal_epochs_evaluate_after_every_epoch():
    assert list(EqualEpochs(3).checks(examples=20, batch_size=3)) == [0, 7, 14, 21]


def test_a_target_loss_is_evaluated_on_a_geometric_schedule_up_to_its_limit():
    checks = list(TargetLoss(0.1, max_updates=1000).checks(examples=20, batch_size=4))
    assert checks[:4] == [0, 1, 2, 3]
    assert checks[-1] == 1000
    assert all(after <= max(before + 1, 1.1 * before + 0.5) for before, after in itertools.pairwise(checks))
    assert all(after >= 1.1 * before - 0.5 for before, after in itertools.pairwise(checks[:-1]))
    assert checks == sorted(set(checks))


def test_the_last_evaluation_of_a_schedule_is_not_repeated():
    assert list(TargetLoss(0.1, max_updates=3).checks(examples=20, batch_size=4)) == [0, 1, 2, 3]


def test_a_target_that_is_expected_later_has_no_early_evaluations():
    every = list(TargetLoss(0.1, max_updates=1000).checks(examples=20, batch_size=4))
    later = list(ExpectedTarget(0.1, max_updates=1000, first=50).checks(examples=20, batch_size=4))
    assert later == [0, *(check for check in every if check >= 50)]
    assert list(ExpectedTarget(0.1, max_updates=1000).checks(examples=20, batch_size=4)) == every
    assert list(ExpectedTarget(0.1, max_updates=10, first=50).checks(examples=20, batch_size=4)) == [0, 10]


def test_a_target_is_reached_at_or_below_its_loss():
    target = TargetLoss(0.1, max_updates=10)
    assert target.reached(0.1)
    assert target.reached(0.05)
    assert not target.reached(0.11)
    assert not EqualEpochs(3).reached(0.0)


@pytest.mark.parametrize(("epochs", "batch_size", "updates"), [(10, 64, 22), (1, 1437, 1), (5, 10, 72)])
def test_a_tenth_of_training_is_at_least_one_update(epochs, batch_size, updates):
    assert TenthOfTraining(epochs, batch_size).updates(examples=1437) == updates


@pytest.mark.parametrize("dumps", [pickle.dumps, dumps], ids=["pickle", "joblib"])
@pytest.mark.parametrize("optimizer", [sgd(momentum=0.9), adamw().group("*.bias", weight_decay=0)], ids=str)
def test_a_protocol_is_equal_after_pickling(optimizer, dumps):
    protocol = Protocol(0.1, EqualUpdates(3, 4), Tuned(), optimizer)
    assert pickle.loads(dumps(protocol)) == protocol


@pytest.mark.parametrize(
    ("rule", "rates"),
    [
        (FIXED, {1: [0.1, 0.1, 0.1], 16: [0.1, 0.1, 0.1]}),
        (SquareRoot(4), {1: [0.05, 0.05, 0.05], 16: [0.2, 0.2, 0.2]}),
        (AdamSde(4), {1: [0.05, 0.05, 0.05], 16: [0.2, 0.2, 0.2]}),
        (ConstantHalfLife(4), {1: [0.1, 0.1, 0.1], 16: [0.1, 0.1, 0.1]}),
        (Decayed(2, (1, 2)), {1: [0.1, 0.1, 0.1], 16: [0.1, 0.1, 0.025]}),
        (LinearWarmUp(4, epochs=1), {1: [0.025, 0.025, 0.025], 16: [0.1, 0.2, 0.4]}),
    ],
)
def test_the_learning_rate_at_each_batch_size(rule, rates):
    """Learning rates after 0, 1 and 9 updates; an epoch of 48 examples is 3 updates with batches of 16."""
    protocol = Protocol(0.1, EqualEpochs(3), rule)
    for batch_size, expected in rates.items():
        assert [protocol.rate(48, batch_size, updates) for updates in (0, 1, 9)] == pytest.approx(expected)


CONSTANT = (FIXED, SquareRoot(4), AdamSde(4), ConstantHalfLife(4))


@pytest.mark.parametrize("rule", [*CONSTANT, LinearWarmUp(4, epochs=1.5), Decayed(2, (1, 2))])
@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_a_rule_knows_the_updates_at_which_its_rate_changes(rule, batch_size):
    protocol, per_epoch = Protocol(0.1, EqualEpochs(3), rule), -(-48 // batch_size)
    rates = [protocol.rate(48, batch_size, updates) for updates in range(3 * per_epoch)]
    for updates in range(1, 3 * per_epoch):
        if rates[updates] != rates[updates - 1]:
            assert rule.moves(updates, per_epoch)
    if rule in CONSTANT:
        assert not any(rule.moves(updates, per_epoch) for updates in range(3 * per_epoch))


def test_equal_updates_are_the_same_for_every_batch_size():
    budget = EqualUpdates(epochs=3, batch_size=16)
    for batch_size in (1, 16, 40):
        assert budget.expected_updates(40, batch_size) == 9
        assert list(budget.checks(40, batch_size))[-1] == 9


def test_a_growing_batch_is_evaluated_after_each_epoch():
    """20 examples in batches of 3, 6, 12 and 24, of which the last hold all examples."""
    budget = GrowingBatch(5, factor=2, after=(2, 3, 4))
    assert [budget.batch_size(3, epoch) for epoch in range(5)] == [3, 3, 6, 12, 24]
    assert list(budget.checks(20, 3)) == [0, 7, 14, 18, 20, 21]
    assert budget.expected_updates(20, 3) == 21
    protocol = Protocol(0.1, budget)
    assert protocol.epochs(pd.Series([0, 7, 16, 21]), 20, 3).tolist() == [0, 1, 2.5, 5]
    assert str(protocol) == "SGD, fixed rate 0.1, 5 epochs, batch size times 2 after 2, 3 and 4"


def test_keys_consist_of_plain_values():
    protocol = Protocol(0.1, EqualEpochs(5))
    options = [["dampening", 0.0], ["momentum", 0.0], ["nesterov", False], ["weight_decay", 0.0]]
    fields = {
        "learning_rate": 0.1,
        "budget": {"budget": "epochs", "epochs": 5},
        "rate_rule": {"rule": "fixed"},
        "optimizer": {"name": "sgd", "hyperparameters": options},
        "with_replacement": False,
    }
    assert protocol.key_fields() == fields
    replaced = replace(protocol, with_replacement=True)
    assert replaced.key_fields() == fields | {"with_replacement": True}
    assert str(replaced) == "SGD, fixed rate 0.1, 5 epochs, drawn with replacement"


BUDGETS = (
    EqualEpochs(5),
    EqualEpochs(6),
    GrowingBatch(5, 2, (2,)),
    GrowingBatch(5, 2, (2, 3)),
    EqualUpdates(5, 4),
    EqualUpdates(5, 8),
    TargetLoss(0.1, 50),
    TargetLoss(0.1, 60),
    ExpectedTarget(0.1, 50, first=5),
    TenthOfTraining(5, 4),
)
RATE_RULES = (
    FINE_SEARCH,
    FIXED,
    SquareRoot(4),
    SquareRoot(8),
    LinearWarmUp(4, 1),
    LinearWarmUp(4, 2),
    AdamSde(4),
    ConstantHalfLife(4),
    Decayed(2, (1, 2)),
    Tuned(),
    Tuned(seeds=4),
)
OPTIMIZERS = (
    sgd(),
    sgd(momentum=0.9),
    sgd(momentum=0.9, nesterov=True),
    sgd(weight_decay=0.1),
    adam(),
    adam(betas=(0.9, 0.99)),
    adamw(),
    adamw().group("*.bias", weight_decay=0),
    adamw().group("*.bias", lr_scale=2),
)


def test_every_setting_of_a_training_changes_its_key():
    protocols = [
        Protocol(rate, budget, rule, optimizer, with_replacement)
        for rate in (0.1, 0.2)
        for budget in BUDGETS
        for rule in RATE_RULES
        if rule == FIXED or not isinstance(budget, GrowingBatch)
        for optimizer in OPTIMIZERS
        for with_replacement in (False, True)
    ]
    assert len({protocol.key for protocol in protocols}) == len(protocols)
    for protocol in protocols[::50]:
        assert json.loads(json.dumps(protocol.key_fields())) == protocol.key_fields()


@pytest.mark.parametrize("rule", [SquareRoot(4), Decayed(2, (1,)), Tuned()])
def test_a_growing_batch_requires_a_fixed_rate(rule):
    with pytest.raises(ValueError, match="a growing batch needs a fixed rate"):
        Protocol(0.1, GrowingBatch(4, 2, (1,)), rule)


def test_integers_and_floats_of_equal_value_give_the_same_key():
    integers = Protocol(0.1, EqualEpochs(5), optimizer=sgd(momentum=0, weight_decay=1))
    floats = Protocol(0.1, EqualEpochs(5), optimizer=sgd(momentum=0.0, weight_decay=1.0))
    assert integers.key == floats.key


def test_the_protocol_of_a_workload_has_its_optimizer():
    workload = tiny(optimizer=adamw(betas=(0.8, 0.99)))
    assert Protocol.of(workload, EqualEpochs(3)) == Protocol(0.1, EqualEpochs(3), FIXED, adamw(betas=(0.8, 0.99)))
    assert Protocol.of(tiny(), EqualEpochs(3), Tuned(), 0.3) == Protocol(0.3, EqualEpochs(3), Tuned(), sgd())


@pytest.mark.parametrize("rule", [FIXED, SquareRoot(4), LinearWarmUp(4, 1), Decayed(2, (1, 2))])
def test_rules_without_hyperparameters_leave_the_optimizer_unchanged(rule):
    optimizer = adamw(betas=(0.8, 0.99))
    assert Protocol(0.1, EqualEpochs(3), rule, optimizer).optimizer_at(64) == optimizer


def test_an_annealed_rate_falls_linearly_to_zero_over_the_budget():
    protocol = Protocol(0.1, EqualEpochs(2), annealed=True)
    assert [protocol.rate(40, 10, updates) for updates in (0, 4, 8)] == pytest.approx([0.1, 0.05, 0])
    assert protocol.rate_moves(40, 10, 3)


def test_an_annealed_rate_needs_a_length():
    with pytest.raises(ValueError, match="a target loss has none"):
        Protocol(0.1, TargetLoss(0.5, 100), annealed=True)


def test_schedules_enter_the_key_only_where_they_are_used():
    plain = Protocol(0.1, EqualEpochs(2))
    assert {"annealed", "averaged"}.isdisjoint(plain.key_fields())
    assert len({plain.key, replace(plain, annealed=True).key, replace(plain, averaged=True).key}) == 3


def test_training_to_the_target_evaluates_averaged_parameters():
    protocol = Protocol.to_target(tiny(), FINE_SEARCH)
    assert protocol.averaged
    assert protocol.budget == TargetLoss(tiny().target_loss, tiny().max_updates)
    assert str(protocol).endswith("averaged parameters")
