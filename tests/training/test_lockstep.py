"""Whole trainings in lockstep against the same trainings one after another."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from suite.cells import Cell
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.training import repaid
from suite.training.compilation import no_compiler
from suite.training.engine import TRAINING, measure, packed, why_not_ensemble
from suite.training.ensemble import Ensemble
from suite.training.learning_rate import AdamSde, ConstantHalfLife, Decayed, LinearWarmUp, RateRule
from suite.training.packing import LEAST, MOST, PARAMETERS, WORK, replicas_per_call
from suite.training.protocol import EqualEpochs, GrowingBatch, Protocol, TargetLoss
from tests.conftest import blobs, cuda, network, tiny
from tests.workloads.test_kinds import SEQUENCES, counting

VALUES = ["train_loss", "train_score", "test_loss", "test_score"]


def cell(protocol: Protocol, batch_size: int, seeds: int = 5, replicas_per_call: int = 1) -> Cell:
    return Cell(TRAINING, "tiny", "cpu", batch_size, seeds, protocol, replicas_per_call=replicas_per_call)


def assert_same_training(workload, protocol, batch_size, replicas_per_call, data=None, backend="cpu"):
    data = data or blobs()
    plain = measure(workload, data, cell(protocol, batch_size))
    in_packs = replace(cell(protocol, batch_size, replicas_per_call=replicas_per_call), backend=backend)
    together = measure(workload, data, in_packs)
    np.testing.assert_allclose(together[VALUES], plain[VALUES], rtol=2e-5, atol=1e-7)
    pd.testing.assert_frame_equal(
        together.drop(columns=VALUES).reset_index(drop=True), plain.drop(columns=VALUES).reset_index(drop=True)
    )


@pytest.mark.parametrize("replicas_per_call", [2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 7, 40])
@pytest.mark.parametrize("resplit", [True, False])
def test_equal_epochs(resplit, batch_size, replicas_per_call):
    assert_same_training(tiny(resplit=resplit), Protocol(0.1, EqualEpochs(3)), batch_size, replicas_per_call)


def test_another_base_seed():
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
    """A rate that grows from zero over the first epoch."""

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
def test_what_changes_within_a_training(protocol, batch_size):
    assert_same_training(tiny(), protocol, batch_size, 3)


def test_to_a_target_each_replica_ends_at_its_own_look():
    protocol = Protocol(0.1, TargetLoss(0.5, 500))
    ends = measure(tiny(), blobs(), cell(protocol, 4, replicas_per_call=5)).groupby("seed")["updates"].max()
    assert ends.nunique() > 1
    assert_same_training(tiny(), protocol, 4, 5)


@pytest.mark.parametrize("max_updates", [3, 12])
def test_a_target_that_some_or_none_reach(max_updates):
    assert_same_training(tiny(), Protocol(0.1, TargetLoss(0.75, max_updates)), 4, 5)


@pytest.mark.parametrize("rate", [3.0, 1e30])
def test_diverging(rate):
    plain, together = (
        measure(tiny(), blobs(), cell(Protocol(rate, EqualEpochs(3)), 4, replicas_per_call=pack)) for pack in (1, 5)
    )
    assert "diverged" in set(plain["status"])
    pd.testing.assert_frame_equal(
        together[["seed", "updates", "status"]].reset_index(drop=True),
        plain[["seed", "updates", "status"]].reset_index(drop=True),
    )


def test_a_sequence_model():
    assert_same_training(replace(SEQUENCES, resplit=True), Protocol(0.1, EqualEpochs(2)), 4, 3, counting())


@pytest.mark.skipif(no_compiler() is not None, reason=str(no_compiler()))
@pytest.mark.parametrize(("calls", "when"), [(60, [(68, 6)]), (8, [(0, 6), (55, 4)])])
def test_compiled_in_the_middle(monkeypatch, calls, when):
    """After so many updates, from batches of so many; the last batch of an epoch has 4 examples."""
    moved = []
    compile_ = Ensemble.compile

    def spied(self, *arguments):
        compile_(self, *arguments)
        assert self.compiled_for(arguments[-1])
        moved.append((int(self.state[-1]), arguments[-1]))

    monkeypatch.setattr(Ensemble, "compile", spied)
    monkeypatch.setattr(repaid, "CALLS_BEFORE_COMPILING", calls)
    assert_same_training(tiny(), Protocol(0.1, TargetLoss(0.3, 500)), 6, 5)
    assert moved == when


@cuda
@pytest.mark.parametrize("calls_before_compiling", [10_000, 60], ids=["eager", "graph"])
@pytest.mark.parametrize("resplit", [True, False])
def test_on_a_gpu_as_plainly_on_the_cpu(monkeypatch, resplit, calls_before_compiling):
    """In double precision; the updates from the 60th on as a CUDA graph."""
    monkeypatch.setattr(repaid, "CALLS_BEFORE_COMPILING", calls_before_compiling)
    data = blobs()
    data = replace(data, train_inputs=data.train_inputs.double(), test_inputs=data.test_inputs.double())
    workload = tiny(model=lambda: network().double(), resplit=resplit)
    assert_same_training(workload, Protocol(0.1, TargetLoss(0.3, 500)), 6, 5, data, "cuda")


@pytest.mark.skipif(no_compiler() is not None, reason=str(no_compiler()))
def test_what_is_dropped_does_not_depend_on_what_is_compiled_already(monkeypatch):
    monkeypatch.setattr(repaid, "CALLS_BEFORE_COMPILING", 1)
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)))
    cold, warm = (
        measure(workload, blobs(), cell(Protocol(0.1, EqualEpochs(2)), 4, replicas_per_call=5)) for _ in range(2)
    )
    pd.testing.assert_frame_equal(cold, warm, check_exact=True)


def counted(examples: int, batch_size: int, updates: int, guessed: bool, replicas: int = 3) -> repaid.Compiling:
    """In calls of three replicas."""
    budget = TargetLoss(0.3, 500) if guessed else EqualEpochs(1)
    one = cell(Protocol(0.1, budget), batch_size, replicas_per_call=3)
    return repaid.Compiling(tiny(), examples, one, replicas, updates)


def first_due(one: repaid.Compiling, size: int) -> int | None:
    return next((call for call in range(1, 1000) if one.due(size)), None)


@pytest.mark.parametrize(("updates", "call"), [(0, 100), (99, 100), (100, 1), (10_000, 1)])
def test_it_compiles_when_a_guess_or_what_was_made_repays_it(monkeypatch, updates, call):
    monkeypatch.setattr(repaid, "CALLS_BEFORE_COMPILING", 100)
    assert first_due(counted(40, 1, updates, guessed=True), 1) == call


@pytest.mark.parametrize(("updates", "call"), [(99, None), (100, 1)])
def test_it_compiles_at_once_or_never_what_is_known(monkeypatch, updates, call):
    monkeypatch.setattr(repaid, "CALLS_BEFORE_COMPILING", 100)
    assert first_due(counted(40, 1, updates, guessed=False), 1) == call


def test_every_pack_and_every_size_of_batch_counts(monkeypatch):
    """Ten epochs of six batches of 6 and one of 4."""
    monkeypatch.setattr(repaid, "CALLS_BEFORE_COMPILING", 60)
    assert first_due(counted(40, 6, 70, guessed=False), 6) == 1
    assert first_due(counted(40, 6, 70, guessed=False), 4) is None
    assert first_due(counted(40, 6, 70, guessed=False, replicas=18), 4) == 1


def test_a_growing_batch_counts_the_calls_of_each_size():
    """Of 40 examples: two epochs of 6, one of 12, each with a last batch of 4; two packs."""
    one = cell(Protocol(0.1, GrowingBatch(3, 2, (2,))), 6, replicas_per_call=3)
    expected = repaid.Compiling(tiny(), 40, one, 6, updates=18).expected
    assert expected == {6: 2 * 2 * 6, 12: 2 * 3, 4: 2 * 3}


def test_it_compiles_sooner_where_eager_calls_lose_more(monkeypatch):
    monkeypatch.setattr(repaid, "CALLS_BEFORE_COMPILING", 100)
    one = counted(40, 1, 0, guessed=True)
    one.work = 4.001 / repaid.LOST_BY_WORK
    assert first_due(one, 1) == 20


def test_batch_norm_has_no_batch_of_one():
    workload = tiny(model=lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))
    assert why_not_ensemble(workload, blobs()) is None
    for batch_size in (1, 3):  # 40 examples: the last of 14 batches is one example
        for pack in (1, 5):
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                measure(workload, blobs(), cell(Protocol(0.1, EqualEpochs(1)), batch_size, replicas_per_call=pack))


@given(replicas=st.integers(1, 200), parameters=st.integers(1, 10**8), batch_size=st.integers(1, 10**5))
def test_packs_hold_all_replicas_in_equal_parts_within_the_limits(replicas, parameters, batch_size):
    size = replicas_per_call(replicas, parameters, batch_size)
    assert LEAST <= size <= MOST
    assert size == LEAST or size * parameters <= min(PARAMETERS, WORK // batch_size)
    assert size * math.ceil(replicas / size) - replicas < max(LEAST, math.ceil(replicas / size))


def test_small_updates_are_packed_more_than_large_ones():
    sizes = [replicas_per_call(64, 4810, batch_size) for batch_size in (1, 32, 256, 1437, 60_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == MOST
    assert sizes[-1] == LEAST


class Layer(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.linear, self.how = nn.Linear(4, 3), forward
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs):
        return self.how(self, inputs)


def count(self, inputs):
    self.calls = self.calls + 1
    return self.linear(inputs) * self.calls


def warm_up(self, inputs):
    """A count of Python's own: each plain replica begins it anew."""
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
    ("forward", "word"),
    [
        (branch, "vmap"),
        (count, "plain loop"),
        (warm_up, "plain loop"),
        (slow_average, "plain loop"),
        (recur, "vmap"),
    ],
)
def test_what_an_ensemble_cannot_train_is_named_in_one_line(forward, word):
    reason = why_not_ensemble(tiny(model=lambda: Layer(forward)), blobs())
    assert word in reason
    assert "\n" not in reason
    assert len(reason) < 160


