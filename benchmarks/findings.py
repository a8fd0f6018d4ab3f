"""The suite's findings as numbers that do not depend on the machine's speed: on digits, seeded, within seconds.

Two commits with the same findings agree to within rounding, for which RELATIVE allows. One thread, so that the order
of sums is fixed too.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.ratios import REPLICA_BATCH, REPLICAS
from suite import seeds
from suite.experiments.cell import Cell
from suite.experiments.training import TRAINING
from suite.instruments import GradientStatistics, batch_gradient, gradient_statistics, sampled_noise
from suite.optimizers import adam, adamw, sgd
from suite.statistics import value_at_crossing
from suite.training.budgets import EqualEpochs, TargetLoss
from suite.training.ensemble import Ensemble
from suite.training.epoch import loader_batches, resident_batches
from suite.training.lockstep import Examples
from suite.training.protocol import Protocol
from suite.workloads import Data, Workload, find

RELATIVE = 1e-4
"""A different number of threads, or an ensemble instead of a plain loop, moves none of these by more than 1e-7."""
BATCH_SIZE, FULL_BATCH = 32, 1437
TOGETHER = 4
"""The number of replicas, and of those that one call of an ensemble updates."""
OPTIMIZERS = {
    "sgd": (0.1, sgd()),
    "momentum": (0.02, sgd(momentum=0.9)),
    "nesterov": (0.02, sgd(momentum=0.9, nesterov=True)),
    "adam": (0.002, adam()),
    "adamw": (0.002, adamw()),
}
"""The learning rate of each optimizer, and the optimizer."""


def finding(unit: str, *values: str, absolute: float = 0.0):
    """Mark a track for asv and for the gate, which call it with each of `values`, where there are any. It may also
    move by `absolute`, in its own unit."""

    def mark(track: Callable[..., float]) -> Callable[..., float]:
        track.unit, track.version, track.timeout = unit, "1", 600
        track.relative, track.absolute = RELATIVE, absolute
        if values:
            track.params, track.param_names = (list(values),), ("of",)
        return track

    return mark


def dropout_network() -> nn.Module:
    """The network of digits with dropout of half of its hidden units."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10))


@cache
def workload(name: str = "digits") -> Workload:
    return replace(find("digits"), name=name, model=dropout_network) if name == "dropout" else find(name)


@cache
def data() -> Data:
    torch.set_num_threads(1)
    return workload().load()


@cache
def trained(of: str, optimizer: str = "sgd", epochs: int = 1, name: str = "digits") -> pd.DataFrame:
    """The last evaluation of each replica, trained by the suite's engine: as an `ensemble`, or plainly on a
    backend."""
    rate, stepper = OPTIMIZERS[optimizer]
    protocol = Protocol(rate, EqualEpochs(epochs), optimizer=stepper)
    return evaluations(of, protocol, BATCH_SIZE, name).groupby("seed").last()


def evaluations(of: str, protocol: Protocol, batch_size: int, name: str = "digits") -> pd.DataFrame:
    backend, together = ("cpu", TOGETHER) if of == "ensemble" else (of, 1)
    replicas = 1 if of == "sequential" else TOGETHER
    cell = Cell(TRAINING, name, backend, batch_size, replicas, protocol, replicas_per_call=together)
    return TRAINING.measure(workload(name), data(), cell)


@finding("nats", "sequential", "cpu", "ensemble")
def track_training_loss(of):
    """After the 45 updates of an epoch."""
    return trained(of)["train_loss"].mean()


@finding("nats", *OPTIMIZERS)
def track_training_loss_by_optimizer(of):
    """After an epoch of an ensemble."""
    return trained("ensemble", of)["train_loss"].mean()


@finding("nats")
def track_training_loss_compiled():
    """After a hundred updates of a compiled ensemble."""
    inputs, targets = data().train_inputs, data().train_targets
    ensemble = Ensemble(workload(), range(REPLICAS), workload().learning_rate)
    ensemble.compile(inputs, targets, REPLICA_BATCH)
    generator = seeds.generator("findings", "compiled")
    for _ in range(100):
        ensemble.update(inputs, targets, torch.randint(FULL_BATCH, (REPLICAS, REPLICA_BATCH), generator=generator))
    losses, _ = ensemble.evaluate(inputs, targets)
    return losses.mean().item()


