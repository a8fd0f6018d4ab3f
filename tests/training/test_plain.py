import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from suite import seeds
from suite.backends import SEQUENTIAL
from suite.experiments.cell import Cell
from suite.experiments.training import TRAINING, measure
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.training import evaluations
from suite.training.budgets import EqualEpochs, GrowingBatch, TargetLoss
from suite.training.evaluate import evaluate
from suite.training.learning_rate import AdamSde, ConstantHalfLife, Decayed
from suite.training.plain import endless_batches, trained
from suite.training.protocol import Protocol
from tests.conftest import blobs, tiny


def train(*arguments, **named):
    """The table of the evaluations of a training."""
    return trained(*arguments, **named)[1]


def values_by_hand(batch_size: int, replica: int, epochs: int, make) -> list[tuple[float, ...]]:
    """Training and test loss and accuracy after each epoch, from a plain loop with the torch optimizer
    `make(parameters)`."""
    data = blobs().resplit(replica)
    torch.manual_seed(seeds.derive("initialisation", replica))
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = make(model.parameters())
    shuffles = torch.Generator().manual_seed(seeds.derive("shuffle", batch_size, replica))
    cross_entropy = nn.CrossEntropyLoss()
    values = []
    for number in range(epochs + 1):
        if number > 0:
            order = torch.randperm(40, generator=shuffles)
            for start in range(0, 40, batch_size):
                batch = order[start : start + batch_size]
                optimizer.zero_grad()
                cross_entropy(model(data.train_inputs[batch]), data.train_targets[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            train_outputs, test_outputs = model(data.train_inputs), model(data.test_inputs)
        values.append(
            (
                cross_entropy(train_outputs, data.train_targets).item(),
                (train_outputs.argmax(1) == data.train_targets).double().mean().item(),
                cross_entropy(test_outputs, data.test_targets).item(),
                (test_outputs.argmax(1) == data.test_targets).double().mean().item(),
            )
        )
    return values


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40])
@pytest.mark.parametrize("replica", [0, 3])
def test_a_training_equals_a_loop_written_by_hand(batch_size, replica):
    evaluations = train(tiny(), blobs().resplit(replica), Protocol(0.1, EqualEpochs(3)), batch_size, replica)
    measured = evaluations[["train_loss", "train_score", "test_loss", "test_score"]].to_numpy()
    by_hand = values_by_hand(batch_size, replica, 3, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    np.testing.assert_allclose(measured, by_hand, rtol=1e-6, atol=1e-7)
    assert evaluations["updates"].tolist() == [number * math.ceil(40 / batch_size) for number in range(4)]
    assert evaluations["epoch"].tolist() == [0, 1, 2, 3]
    assert set(evaluations["status"]) == {"ok"}


@pytest.mark.parametrize(
    ("protocol", "make"),
    [
        (
            Protocol(0.02, EqualEpochs(3), optimizer=sgd(momentum=0.9, weight_decay=0.1)),
            lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=0.1),
        ),
        (
            Protocol(0.02, EqualEpochs(3), optimizer=sgd(momentum=0.9, nesterov=True)),
            lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, nesterov=True),
        ),
        (
            Protocol(0.01, EqualEpochs(3), optimizer=adam(weight_decay=0.1)),
            lambda parameters: torch.optim.Adam(parameters, lr=0.01, weight_decay=0.1),
        ),
        (
            Protocol(0.01, EqualEpochs(3), optimizer=adamw(betas=(0.8, 0.95), eps=1e-6)),
            lambda parameters: torch.optim.AdamW(parameters, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
        ),
        (
            Protocol(0.01, EqualEpochs(3), optimizer=Optimizer.of(torch.optim.RMSprop, alpha=0.9)),
            lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, alpha=0.9),
        ),
        (
            Protocol(0.01, EqualEpochs(3), AdamSde(4), adam(betas=(0.9, 0.98))),
            lambda parameters: torch.optim.Adam(parameters, lr=0.02, betas=(0.6, 0.92), eps=5e-9),
        ),
        (
            Protocol(0.01, EqualEpochs(3), ConstantHalfLife(8), adamw(betas=(0.9, 0.98))),
            lambda parameters: torch.optim.AdamW(parameters, lr=0.01, betas=(0.9, 0.98**2)),
        ),
    ],
    ids=["momentum", "nesterov", "adam", "adamw", "RMSprop", "SDE rule", "constant half-life"],
)
def test_a_training_equals_that_of_the_torch_optimizer(protocol, make):
    """The hyperparameters are those of the rate rule at batch size 16."""
    evaluations = train(tiny(), blobs().resplit(1), protocol, 16, 1)
    measured = evaluations[["train_loss", "train_score", "test_loss", "test_score"]].to_numpy()
    np.testing.assert_allclose(measured, values_by_hand(16, 1, 3, make), rtol=1e-6, atol=1e-7)


