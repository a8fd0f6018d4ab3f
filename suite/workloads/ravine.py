"""The lecture's second toy: a straight line whose inputs all lie on one side, so that the loss is a long valley."""

from torch import nn

from suite.workloads import twenty
from suite.workloads.data import Data
from suite.workloads.workload import Workload

EXAMPLES = twenty.EXAMPLES


def load() -> Data:
    """The examples of `twenty` with inputs 1 + x / 2, float32 [20, 1]: the gradients of weight and bias are similar,
    and the curvature across the valley is about twenty times that along it."""
    data = twenty.load()
    return Data(1 + data.train_inputs / 2, data.train_targets, 1 + data.test_inputs / 2, data.test_targets)


class FromAfar(nn.Linear):
    """One weight and one bias, initially 0.2 and 2.4: up the side of the valley, far from its lowest point."""

    def reset_parameters(self) -> None:
        nn.init.constant_(self.weight, 0.2)
        nn.init.constant_(self.bias, 2.4)


workload = Workload(
    name="ravine",
    about="The lecture's other toy: 20 made-up examples of a line far from the origin; a weight and a bias; half the "
    "squared error.",
    load=load,
    model=lambda: FromAfar(1, 1),
    loss=twenty.squared_error,
    score=twenty.minus_absolute_error,
    score_name="minus absolute error",
    batch_sizes=(1, 2, 5, 10, 20),
    small=1,
    large=10,
    learning_rate=0.1,
    learning_rates=(0.01, 0.03, 0.1, 0.3),
    epochs=5,
    target_loss=0.2,
    max_updates=2_000,
)
