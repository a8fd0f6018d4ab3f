"""Trainings to the target at tuned rates, which several claims and studies read.

The loss is that of averaged parameters or of the last iterate, and the optimizer that of the workload, or its pair
without and with momentum.
"""

from __future__ import annotations

from dataclasses import replace

from suite.evidence.facts import Facts
from suite.experiments.cell import Cell, Scope
from suite.experiments.noise_scale import NOISE_SCALE
from suite.experiments.tuned_training import TUNED_TRAINING
from suite.training.budgets import TargetLoss
from suite.training.learning_rate import FINE_SEARCH, Tuned
from suite.training.momentum_pair import matched_rates, momentum_pair
from suite.training.protocol import Protocol
from suite.workloads import Workload

LAST_ITERATE_SEEDS = 10
"""Limit of the replicas that train until the last iterate reaches the target."""
EVALUATION_GROWTH = 1.2
"""The training along which the noise scale is measured is evaluated after 0, 1, 2, ... updates, later whenever their
number has grown by this factor."""
TRIAL_SEEDS = 2
"""Replicas with which each of its rates is tried."""


def averaged_cells(workload: Workload, scope: Scope) -> list[Cell]:
    """Trainings of averaged parameters to the target."""
    return [
        Cell(TUNED_TRAINING, workload.name, scope.training_backend, batch_size, scope.seeds, protocol)
        for protocol in protocols(workload).values()
        for batch_size in batch_sizes(workload, scope)
    ]


def batch_sizes(workload: Workload, scope: Scope) -> list[int]:
    """Every third of the coarse batch sizes that are trained with, or all of them in a full run."""
    sizes = [size for size in scope.training_batch_sizes if size in scope.coarse_batch_sizes]
    if scope.factorial:
        return sizes
    return sorted({*sizes[::3], workload.small, workload.large} & set(sizes))


def protocols(workload: Facts | Workload) -> dict[str, Protocol]:
    """Training of averaged parameters to the target at a tuned rate, without and with momentum. The grid of SGD's
    rates starts 1 − λ times as high with momentum, since a movement adds up to 1 / (1 − λ) gradients."""
    rates = matched_rates(workload, workload.learning_rate)
    return {
        name: replace(Protocol.to_target(workload, FINE_SEARCH, optimizer), learning_rate=rates[name])
        for name, optimizer in momentum_pair(workload).items()
    }


def last_iterate_protocols(workload: Facts | Workload) -> dict[str, Protocol]:
    """The same until the parameters after the last update reach the target."""
    return {name: replace(protocol, averaged=False) for name, protocol in protocols(workload).items()}


def averaged_protocol(workload: Facts | Workload) -> Protocol:
    """Training of averaged parameters to the target at a tuned rate, with the workload's optimizer: one of
    `protocols` where the suite knows what its momentum is."""
    return Protocol.to_target(workload, FINE_SEARCH)


def last_iterate_protocol(workload: Facts | Workload) -> Protocol:
    """The same until the parameters after the last update reach the target."""
    return replace(averaged_protocol(workload), averaged=False)


def course_cell(workload: Workload, scope: Scope) -> Cell:
    """The training along which the noise scale is measured."""
    target = TargetLoss(workload.target_loss, workload.max_updates, EVALUATION_GROWTH)
    protocol, seeds = Protocol.of(workload, target, Tuned(seeds=TRIAL_SEEDS)), min(LAST_ITERATE_SEEDS, scope.seeds)
    return Cell(NOISE_SCALE, workload.name, scope.training_backend, course_batch_size(workload), seeds, protocol)


def course_batch_size(workload: Workload) -> int:
    """A third of the way up the training batch sizes: one update is nearly all noise, so that little is lost between
    evaluations, and a training is still short."""
    sizes = workload.training_batch_sizes or workload.batch_sizes
    return sizes[len(sizes) // 3]