def losses_by_hand(
    sizes: list[int], rates: list[float], with_replacement: bool = False, momentum: float = 0.0
) -> list[float]:
    """Training loss of replica 0 after each epoch, with the batch size and the learning rate of each epoch.

    All epochs draw from one random stream. Momentum is b <- momentum b + g, and a step is the current rate times b.
    """
    data = blobs()
    model = tiny().initial_model(0)
    shuffles = torch.Generator().manual_seed(seeds.derive("shuffle", sizes[0], 0))
    buffers, losses = [torch.zeros_like(parameter) for parameter in model.parameters()], []
    for size, rate in zip(sizes, rates, strict=True):
        if with_replacement:
            order = torch.randint(40, (40,), generator=shuffles)
        else:
            order = torch.randperm(40, generator=shuffles)
        for start in range(0, 40, size):
            batch = order[start : start + size]
            nn.functional.cross_entropy(model(data.train_inputs[batch]), data.train_targets[batch]).backward()
            with torch.no_grad():
                for parameter, buffer in zip(model.parameters(), buffers, strict=True):
                    buffer.mul_(momentum).add_(parameter.grad)
                    parameter -= rate * buffer
                    parameter.grad = None
        losses.append(nn.functional.cross_entropy(model(data.train_inputs), data.train_targets).item())
    return losses


