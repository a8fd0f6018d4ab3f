"""What the claims on momentum share: how it is set, and how it is shown beside plain descent."""

from suite.claims.drawing import LARGE_COLOUR, SMALL_COLOUR
from suite.training.protocol import Budget, Protocol
from suite.training.update_rule import DESCENT, MOMENTUM

LAMBDA = 0.9
PLAIN, WITH = "without", "with"
COLOURS = {PLAIN: SMALL_COLOUR, WITH: LARGE_COLOUR}
COLUMNS = ("Without momentum", "With")


def plain(learning_rate: float, budget: Budget) -> Protocol:
    return Protocol(learning_rate, budget, update_rule=DESCENT)


def heavy_ball(learning_rate: float, budget: Budget, momentum: float = LAMBDA) -> Protocol:
    return Protocol(learning_rate, budget, update_rule=MOMENTUM, momentum=momentum)
