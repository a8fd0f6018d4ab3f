"""A workload's optimizer without and with momentum, and the learning rates that make them comparable."""

from __future__ import annotations

from typing import Protocol as Shape

from suite.optimizers import Optimizer, sgd
from suite.training.budgets import Budget
from suite.training.protocol import Protocol

LAMBDA = 0.9
"""The momentum of the lecture, for optimizers without momentum."""
WITHOUT, WITH = "without", "with"


class HasOptimizer(Shape):
    """A workload, or its facts."""

    optimizer: Optimizer


def without_momentum(learning_rate: float, budget: Budget) -> Protocol:
    """SGD without momentum."""
    return Protocol(learning_rate, budget, optimizer=sgd())


def with_momentum(learning_rate: float, budget: Budget, momentum: float = LAMBDA) -> Protocol:
    """SGD with momentum."""
    return Protocol(learning_rate, budget, optimizer=sgd(momentum=momentum))


def why_no_momentum(workload: HasOptimizer) -> str | None:
    """The reason why the momentum of the workload's optimizer cannot be changed; None where it can."""
    optimizer = workload.optimizer
    if optimizer.form is None:
        return f"the suite does not know what momentum is in {optimizer.label}"
    return f"{optimizer.label}'s groups have different momenta" if optimizer.momentum is None else None


def momentum_pair(workload: HasOptimizer) -> dict[str, Optimizer]:
    """The workload's optimizer WITHOUT and WITH momentum: that of the workload, or else LAMBDA."""
    optimizer = workload.optimizer
    return {
        WITHOUT: optimizer.with_momentum(0.0),
        WITH: optimizer if optimizer.momentum else optimizer.with_momentum(LAMBDA),
    }


def matched_rates(workload: HasOptimizer, learning_rate: float) -> dict[str, float]:
    """The learning rates at which both optimizers move equally far along a constant gradient; that of the workload's
    optimizer is `learning_rate`."""
    gain = momentum_pair(workload)[WITH].momentum_gain
    if workload.optimizer.momentum:
        return {WITHOUT: learning_rate * gain, WITH: learning_rate}
    return {WITHOUT: learning_rate, WITH: learning_rate / gain}


def momentum_of(workload: HasOptimizer) -> float:
    """λ of the workload's optimizer with momentum."""
    return momentum_pair(workload)[WITH].momentum
