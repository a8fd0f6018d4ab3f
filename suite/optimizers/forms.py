"""Stacked forms of torch's optimizers: the update of many replicas at once, and the meaning of momentum.

To add an optimizer, write a `Form` and list it in FORMS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

Hyperparameters = Mapping[str, Any]


class Form:
    """A class of torch.optim: its update of many replicas at once, and the meaning of its momentum."""

    name: str
    torch_class: type[torch.optim.Optimizer]
    defaults: Hyperparameters
    """Every hyperparameter that the stacked form supports, with torch's default."""

    def states(self, hyperparameters: Hyperparameters) -> int:
        """Number of tensors of a parameter's shape that the optimizer keeps for it, initially zero."""
        raise NotImplementedError

    def step(
        self,
        parameter: Tensor,
        gradient: Tensor,
        state: Sequence[Tensor],
        learning_rate: Tensor,
        hyperparameters: Hyperparameters,
        updates: Tensor,
    ) -> None:
        """Change `parameter` [R, ...] and `state` in place, as torch does for each of R replicas.

        `learning_rate` is [R, 1, ...]; a hyperparameter is a plain value or, where replicas differ, a tensor of that
        shape. `updates` [] counts the updates including this one, in the widest float of the device.
        """
        raise NotImplementedError

    def momentum(self, hyperparameters: Hyperparameters) -> float | None:
        """λ, the factor by which the weight of a past gradient shrinks at each update; None where there is none."""
        return None

    def with_momentum(self, hyperparameters: Hyperparameters, momentum: float) -> Hyperparameters:
        """Set momentum λ in the lecture's form: without dampening, not Nesterov's."""
        raise NotImplementedError

    def scale(self, state: Hyperparameters, hyperparameters: Hyperparameters) -> Tensor | float:
        """The divisor of each coordinate of a step, from torch's `state` of a parameter after the update."""
        return 1.0

    def gain(self, hyperparameters: Hyperparameters) -> float:
        """Sum of the weights of all past gradients: the factor by which momentum lengthens the steps along a constant
        gradient."""
        return 1.0

    momentum_symbol = "λ"
    averages = False
    """Whether a step takes the average of past gradients, whose weights add up to 1, and divides it by `scale`."""
    decoupled_weight_decay = False
    """Whether weight decay shrinks the parameters directly, instead of adding to the gradient."""
    adam_rules = False
    """Whether the rate rules for Adam, which change betas and eps, apply."""
    in_words = ""
    """A sentence on how torch computes a step from gradients."""


def _zero(hyperparameter: Tensor | float) -> bool:
    """Whether a hyperparameter is zero for every replica; a tensor never counts as zero."""
    return not isinstance(hyperparameter, Tensor) and hyperparameter == 0


class Sgd(Form):
    name = "sgd"
    torch_class = torch.optim.SGD
    defaults = MappingProxyType({"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False})
    in_words = (
        "torch.optim.SGD keeps a buffer b ← λ b + g and moves the parameters by −η b: with a constant learning rate "
        "this is the lecture's rule."
    )

    def states(self, hyperparameters):
        return 0 if _zero(hyperparameters["momentum"]) else 1

    def step(self, parameter, gradient, state, learning_rate, hyperparameters, updates):
        momentum, dampening = hyperparameters["momentum"], hyperparameters["dampening"]
        if not _zero(decay := hyperparameters["weight_decay"]):
            gradient = gradient + decay * parameter
        if state:
            (buffer,) = state
            added = gradient
            if not _zero(dampening):
                added = torch.where(updates == 1, gradient, (1 - dampening) * gradient)
            buffer.mul_(momentum).add_(added)
            gradient = gradient + momentum * buffer if hyperparameters["nesterov"] else buffer
        parameter.sub_(learning_rate * gradient)

    def momentum(self, hyperparameters):
        return hyperparameters["momentum"]

    def with_momentum(self, hyperparameters, momentum):
        return {**hyperparameters, "momentum": momentum, "dampening": 0.0, "nesterov": False}

    def gain(self, hyperparameters):
        momentum = hyperparameters["momentum"]
        return (1 - hyperparameters["dampening"]) / (1 - momentum) if momentum else 1.0


class Adam(Form):
    """Adam (Kingma, Ba 2015, algorithm 1)."""

    name = "adam"
    torch_class = torch.optim.Adam
    defaults = MappingProxyType({"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0})
    momentum_symbol = "β1"
    averages = adam_rules = True
    in_words = (
        "Adam moves the parameters by a running average of the gradients, whose weights add up to 1, divided by the "
        "root of a running average of their squares (Kingma, Ba 2015)."
    )

    def states(self, hyperparameters):
        return 2

    def step(self, parameter, gradient, state, learning_rate, hyperparameters, updates):
        mean, square = state
        beta1, beta2 = hyperparameters["betas"]
        if not _zero(decay := hyperparameters["weight_decay"]):
            if self.decoupled_weight_decay:
                parameter.mul_(1 - learning_rate * decay)
            else:
                gradient = gradient + decay * parameter
        mean.mul_(beta1).add_((1 - beta1) * gradient)
        square.mul_(beta2).add_((1 - beta2) * gradient.square())
        mean_bias, square_bias = ((1 - beta**updates).to(mean.dtype) for beta in (beta1, beta2))
        parameter.sub_(learning_rate * (mean / mean_bias) / ((square / square_bias).sqrt() + hyperparameters["eps"]))

    def momentum(self, hyperparameters):
        return hyperparameters["betas"][0]

    def with_momentum(self, hyperparameters, momentum):
        return {**hyperparameters, "betas": (momentum, hyperparameters["betas"][1])}

    def scale(self, state, hyperparameters):
        beta = hyperparameters["betas"][1]
        return (state["exp_avg_sq"] / (1 - beta ** float(state["step"]))).sqrt() + hyperparameters["eps"]


class AdamW(Adam):
    """AdamW (Loshchilov, Hutter 2019, algorithm 2)."""

    name = "adamw"
    torch_class = torch.optim.AdamW
    defaults = MappingProxyType({"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01})
    decoupled_weight_decay = True
    in_words = Adam.in_words.replace("Adam", "AdamW", 1)


FORMS: dict[str, Form] = {form.name: form for form in (Sgd(), Adam(), AdamW())}