@pytest.mark.parametrize(
    ("protocol", "sizes", "rates"),
    [
        (Protocol(0.4, EqualEpochs(4), Decayed(2, (1, 3))), [7, 7, 7, 7], [0.4, 0.2, 0.2, 0.1]),
        (
            Protocol(0.1, EqualEpochs(4), Decayed(2, (1, 3)), sgd(momentum=0.8)),
            [7, 7, 7, 7],
            [0.1, 0.05, 0.05, 0.025],
        ),
        (Protocol(0.4, GrowingBatch(4, 2, (1, 3))), [7, 14, 14, 28], [0.4] * 4),
        (Protocol(0.4, EqualEpochs(4), with_replacement=True), [7] * 4, [0.4] * 4),
    ],
    ids=["decaying rate", "decaying rate with momentum", "growing batch", "with replacement"],
)
def test_a_training_that_changes_between_epochs_equals_a_loop_written_by_hand(protocol, sizes, rates):
    evaluations = train(tiny(), blobs(), protocol, 7, 0)
    by_hand = losses_by_hand(sizes, rates, protocol.with_replacement, protocol.optimizer.momentum)
    np.testing.assert_allclose(evaluations["train_loss"].iloc[1:], by_hand, rtol=1e-5)
    assert evaluations["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert evaluations["updates"].iloc[-1] == sum(math.ceil(40 / size) for size in sizes)


def test_training_to_a_target_ends_at_the_first_evaluation_below_it():
    evaluations = train(tiny(), blobs(), Protocol(0.1, TargetLoss(0.5, 500)), batch_size=4, replica=0)
    assert evaluations["train_loss"].iloc[-1] <= 0.5
    assert (evaluations["train_loss"].iloc[:-1] > 0.5).all()
    assert set(evaluations["status"]) == {"ok"}


def test_a_loss_equal_to_the_target_reaches_it():
    evaluations = train(tiny(), blobs(), Protocol(0.1, TargetLoss(1e-9, 20)), batch_size=4, replica=0)
    target = TargetLoss(evaluations["train_loss"].iloc[7], 20)
    assert train(tiny(), blobs(), Protocol(0.1, target), batch_size=4, replica=0)["updates"].iloc[-1] == 7


def test_a_target_is_not_reached_within_too_few_updates():
    evaluations = train(tiny(), blobs(), Protocol(0.1, TargetLoss(0.5, 3)), batch_size=16, replica=0)
    assert evaluations["updates"].iloc[-1] == 3
    assert set(evaluations["status"]) == {"target_not_reached"}


def test_a_huge_learning_rate_diverges():
    evaluations = train(tiny(), blobs(), Protocol(1e4, EqualEpochs(3)), batch_size=4, replica=0)
    assert set(evaluations["status"]) == {"diverged"}


def test_a_training_that_ends_above_its_first_loss_diverged_though_finite():
    evaluations = train(tiny(), blobs(), Protocol(3, EqualEpochs(3)), batch_size=4, replica=0)
    assert evaluations["train_loss"].iloc[0] < evaluations["train_loss"].iloc[-1] < math.inf
    assert len(evaluations) == 4
    assert set(evaluations["status"]) == {"diverged"}


@pytest.mark.parametrize(
    ("losses", "status"),
    [([1, 9, 0.5], "ok"), ([1, 0.5, 1], "ok"), ([1, 0.5, 1.1], "diverged"), ([1, 0.5, math.nan], "diverged")],
)
def test_of_finite_losses_the_first_and_the_last_decide_on_divergence(losses, status):
    assert evaluations.status(pd.DataFrame({"train_loss": losses}), Protocol(0.1, EqualEpochs(2))) == status


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_training_whose_score_or_test_loss_is_not_finite_diverged(value):
    rows = pd.DataFrame({"train_loss": [1, 0.5], "test_loss": [1, value]})
    assert evaluations.status(rows, Protocol(0.1, EqualEpochs(2))) == "diverged"


@pytest.mark.parametrize("budget", [EqualEpochs(3), TargetLoss(0.5, 500)])
def test_a_training_ends_when_its_loss_is_not_finite(budget):
    evaluations = train(tiny(), blobs(), Protocol(1e30, budget), batch_size=4, replica=0)
    assert np.isfinite(evaluations["train_loss"]).tolist() == [True] * (len(evaluations) - 1) + [False]
    assert set(evaluations["status"]) == {"diverged"}


def test_one_example_at_a_time_trains_like_the_whole_batch():
    whole_batch, sequential = (
        train(tiny(), blobs(), Protocol(0.1, EqualEpochs(3)), 16, 0, *backend)["train_loss"]
        for backend in ((), (SEQUENTIAL,))
    )
    np.testing.assert_allclose(whole_batch, sequential, rtol=1e-5)


def test_every_replica_of_a_cell_is_trained_on_its_own_split():
    protocol = Protocol(0.1, EqualEpochs(1))
    rows = measure(tiny(), blobs(), Cell(TRAINING, "tiny", "cpu", 4, 2, protocol))
    for replica in (0, 1):
        alone = train(tiny(), blobs().resplit(replica), protocol, 4, replica)
        assert rows[rows["seed"] == replica].drop(columns="seed").equals(alone)


def test_a_replica_starts_from_the_same_parameters_and_split_at_every_batch_size():
    cells = [Cell(TRAINING, "tiny", "cpu", size, 2, Protocol(0.1, EqualEpochs(1))) for size in (1, 16)]
    starts = [measure(tiny(), blobs(), cell).query("updates == 0").drop(columns="status") for cell in cells]
    np.testing.assert_array_equal(starts[0].to_numpy(), starts[1].to_numpy())
    assert starts[0]["train_loss"].nunique() == 2


def with_dropout(share: float):
    return tiny(model=lambda: nn.Sequential(nn.Dropout(share), nn.Linear(4, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_runs_in_evaluation_mode_and_restores_the_mode(training):
    model, data = with_dropout(0.9).initial_model(0).train(training), blobs()
    loss_and_score = evaluate(with_dropout(0.9), model, data.train_inputs, data.train_targets)
    assert loss_and_score == evaluate(tiny(), model[1], data.train_inputs, data.train_targets)
    assert model.training is training


def test_dropout_is_active_between_evaluations():
    """The first evaluation is the same without dropout, the second one differs."""
    dropped, plain = (
        train(with_dropout(share), blobs(), Protocol(0.1, EqualEpochs(1)), batch_size=4, replica=0)["train_loss"]
        for share in (0.5, 0.0)
    )
    assert dropped[0] == plain[0]
    assert dropped[1] != plain[1]


def test_dropout_does_not_depend_on_the_order_of_the_work():
    torch.manual_seed(3)
    before, first = torch.get_rng_state(), train(with_dropout(0.5), blobs(), Protocol(0.1, EqualEpochs(2)), 4, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(100)
    assert train(with_dropout(0.5), blobs(), Protocol(0.1, EqualEpochs(2)), 4, 0).equals(first)


def batch_order(base_seed: int) -> torch.Tensor:
    """The targets, all different, of the first two epochs."""
    data, protocol = blobs(), Protocol(0.1, EqualEpochs(1))
    data = replace(data, train_targets=torch.arange(40))
    batches = endless_batches(tiny(base_seed=base_seed), data, protocol, 10, 0)
    return torch.cat([targets for _, (_, targets) in zip(range(8), batches, strict=False)])


def test_each_base_seed_shuffles_differently():
    assert torch.equal(batch_order(1), batch_order(1))
    assert not torch.equal(batch_order(1), batch_order(2))
    for order in (batch_order(1), batch_order(2)):
        assert order[:40].sort().values.tolist() == order[40:].sort().values.tolist() == list(range(40))


def test_each_base_seed_has_different_dropout():
    """The parameters, examples and shuffles are the same."""

    def losses(base_seed: int) -> pd.Series:
        workload = replace(with_dropout(0.5), base_seed=base_seed, resplit=False)
        same = blobs()
        same = replace(same, train_inputs=same.train_inputs[:1].expand(40, -1), train_targets=torch.zeros(40).long())
        workload = replace(workload, model=lambda: zeroed(with_dropout(0.5).model()))
        return train(workload, same, Protocol(0.1, EqualEpochs(1)), 4, 0)["train_loss"]

    assert losses(1).equals(losses(1))
    assert losses(1)[0] == losses(2)[0]
    assert losses(1)[1] != losses(2)[1]


def zeroed(model: nn.Module) -> nn.Module:
    """`model` with all parameters zero."""
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model