def test_an_optimizer_without_a_stacked_form_is_named_in_one_line():
    for optimizer in (Optimizer.of(torch.optim.Adadelta), Optimizer.of(torch.optim.AdamW, amsgrad=True)):
        reason = why_not_ensemble(tiny(optimizer=optimizer), blobs())
        assert reason == f"only sgd, adam, adamw train in ensembles, not {optimizer}"


@pytest.mark.parametrize("optimizer", [one for _, one in OPTIMIZERS.values()], ids=OPTIMIZERS)
def test_an_optimizer_with_a_stacked_form_is_no_reason_against_an_ensemble(optimizer):
    assert why_not_ensemble(tiny(optimizer=optimizer), blobs()) is None


def test_an_ensemble_that_steps_otherwise_than_the_workloads_optimizer_is_found_out(monkeypatch):
    """The trial can fail: the ensemble steps by another weight decay."""
    step = type(adamw().form).step

    def another_step(self, parameter, gradient, state, rate, hyperparameters, updates):
        step(self, parameter, gradient, state, rate, {**hyperparameters, "weight_decay": 0.5}, updates)

    monkeypatch.setattr(type(adamw().form), "step", another_step)
    assert "plain loop" in why_not_ensemble(tiny(optimizer=adamw()), blobs())


@pytest.mark.parametrize(
    "model",
    [lambda: nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1))],
)
def test_dropout_is_no_reason_against_an_ensemble(model):
    assert why_not_ensemble(tiny(model=model), blobs()) is None


def biased_before_batch_norm() -> nn.Module:
    """The gradient of the first bias is nothing but rounding, of which Adam makes steps of any sign."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("optimizer", [adam(), adamw(), sgd(momentum=0.9)], ids=str)
def test_what_rounding_alone_moves_is_no_reason_against_an_ensemble(optimizer):
    workload = tiny(model=biased_before_batch_norm, optimizer=optimizer, learning_rate=0.1)
    assert why_not_ensemble(workload, blobs()) is None


def test_convolutions_are_trained_plainly_on_a_cpu():
    layers = [nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(6, 3)]
    one = cell(Protocol(0.1, EqualEpochs(1)), 4)
    assert packed(one, tiny(model=lambda: nn.Sequential(*layers))).replicas_per_call == 1
    assert packed(one, tiny()).replicas_per_call == 5
