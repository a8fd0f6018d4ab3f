"""Trainings in lockstep against the same trainings one after another, and the compile policy."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from suite.devices import CPU
from suite.experiments.cell import Cell
from suite.experiments.training import TRAINING, measure
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.training.budgets import EqualEpochs, GrowingBatch, TargetLoss
from suite.training.compilation import no_compiler
from suite.training.compile_policy import CALLS_TO_REPAY, EXTRA_LOSS, CompilePolicy
from suite.training.engine import best_replicas_per_call, why_not_ensemble
from suite.training.ensemble import Ensemble
from suite.training.learning_rate import AdamSde, ConstantHalfLife, Decayed, LinearWarmUp, RateRule
from suite.training.packing import MAX_PARAMETERS, MAX_REPLICAS, MAX_WORK, MIN_REPLICAS, replicas_per_call
from suite.training.protocol import Protocol
from tests.conftest import blobs, cuda, network, tiny
from tests.workloads.test_kinds import SEQUENCES, counting

VALUES = ["train_loss", "train_score", "test_loss", "test_score"]


def cell(protocol: Protocol, batch_size: int, seeds: int = 5, replicas_per_call: int = 1) -> Cell:
    return Cell(TRAINING, "tiny", "cpu", batch_size, seeds, protocol, replicas_per_call=replicas_per_call)


def assert_same_training(
    workload, protocol, batch_size, replicas_per_call, data=None, backend="cpu", calls_to_repay=CALLS_TO_REPAY
):
    data = data or blobs()
    plain = measure(workload, data, cell(protocol, batch_size))
    in_packs = replace(cell(protocol, batch_size, replicas_per_call=replicas_per_call), backend=backend)
    ensemble = measure(workload, data, in_packs, calls_to_repay)
    np.testing.assert_allclose(ensemble[VALUES], plain[VALUES], rtol=2e-5, atol=1e-7)
    pd.testing.assert_frame_equal(
        ensemble.drop(columns=VALUES).reset_index(drop=True), plain.drop(columns=VALUES).reset_index(drop=True)
    )


@pytest.mark.parametrize("replicas_per_call", [2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 7, 40])
@pytest.mark.parametrize("resplit", [True, False])
def test_an_ensemble_trains_for_equal_epochs_as_plain_replicas_do(resplit, batch_size, replicas_per_call):
    assert_same_training(tiny(resplit=resplit), Protocol(0.1, EqualEpochs(3)), batch_size, replicas_per_call)


@pytest.mark.parametrize("optimizer", [sgd(0.9), adamw()])
@pytest.mark.parametrize("schedule", [{"annealed": True}, {"averaged": True}, {"annealed": True, "averaged": True}])
def test_an_ensemble_anneals_and_averages_as_plain_replicas_do(schedule, optimizer):
    protocol = Protocol(0.01, EqualEpochs(3), optimizer=optimizer, **schedule)
    assert_same_training(tiny(optimizer=optimizer), protocol, 7, 3)
    assert_same_training(tiny(optimizer=optimizer), protocol, 7, 3, calls_to_repay=0)


def test_an_ensemble_averages_buffers_as_plain_replicas_do():
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))
    assert_same_training(workload, Protocol(0.1, EqualEpochs(3), averaged=True), 8, 3)


def test_an_ensemble_with_another_base_seed_trains_as_plain_replicas_do():
    protocol = Protocol(0.1, EqualEpochs(2))
    assert_same_training(tiny(base_seed=7), protocol, 7, 3)
    losses = [
        measure(tiny(base_seed=base_seed), blobs(), cell(protocol, 7, replicas_per_call=5))["train_loss"]
        for base_seed in (0, 7, 7)
    ]
    assert not (losses[0] == losses[1]).any()
    assert losses[1].equals(losses[2])


@dataclass(frozen=True)
class FromZero(RateRule):
    """A learning rate that grows from zero over the first epoch."""

    def rate(self, learning_rate: float, batch_size: int, updates: int, updates_per_epoch: int) -> float:
        return learning_rate * min(1, updates / updates_per_epoch)

    def moves(self, updates: int, updates_per_epoch: int) -> bool:
        return updates <= updates_per_epoch


CHANGING_RATES = {
    "decaying rate": Decayed(2, (1, 2)),
    "warm-up": LinearWarmUp(reference=2, epochs=2),
    "warm-up from zero": FromZero(),
}
OPTIMIZERS = {
    "momentum": (0.02, sgd(momentum=0.9)),
    "nesterov": (0.02, sgd(momentum=0.9, nesterov=True)),
    "momentum, dampening, weight decay": (0.02, sgd(momentum=0.9, dampening=0.5, weight_decay=0.1)),
    "adam": (0.01, adam()),
    "adamw": (0.01, adamw(weight_decay=0.1).group("*.bias", weight_decay=0, lr_scale=2)),
}
CHANGING = {
    "decaying rate": Protocol(0.1, EqualEpochs(4), Decayed(2, (1, 3))),
    **{
        f"{name}, {moved}": Protocol(rate, EqualEpochs(3), rule, optimizer)
        for name, rule in CHANGING_RATES.items()
        for moved, (rate, optimizer) in OPTIMIZERS.items()
    },
    "growing batch": Protocol(0.1, GrowingBatch(4, 2, (1, 3))),
    "with replacement": Protocol(0.1, EqualEpochs(3), with_replacement=True),
    "weight decay": Protocol(0.1, EqualEpochs(3), optimizer=sgd(weight_decay=0.1)),
    "adam": Protocol(0.01, EqualEpochs(3), optimizer=adam()),
    "adam, SDE rule": Protocol(0.01, EqualEpochs(3), AdamSde(4), adam()),
    "adamw, constant half-life": Protocol(0.01, EqualEpochs(3), ConstantHalfLife(4), adamw(betas=(0.9, 0.95))),
}


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("protocol", CHANGING.values(), ids=CHANGING)
def test_an_ensemble_follows_changes_within_a_training(protocol, batch_size):
    assert_same_training(tiny(), protocol, batch_size, 3)


def test_each_replica_ends_at_its_first_evaluation_below_the_target():
    protocol = Protocol(0.1, TargetLoss(0.5, 500))
    ends = measure(tiny(), blobs(), cell(protocol, 4, replicas_per_call=5)).groupby("seed")["updates"].max()
    assert ends.nunique() > 1
    assert_same_training(tiny(), protocol, 4, 5)


@pytest.mark.parametrize("max_updates", [3, 12])
def test_a_target_that_some_or_no_replicas_reach(max_updates):
    assert_same_training(tiny(), Protocol(0.1, TargetLoss(0.75, max_updates)), 4, 5)


@pytest.mark.parametrize("rate", [3.0, 1e30])
def test_replicas_of_an_ensemble_diverge_as_plain_ones_do(rate):
    protocol = Protocol(rate, EqualEpochs(3))
    plain, ensemble = (measure(tiny(), blobs(), cell(protocol, 4, replicas_per_call=replicas)) for replicas in (1, 5))
    assert "diverged" in set(plain["status"])
    pd.testing.assert_frame_equal(
        ensemble[["seed", "updates", "status"]].reset_index(drop=True),
        plain[["seed", "updates", "status"]].reset_index(drop=True),
    )


def test_a_sequence_model_trains_in_an_ensemble():
    assert_same_training(replace(SEQUENCES, resplit=True), Protocol(0.1, EqualEpochs(2)), 4, 3, counting())


@pytest.mark.skipif(no_compiler() is not None, reason=str(no_compiler()))
@pytest.mark.parametrize(("calls", "compilations"), [(60, [(68, 6)]), (8, [(0, 6), (55, 4)])])
def test_a_training_whose_update_is_compiled_on_the_way_gives_the_same_values(monkeypatch, calls, compilations):
    """`compilations` are pairs of updates so far and batch size; the last batch of an epoch has 4 examples."""
    compiled, compile_update = [], Ensemble.compile

    def spy(self, inputs, targets, batch_size):
        compile_update(self, inputs, targets, batch_size)
        assert self.compiled_for(batch_size)
        compiled.append((int(self.state[-1]), batch_size))

    monkeypatch.setattr(Ensemble, "compile", spy)
    assert_same_training(tiny(), Protocol(0.1, TargetLoss(0.3, 500)), 6, 5, calls_to_repay=calls)
    assert compiled == compilations


@cuda
@pytest.mark.parametrize("calls_to_repay", [10_000, 60], ids=["eager", "graph"])
@pytest.mark.parametrize("resplit", [True, False])
def test_an_ensemble_on_a_gpu_trains_as_plain_replicas_on_the_cpu_do(resplit, calls_to_repay):
    """In double precision; the updates from the 60th on as a CUDA graph."""
    data = blobs()
    data = replace(data, train_inputs=data.train_inputs.double(), test_inputs=data.test_inputs.double())
    workload = tiny(model=lambda: network().double(), resplit=resplit)
    assert_same_training(workload, Protocol(0.1, TargetLoss(0.3, 500)), 6, 5, data, "cuda", calls_to_repay)


@pytest.mark.skipif(no_compiler() is not None, reason=str(no_compiler()))
def test_dropout_is_the_same_whether_the_update_was_compiled_before_or_not():
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)))
    training = cell(Protocol(0.1, EqualEpochs(2)), 4, replicas_per_call=5)
    first, second = (measure(workload, blobs(), training, calls_to_repay=1) for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def policy_of(
    batch_size: int, updates: int, guessed: bool, calls_to_repay: float, replicas: int = 3
) -> CompilePolicy:
    """The policy for trainings on 40 examples in calls of three replicas."""
    protocol = Protocol(0.1, TargetLoss(0.3, 500) if guessed else EqualEpochs(1))
    return CompilePolicy.for_trainings(tiny(), protocol, batch_size, 40, replicas, 3, updates, calls_to_repay)


def first_compiled_call(policy: CompilePolicy, batch_size: int) -> int | None:
    return next((call for call in range(1, 1000) if policy.should_compile(batch_size)), None)


@pytest.mark.parametrize(("updates", "call"), [(0, 100), (99, 100), (100, 1), (10_000, 1)])
def test_a_guessed_number_of_calls_compiles_once_it_or_the_calls_so_far_repay(updates, call):
    assert first_compiled_call(policy_of(1, updates, guessed=True, calls_to_repay=100), 1) == call


@pytest.mark.parametrize(("updates", "call"), [(99, None), (100, 1)])
def test_a_known_number_of_calls_compiles_at_once_or_never(updates, call):
    assert first_compiled_call(policy_of(1, updates, guessed=False, calls_to_repay=100), 1) == call


def test_the_calls_of_every_pack_and_every_batch_size_count():
    """Ten epochs of six batches of 6 and one of 4."""
    assert first_compiled_call(policy_of(6, 70, guessed=False, calls_to_repay=60), 6) == 1
    assert first_compiled_call(policy_of(6, 70, guessed=False, calls_to_repay=60), 4) is None
    assert first_compiled_call(policy_of(6, 70, guessed=False, calls_to_repay=60, replicas=18), 4) == 1


def test_a_growing_batch_counts_the_calls_of_each_batch_size():
    """40 examples: two epochs of 6, one of 12, each with a last batch of 4; two packs."""
    protocol = Protocol(0.1, GrowingBatch(3, 2, (2,)))
    expected = CompilePolicy.for_trainings(tiny(), protocol, 6, 40, 6, 3, updates=18).expected
    assert expected == {6: 2 * 2 * 6, 12: 2 * 3, 4: 2 * 3}


def test_it_compiles_sooner_where_eager_calls_waste_more_time():
    expected = policy_of(1, 0, guessed=True, calls_to_repay=100).expected
    policy = CompilePolicy(expected, work=4.001 / EXTRA_LOSS, guessed=True, calls_to_repay=100)
    assert first_compiled_call(policy, 1) == 20


def test_the_calls_to_repay_a_compilation_are_5000_by_default():
    policy = CompilePolicy({8: 5000, 9: 5001}, work=0, guessed=False)
    assert (policy.should_compile(8), policy.should_compile(9)) == (False, True)


def test_batch_norm_rejects_a_batch_of_one_example_in_an_ensemble_too():
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))
    assert why_not_ensemble(workload, blobs()) is None
    protocol = Protocol(0.1, EqualEpochs(1))
    for batch_size in (1, 3):  # 40 examples: the last of 14 batches is one example
        for replicas in (1, 5):
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                measure(workload, blobs(), cell(protocol, batch_size, replicas_per_call=replicas))


@given(replicas=st.integers(1, 200), parameters=st.integers(1, 10**8), batch_size=st.integers(1, 10**5))
def test_packs_hold_all_replicas_in_equal_parts_within_the_limits(replicas, parameters, batch_size):
    size = replicas_per_call(replicas, parameters, batch_size)
    assert MIN_REPLICAS <= size <= MAX_REPLICAS
    assert size == MIN_REPLICAS or size * parameters <= min(MAX_PARAMETERS, MAX_WORK // batch_size)
    assert size * math.ceil(replicas / size) - replicas < max(MIN_REPLICAS, math.ceil(replicas / size))


def test_calls_have_more_replicas_where_updates_are_small():
    sizes = [replicas_per_call(64, 4810, batch_size) for batch_size in (1, 32, 256, 1437, 60_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == MAX_REPLICAS
    assert sizes[-1] == MIN_REPLICAS


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 3), function
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs):
        return self.function(self, inputs)


def count(self, inputs):
    self.calls = self.calls + 1
    return self.linear(inputs) * self.calls


def warm_up(self, inputs):
    """Count calls in a Python attribute, which each plain replica begins at zero."""
    self.steps = getattr(self, "steps", 0) + 1
    return self.linear(inputs) * self.steps


def slow_average(self, inputs):
    self.calls = 0.9999 * self.calls + 1e-4
    return self.linear(inputs)


def branch(self, inputs):
    return self.linear(inputs) * (2 if inputs.sum() > 0 else 1)


def recur(self, inputs):
    return nn.LSTM(1, 3)(inputs.T[..., None])[0][-1]


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (branch, "vmap"),
        (count, "plain loop"),
        (warm_up, "plain loop"),
        (slow_average, "plain loop"),
        (recur, "vmap"),
    ],
)
def test_the_reason_against_an_ensemble_is_one_line(function, word):
    reason = why_not_ensemble(tiny(model=lambda: Layer(function)), blobs())
    assert word in reason
    assert "\n" not in reason
    assert len(reason) < 160


def test_an_optimizer_without_a_stacked_form_is_a_reason_against_an_ensemble():
    for optimizer in (Optimizer.of(torch.optim.Adadelta), Optimizer.of(torch.optim.AdamW, amsgrad=True)):
        reason = why_not_ensemble(tiny(optimizer=optimizer), blobs())
        assert reason == f"only sgd, adam, adamw train in ensembles, not {optimizer}"


@pytest.mark.parametrize("optimizer", [optimizer for _, optimizer in OPTIMIZERS.values()], ids=OPTIMIZERS)
def test_an_optimizer_with_a_stacked_form_is_no_reason_against_an_ensemble(optimizer):
    assert why_not_ensemble(tiny(optimizer=optimizer), blobs()) is None


def test_the_trial_detects_an_ensemble_with_a_different_weight_decay(monkeypatch):
    step = type(adamw().form).step

    def different_step(self, parameter, gradient, state, rate, hyperparameters, updates):
        step(self, parameter, gradient, state, rate, {**hyperparameters, "weight_decay": 0.5}, updates)

    monkeypatch.setattr(type(adamw().form), "step", different_step)
    assert "plain loop" in why_not_ensemble(tiny(optimizer=adamw()), blobs())


@pytest.mark.parametrize(
    "model",
    [lambda: nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1))],
)
def test_dropout_is_no_reason_against_an_ensemble(model):
    assert why_not_ensemble(tiny(model=model), blobs()) is None


def biased_before_batch_norm() -> nn.Module:
    """The gradient of the first bias is pure rounding, from which Adam makes steps of either sign."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("optimizer", [adam(), adamw(), sgd(momentum=0.9)], ids=str)
def test_a_parameter_moved_by_rounding_alone_is_no_reason_against_an_ensemble(optimizer):
    workload = tiny(model=biased_before_batch_norm, optimizer=optimizer, learning_rate=0.1)
    assert why_not_ensemble(workload, blobs()) is None


def test_convolutions_are_trained_plainly_on_a_cpu():
    layers = [nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(6, 3)]
    assert best_replicas_per_call(tiny(model=lambda: nn.Sequential(*layers)), CPU, replicas=5, batch_size=4) == 1
    assert best_replicas_per_call(tiny(), CPU, replicas=5, batch_size=4) == 5
