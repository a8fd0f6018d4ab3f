"""What the claims on momentum share: how it is set, and how it is shown beside training without it."""

from suite.claims.claim import Facts
from suite.claims.drawing import LARGE_COLOUR, SMALL_COLOUR
from suite.optimizers import Optimizer, sgd
from suite.training.protocol import Budget, Protocol
from suite.workloads import Workload

LAMBDA = 0.9
"""The momentum of the lecture, and of a workload's optimizer where its own has none."""
PLAIN, WITH = "without", "with"
COLOURS = {PLAIN: SMALL_COLOUR, WITH: LARGE_COLOUR}
TOY = "a toy, trained with SGD"
"""The flag of rows that are the same for every workload."""
COLUMNS = ("Without momentum", "With")


def plain(learning_rate: float, budget: Budget) -> Protocol:
    """SGD without momentum."""
    return Protocol(learning_rate, budget, optimizer=sgd())


def heavy_ball(learning_rate: float, budget: Budget, momentum: float = LAMBDA) -> Protocol:
    """SGD with momentum."""
    return Protocol(learning_rate, budget, optimizer=sgd(momentum=momentum))


def why_unknown(of: Facts | Workload) -> str | None:
    """Why the rows on momentum cannot be measured; None where they can."""
    if of.optimizer.form is None:
        return f"the suite does not know what momentum is in {of.optimizer.label}"
    return f"{of.optimizer.label}'s groups have different momenta" if of.optimizer.momentum is None else None


def optimizers(of: Facts | Workload) -> dict[str, Optimizer]:
    """The workload's optimizer without momentum and with it: with its own, or else with LAMBDA."""
    own = of.optimizer
    return {PLAIN: own.with_momentum(0.0), WITH: own if own.momentum else own.with_momentum(LAMBDA)}


def rates(of: Facts | Workload, learning_rate: float) -> dict[str, float]:
    """The rates at which both go equally far along a constant gradient: `learning_rate` is that of the workload's own
    optimizer."""
    gain = optimizers(of)[WITH].momentum_gain
    if of.optimizer.momentum:
        return {PLAIN: learning_rate * gain, WITH: learning_rate}
    return {PLAIN: learning_rate, WITH: learning_rate / gain}


def momentum_of(facts: Facts) -> float:
    """λ of the workload's optimizer with momentum."""
    return optimizers(facts)[WITH].momentum


def about_a_toy(facts: Facts) -> str:
    """That a toy is trained with another optimizer than the workload; empty where that has the same."""
    label = facts.optimizer.label
    if label == sgd().label:
        return ""
    return (
        f"This row is about a toy, trained with SGD as in the lecture; {facts.name} itself is trained with {label}. "
    )
