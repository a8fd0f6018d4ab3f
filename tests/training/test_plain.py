import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from suite import seeds
from suite.backends import SEQUENTIAL
from suite.cells import Cell
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.training import looks
from suite.training.engine import TRAINING, measure
from suite.training.evaluate import evaluate
from suite.training.learning_rate import AdamSde, ConstantHalfLife, Decayed
from suite.training.plain import endless_batches, trained
from suite.training.protocol import EqualEpochs, GrowingBatch, Protocol, TargetLoss
from tests.conftest import blobs, tiny


def train(*arguments, **named):
    """The looks at a training."""
    return trained(*arguments, **named)[1]


def curve_by_hand(batch_size: int, replica: int, epochs: int, make) -> list[tuple[float, ...]]:
    """Training and test loss and accuracy after each epoch, from a loop over the optimizer of torch's that
    `make(parameters)` returns."""
    data = blobs().resplit(replica)
    torch.manual_seed(seeds.derive("initialisation", replica))
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = make(model.parameters())
    shuffles = torch.Generator().manual_seed(seeds.derive("shuffle", batch_size, replica))
    cross_entropy = nn.CrossEntropyLoss()
    curve = []
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
        curve.append(
            (
                cross_entropy(train_outputs, data.train_targets).item(),
                (train_outputs.argmax(1) == data.train_targets).double().mean().item(),
                cross_entropy(test_outputs, data.test_targets).item(),
                (test_outputs.argmax(1) == data.test_targets).double().mean().item(),
            )
        )
    return curve


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40])
@pytest.mark.parametrize("replica", [0, 3])
def test_the_curve_is_that_of_a_loop_written_by_hand(batch_size, replica):
    looks = train(tiny(), blobs().resplit(replica), Protocol(0.1, EqualEpochs(3)), batch_size, replica)
    measured = looks[["train_loss", "train_score", "test_loss", "test_score"]].to_numpy()
    by_hand = curve_by_hand(batch_size, replica, 3, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    np.testing.assert_allclose(measured, by_hand, rtol=1e-6, atol=1e-7)
    assert looks["updates"].tolist() == [number * math.ceil(40 / batch_size) for number in range(4)]
    assert looks["epoch"].tolist() == [0, 1, 2, 3]
    assert set(looks["status"]) == {"ok"}


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
def test_every_optimizer_is_torchs_own(protocol, make):
    """With the hyperparameters that the rate rule gives a batch of 16."""
    looks = train(tiny(), blobs().resplit(1), protocol, 16, 1)
    measured = looks[["train_loss", "train_score", "test_loss", "test_score"]].to_numpy()
    np.testing.assert_allclose(measured, curve_by_hand(16, 1, 3, make), rtol=1e-6, atol=1e-7)


def losses_by_hand(
    sizes: list[int], rates: list[float], with_replacement: bool = False, momentum: float = 0.0
) -> list[float]:
    """Training loss of replica 0 after each epoch, of so large batches and at such a rate, from one stream. Momentum
    is b <- momentum b + g, of which the rate of the moment is taken."""
    data = blobs()
    model = tiny().initial_model(0)
    shuffles = torch.Generator().manual_seed(seeds.derive("shuffle", sizes[0], 0))
    buffers, curve = [torch.zeros_like(parameter) for parameter in model.parameters()], []
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
        curve.append(nn.functional.cross_entropy(model(data.train_inputs), data.train_targets).item())
    return curve


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
def test_what_changes_from_epoch_to_epoch_is_that_of_a_loop_written_by_hand(protocol, sizes, rates):
    looks = train(tiny(), blobs(), protocol, 7, 0)
    by_hand = losses_by_hand(sizes, rates, protocol.with_replacement, protocol.optimizer.momentum)
    np.testing.assert_allclose(looks["train_loss"].iloc[1:], by_hand, rtol=1e-5)
    assert looks["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert looks["updates"].iloc[-1] == sum(math.ceil(40 / size) for size in sizes)


def test_training_to_a_target_ends_at_the_first_look_below_it():
    looks = train(tiny(), blobs(), Protocol(0.1, TargetLoss(0.5, 500)), batch_size=4, replica=0)
    assert looks["train_loss"].iloc[-1] <= 0.5
    assert (looks["train_loss"].iloc[:-1] > 0.5).all()
    assert set(looks["status"]) == {"ok"}


def test_a_look_exactly_at_the_target_reaches_it():
    looks = train(tiny(), blobs(), Protocol(0.1, TargetLoss(1e-9, 20)), batch_size=4, replica=0)
    target = TargetLoss(looks["train_loss"].iloc[7], 20)
    assert train(tiny(), blobs(), Protocol(0.1, target), batch_size=4, replica=0)["updates"].iloc[-1] == 7


def test_a_target_beyond_the_cap_is_not_reached():
    looks = train(tiny(), blobs(), Protocol(0.1, TargetLoss(0.5, 3)), batch_size=16, replica=0)
    assert looks["updates"].iloc[-1] == 3
    assert set(looks["status"]) == {"target_not_reached"}


def test_a_huge_rate_diverges():
    looks = train(tiny(), blobs(), Protocol(1e4, EqualEpochs(3)), batch_size=4, replica=0)
    assert set(looks["status"]) == {"diverged"}


def test_a_training_that_ends_above_its_first_loss_diverged_however_finite():
    looks = train(tiny(), blobs(), Protocol(3, EqualEpochs(3)), batch_size=4, replica=0)
    assert looks["train_loss"].iloc[0] < looks["train_loss"].iloc[-1] < math.inf
    assert len(looks) == 4
    assert set(looks["status"]) == {"diverged"}


@pytest.mark.parametrize(
    ("losses", "status"),
    [([1, 9, 0.5], "ok"), ([1, 0.5, 1], "ok"), ([1, 0.5, 1.1], "diverged"), ([1, 0.5, math.nan], "diverged")],
)
def test_only_the_first_and_the_last_look_say_whether_a_training_diverged(losses, status):
    assert looks.status(pd.Series(losses), Protocol(0.1, EqualEpochs(2))) == status


@pytest.mark.parametrize("budget", [EqualEpochs(3), TargetLoss(0.5, 500)])
def test_a_training_whose_loss_is_no_number_ends_there(budget):
    looks = train(tiny(), blobs(), Protocol(1e30, budget), batch_size=4, replica=0)
    assert np.isfinite(looks["train_loss"]).tolist() == [True] * (len(looks) - 1) + [False]
    assert set(looks["status"]) == {"diverged"}


def test_one_example_at_a_time_trains_like_the_whole_batch():
    curves = [
        train(tiny(), blobs(), Protocol(0.1, EqualEpochs(3)), 16, 0, *backend)["train_loss"]
        for backend in ((), (SEQUENTIAL,))
    ]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)


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
def test_evaluation_is_in_evaluation_mode_and_leaves_the_mode_as_it_was(training):
    model, data = with_dropout(0.9).initial_model(0).train(training), blobs()
    everything = evaluate(with_dropout(0.9), model, data.train_inputs, data.train_targets)
    assert everything == evaluate(tiny(), model[1], data.train_inputs, data.train_targets)
    assert model.training is training


def test_dropout_is_at_work_between_the_looks():
    """The first look is the same without it, the second is not."""
    dropped, plain = (
        train(with_dropout(share), blobs(), Protocol(0.1, EqualEpochs(1)), batch_size=4, replica=0)["train_loss"]
        for share in (0.5, 0.0)
    )
    assert dropped[0] == plain[0]
    assert dropped[1] != plain[1]


def test_what_is_dropped_does_not_depend_on_the_order_of_work():
    torch.manual_seed(3)
    before, first = torch.get_rng_state(), train(with_dropout(0.5), blobs(), Protocol(0.1, EqualEpochs(2)), 4, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(100)
    assert train(with_dropout(0.5), blobs(), Protocol(0.1, EqualEpochs(2)), 4, 0).equals(first)


def batch_order(base_seed: int) -> torch.Tensor:
    """The targets, each another number, of the first two epochs."""
    data, protocol = blobs(), Protocol(0.1, EqualEpochs(1))
    data = replace(data, train_targets=torch.arange(40))
    batches = endless_batches(tiny(base_seed=base_seed), data, protocol, 10, 0)
    return torch.cat([targets for _, (_, targets) in zip(range(8), batches, strict=False)])


def test_each_base_seed_has_its_own_shuffles():
    assert torch.equal(batch_order(1), batch_order(1))
    assert not torch.equal(batch_order(1), batch_order(2))
    for order in (batch_order(1), batch_order(2)):
        assert order[:40].sort().values.tolist() == order[40:].sort().values.tolist() == list(range(40))


def test_each_base_seed_drops_other_values():
    """From the same parameters, examples and shuffles."""

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