@finding("share", "cpu", "ensemble", absolute=2 / (TOGETHER * 360))
def track_test_error(of):
    """After five epochs. One example that rounding moves across a decision boundary changes it by 0.0007: two may."""
    return 1 - trained(of, epochs=5)["test_score"].mean()


@finding("nats", "cpu", "ensemble")
def track_test_loss(of):
    """After five epochs."""
    return trained(of, epochs=5)["test_loss"].mean()


@finding("nats", "cpu", "ensemble")
def track_test_loss_of_dropout_network(of):
    """After an epoch; dropout acts in training and not in evaluation."""
    return trained(of, name="dropout")["test_loss"].mean()


@finding("without / with")
def track_momentum_speed_up():
    """Updates to a training loss of 0.5 without momentum over those with 0.9, at the same rate."""
    updates = {}
    for momentum in (0.0, 0.9):
        protocol = Protocol(0.1, TargetLoss(0.5, 2000), optimizer=sgd(momentum))
        replicas = evaluations("ensemble", protocol, 256).groupby("seed")
        updates[momentum] = [
            value_at_crossing(rows["train_loss"], rows["updates"].tolist(), 0.5) for _, rows in replicas
        ]
    return sum(updates[0.0]) / sum(updates[0.9])


def examples_not_seen_once(batches: list[Tensor]) -> int:
    """The number of examples that do not occur exactly once, from the examples' numbers in each batch of an epoch."""
    counts = torch.cat(batches).bincount(minlength=FULL_BATCH)
    return int((counts != 1).sum()) + len(counts) - FULL_BATCH


@finding("examples", "resident", "dataloader", "ensemble")
def track_examples_not_seen_once(of):
    """In an epoch of batches of 32, the last of which is smaller."""
    numbers, generator = torch.arange(FULL_BATCH), seeds.generator("findings", "epoch")
    if of == "resident":
        return examples_not_seen_once([batch for batch, _ in resident_batches(numbers, numbers, 32, generator)])
    if of == "dataloader":
        batches = loader_batches(numbers, numbers, 32, generator, torch.device("cpu"))
        return examples_not_seen_once([batch for batch, _ in batches])
    shared = replace(workload(), resplit=False)
    protocol, replicas = Protocol(OPTIMIZERS["sgd"][0], EqualEpochs(1)), range(TOGETHER)
    batches = Examples(shared, data(), replicas).batches(protocol, 32, replicas)
    epoch = torch.cat([next(batches) for _ in range(-(-FULL_BATCH // 32))], dim=1)
    return sum(examples_not_seen_once([order]) for order in epoch)


@cache
def statistics(name: str) -> GradientStatistics:
    """Of all gradients at the initial parameters, with the model in training mode."""
    with seeds.torch_seeded("findings", "statistics"):
        model = workload(name).initial_model(0).train()
        return gradient_statistics(model, workload().loss, data().train_inputs, data().train_targets)


@finding("nats / parameter", "digits", "dropout")
def track_gradient_norm(of):
    """Of the mean gradient over all examples, by the pass over their gradients."""
    return statistics(of).squared_norm ** 0.5


@finding("examples", "digits", "dropout")
def track_noise_scale(of):
    return statistics(of).noise_scale


@finding("nats / parameter")
def track_gradient_norm_of_batch():
    """Of the first 32 examples, by the function that samples noise."""
    inputs, targets = data().train_inputs[:BATCH_SIZE], data().train_targets[:BATCH_SIZE]
    return batch_gradient(workload().initial_model(0), workload().loss, inputs, targets).norm().item()


@finding("noise / gradient")
def track_relative_gradient_noise():
    """Of batches of 32, sampled."""
    model, examples = workload().initial_model(0), (data().train_inputs, data().train_targets)
    generator = seeds.generator("findings", "noise")
    orders = (torch.randperm(FULL_BATCH, generator=generator)[:BATCH_SIZE] for _ in range(100))
    batches = (tuple(part[order] for part in examples) for order in orders)
    noise = sampled_noise(model, workload().loss, *examples, batches)
    return noise / batch_gradient(model, workload().loss, *examples).norm().item()
