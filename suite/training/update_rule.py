"""How gradients move the parameters: descent, momentum, Nesterov's momentum, Adam.

Momentum stands in the lecture's form, m <- lambda m - eta g and theta <- theta + m. torch.optim.SGD keeps b with
m = -eta b instead: the same while eta is constant, and where it changes if b is then rescaled (`set_rate`).
Every rule names its twin in torch.optim.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Move = Callable[[Tensor, Tensor, list[Tensor], Tensor, Tensor, Tensor], None]


@dataclass(frozen=True, repr=False)
class UpdateRule:
    name: str
    memories: int
    """How many tensors of the parameter's shape it remembers, zero at first."""
    move: Move
    """`move(parameter, gradient, memory, learning_rate, momentum, updates)` changes `parameter` and `memory` in
    place. Shapes [R, ...] of R replicas; the rate and the momentum [R, 1, ...]; `updates` [], float64, how many
    this one makes it."""
    twin: Callable[[Iterable[nn.Parameter], float, float], torch.optim.Optimizer]
    """torch's own, from the parameters of one model, a learning rate and a momentum."""

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self):
        """Taken to another process by name: every process knows the rule already."""
        return rule_named, (self.name,)


def _descend(parameter, gradient, memory, learning_rate, momentum, updates):
    parameter.sub_(learning_rate * gradient)


def _momentum(parameter, gradient, memory, learning_rate, momentum, updates):
    (movement,) = memory
    movement.mul_(momentum).sub_(learning_rate * gradient)
    parameter.add_(movement)


def _nesterov(parameter, gradient, memory, learning_rate, momentum, updates):
    """The gradient as if it were taken after the movement (Sutskever et al. 2013), as torch writes it."""
    (movement,) = memory
    movement.mul_(momentum).sub_(learning_rate * gradient)
    parameter.add_(momentum * movement - learning_rate * gradient)


def _adam(parameter, gradient, memory, learning_rate, momentum, updates, beta=0.999, epsilon=1e-8):
    """Kingma, Ba 2015, algorithm 1; `momentum` is their beta_1."""
    mean, square = memory
    mean.mul_(momentum).add_((1 - momentum) * gradient)
    square.mul_(beta).add_((1 - beta) * gradient.square())
    mean_bias = (1 - momentum.double() ** updates).to(mean.dtype)
    square_bias = (1 - beta**updates).to(square.dtype)
    parameter.sub_(learning_rate * (mean / mean_bias) / ((square / square_bias).sqrt() + epsilon))


DESCENT = UpdateRule("descent", 0, _descend, lambda parameters, rate, _: torch.optim.SGD(parameters, rate))
MOMENTUM = UpdateRule("momentum", 1, _momentum, torch.optim.SGD)
NESTEROV = UpdateRule(
    "nesterov",
    1,
    _nesterov,
    lambda parameters, rate, momentum: torch.optim.SGD(parameters, rate, momentum, nesterov=momentum > 0),
)
ADAM = UpdateRule(
    "adam", 2, _adam, lambda parameters, rate, momentum: torch.optim.Adam(parameters, rate, (momentum, 0.999))
)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give a twin another learning rate, and keep its last movement -eta b: b times the old rate over the new (Goyal
    et al. 2017, section 3, momentum correction). A rate may rise from zero, which moves nothing, and never fall to
    it."""
    (group,) = optimizer.param_groups
    if rate == group["lr"]:
        return
    for memory in optimizer.state.values():
        if (b := memory.get("momentum_buffer")) is not None:
            b.mul_(group["lr"] / rate)
    group["lr"] = rate


RULES = {rule.name: rule for rule in (DESCENT, MOMENTUM, NESTEROV, ADAM)}


def rule_named(name: str) -> UpdateRule:
    return RULES[name]
