"""Optimizers as values: a torch optimizer for one model, and a stacked form of the same update for an ensemble.

An `Optimizer` is a class of torch.optim, or of the user's, with its hyperparameters. The learning rate is part of the
protocol of a training instead.
"""

from __future__ import annotations

import fnmatch
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from suite.errors import UserError
from suite.optimizers.forms import FORMS, Form, Hyperparameters


@dataclass(frozen=True)
class Group:
    """A parameter group: parameters with their own hyperparameters."""

    patterns: tuple[str, ...]
    """Shell-style patterns of the names in `model.named_parameters()`; a parameter is in the first group that
    matches."""
    hyperparameters: tuple[tuple[str, Any], ...]
    lr_scale: float
    """The group's learning rate over the protocol's."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer without its learning rate: `sgd`, `adam`, `adamw`, or any class through `Optimizer.of`.

    Holds only plain values, so that other processes can import the class by its path.
    """

    path: str
    """`module:class`."""
    hyperparameters: tuple[tuple[str, Any], ...] = ()
    """By torch's names; with the defaults where there is a stacked form, else only those that were passed."""
    groups: tuple[Group, ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()
    """The remaining hyperparameters of a class without a stacked form: a change of theirs changes its updates."""

    @classmethod
    def of(cls, torch_class: type[torch.optim.Optimizer], **hyperparameters) -> Optimizer:
        """The optimizer that `torch_class(parameters, lr=..., **hyperparameters)` constructs.

        Raises UserError where the class rejects the hyperparameters, or where they contain a learning rate.
        """
        if not (isinstance(torch_class, type) and issubclass(torch_class, torch.optim.Optimizer)):
            raise UserError(f"{torch_class!r} is not a class of optimizers: give one such as torch.optim.RMSprop")
        if "lr" in hyperparameters:
            raise UserError(f"optimizer {torch_class.__name__}: leave out lr; the workload's learning_rate is used")
        if "<locals>" in torch_class.__qualname__:
            raise UserError(
                f"optimizer {torch_class.__name__}: define the class at the top of its file, where other processes "
                "find it"
            )
        for form in FORMS.values():
            if torch_class is form.torch_class and hyperparameters.keys() <= form.defaults.keys():
                hyperparameters = {**form.defaults, **hyperparameters}
        known = any(torch_class is form.torch_class for form in FORMS.values())
        optimizer = cls(_path(torch_class), _pairs(hyperparameters, known))
        defaults = _trial(optimizer, torch_class).defaults
        return optimizer if optimizer.form else replace(optimizer, defaults=_rest(defaults, hyperparameters))

    def group(self, *patterns: str, lr_scale: float = 1.0, **hyperparameters) -> Optimizer:
        """Add a parameter group: the parameters whose names match one of the shell-style `patterns`, and none of an
        earlier group, get these `hyperparameters` and `lr_scale` times the learning rate.

        >>> str(adamw(weight_decay=0.1).group("*.bias", "norm.*", weight_decay=0.0))
        'AdamW, weight_decay 0.1, *.bias and norm.* with weight_decay 0'
        """
        if not patterns:
            raise UserError(f"{self.name}: a group needs patterns of parameter names, such as '*.bias'")
        if "lr" in hyperparameters:
            raise UserError(
                f"{self.name}: a group has no lr; give lr_scale, a multiple of the workload's learning_rate"
            )
        if not (isinstance(lr_scale, Real) and 0 <= lr_scale < math.inf):
            raise UserError(f"{self.name}: lr_scale must be a number of 0 or more, not {lr_scale!r}")
        pairs = _pairs(hyperparameters, self.form is not None)
        _trial(self.changed(**dict(pairs)))
        return replace(self, groups=(*self.groups, Group(patterns, pairs, float(lr_scale))))

    @property
    def torch_class(self) -> type[torch.optim.Optimizer]:
        module, _, name = self.path.partition(":")
        return attrgetter(name)(importlib.import_module(module))

    @property
    def form(self) -> Form | None:
        """Its stacked form; None where there is none, or where a hyperparameter is not supported."""
        named = [form for form in FORMS.values() if self.path == _path(form.torch_class)]
        known = [form for form in named if self._names() <= form.defaults.keys()]
        return known[0] if known else None

    def _names(self) -> set[str]:
        return {name for part in (self, *self.groups) for name, _ in part.hyperparameters}

    @property
    def name(self) -> str:
        """`sgd`, `adam`, `adamw`, or the class's name."""
        return self.form.name if self.form else self.label

    @property
    def label(self) -> str:
        """The class's name."""
        return self.path.rpartition(":")[2]

    def make(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Construct the torch optimizer of one `model`."""
        return self._construct(self.torch_class, self._groups(model, learning_rate), learning_rate)

    def _groups(self, model: nn.Module, learning_rate: float) -> list:
        if not self.groups:
            return list(model.parameters())
        members = {index: [] for index in (None, *range(len(self.groups)))}
        for name, parameter in model.named_parameters():
            members[self._group_index(name)].append(parameter)
        groups = [
            {"params": members[index], "lr": learning_rate * group.lr_scale, "lr_scale": group.lr_scale}
            | dict(group.hyperparameters)
            for index, group in enumerate(self.groups)
        ]
        return [group for group in ({"params": members[None]}, *groups) if group["params"]]

    def _construct(self, torch_class: type, parameters, learning_rate: float) -> torch.optim.Optimizer:
        return torch_class(parameters, lr=learning_rate, **dict(self.hyperparameters))

    def _group_index(self, parameter: str) -> int | None:
        for index, group in enumerate(self.groups):
            if any(fnmatch.fnmatchcase(parameter, pattern) for pattern in group.patterns):
                return index
        return None

    def unmatched(self, model: nn.Module) -> list[str]:
        """The patterns of groups that match no parameter of `model`."""
        names = [name for name, _ in model.named_parameters()]
        patterns = (pattern for group in self.groups for pattern in group.patterns)
        return [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]

    def of_parameter(self, name: str) -> tuple[Hyperparameters, float]:
        """The hyperparameters of the parameter `name`, and its learning rate over the protocol's."""
        index = self._group_index(name)
        if index is None:
            return dict(self.hyperparameters), 1.0
        group = self.groups[index]
        return dict(self.hyperparameters) | dict(group.hyperparameters), group.lr_scale

    def get(self, name: str) -> Any:
        """The hyperparameter `name` of the parameters in no group; None where the optimizer has no such one."""
        return dict(self.hyperparameters).get(name)

    def changed(self, **hyperparameters) -> Optimizer:
        """Replace `hyperparameters`; those of groups stay.

        >>> str(sgd(momentum=0.9).changed(momentum=0.5))
        'SGD, momentum 0.5'
        """
        changed = dict(self.hyperparameters) | hyperparameters
        return replace(self, hyperparameters=_pairs(changed, self.form is not None))

    def mapped(self, change: Callable[[Hyperparameters], Hyperparameters]) -> Optimizer:
        """Apply `change` to the hyperparameters of every parameter, whether it is in a group or in none."""
        shared = dict(self.hyperparameters)

        def changed_group(group: Group) -> Group:
            changed = change(shared | dict(group.hyperparameters))
            kept = {name: changed[name] for name, _ in group.hyperparameters}
            return replace(group, hyperparameters=_pairs(kept, self.form is not None))

        return replace(self.changed(**change(shared)), groups=tuple(map(changed_group, self.groups)))

    @property
    def momentum(self) -> float | None:
        """λ: SGD's momentum, Adam's beta1; None where it is unknown, or where groups have different momenta."""
        if self.form is None:
            return None
        shared = dict(self.hyperparameters)
        groups = [shared | dict(group.hyperparameters) for group in self.groups]
        momenta = {self.form.momentum(hyperparameters) for hyperparameters in (shared, *groups)}
        return momenta.pop() if len(momenta) == 1 else None

    def with_momentum(self, momentum: float) -> Optimizer:
        """Set momentum λ in the lecture's form; zero means no momentum.

        >>> str(sgd().with_momentum(0.9)), str(adam().with_momentum(0.0))
        ('SGD, momentum 0.9', 'Adam, betas 0 and 0.999')
        """
        return self.mapped(lambda hyperparameters: self.form.with_momentum(hyperparameters, momentum))

    @property
    def momentum_gain(self) -> float:
        """The factor by which momentum lengthens the steps along a constant gradient: (1 - dampening) / (1 - λ) for
        SGD, 1 for Adam."""
        return self.form.gain(dict(self.hyperparameters))

    @property
    def plain_sgd(self) -> bool:
        """Whether it is SGD without momentum."""
        return self.name == "sgd" and self.momentum == 0

    def key_fields(self) -> dict:
        """The plain values that determine its updates."""
        fields = {"name": self.name, "hyperparameters": _listed(self.hyperparameters)}
        if self.defaults:
            fields["defaults"] = _listed(self.defaults)
        if self.groups:
            fields["groups"] = [
                {"patterns": list(group.patterns), "lr_scale": group.lr_scale}
                | {"hyperparameters": _listed(group.hyperparameters)}
                for group in self.groups
            ]
        return fields

    @classmethod
    def from_key_fields(cls, fields: dict) -> Optimizer:
        """The inverse of `key_fields`. Without a stacked form `make` fails: the fields lack the class's module."""
        name = fields["name"]
        groups = (
            Group(tuple(group["patterns"]), _tupled(group["hyperparameters"]), group["lr_scale"])
            for group in fields.get("groups", ())
        )
        return cls(
            _path(FORMS[name].torch_class) if name in FORMS else f":{name}",
            _tupled(fields["hyperparameters"]),
            tuple(groups),
            _tupled(fields.get("defaults", ())),
        )

    def __str__(self) -> str:
        """The class's name and the hyperparameters that differ from the defaults: `AdamW, weight_decay 0.1`."""
        defaults = self.form.defaults if self.form else {}
        changed = [(name, value) for name, value in self.hyperparameters if defaults.get(name) != value]
        parts = [self.label, *(_in_words(name, value) for name, value in changed)]
        for group in self.groups:
            scaled = [("learning rate times", group.lr_scale)] if group.lr_scale != 1 else []
            settings = ", ".join(_in_words(name, value) for name, value in (*scaled, *group.hyperparameters))
            parts.append(f"{' and '.join(group.patterns)} with {settings}")
        return ", ".join(parts)


def sgd(momentum: float = 0.0, **hyperparameters) -> Optimizer:
    """torch.optim.SGD: θ ← θ − η g, with momentum b ← λ b + g and θ ← θ − η b."""
    return Optimizer.of(torch.optim.SGD, momentum=momentum, **hyperparameters)


def adam(betas: tuple[float, float] = (0.9, 0.999), **hyperparameters) -> Optimizer:
    """torch.optim.Adam; its weight decay adds to the gradient."""
    return Optimizer.of(torch.optim.Adam, betas=betas, **hyperparameters)


def adamw(betas: tuple[float, float] = (0.9, 0.999), **hyperparameters) -> Optimizer:
    """torch.optim.AdamW; its weight decay multiplies the parameters by 1 − η × weight_decay before the step."""
    return Optimizer.of(torch.optim.AdamW, betas=betas, **hyperparameters)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of an optimizer from `Optimizer.make`; each parameter group keeps its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


def _path(torch_class: type) -> str:
    return f"{torch_class.__module__}:{torch_class.__qualname__}"


def _trial(optimizer: Optimizer, torch_class: type | None = None) -> torch.optim.Optimizer:
    """The torch optimizer of one parameter. Raises UserError where the class rejects the hyperparameters, or where no
    training with them can converge."""
    parameter = nn.Parameter(torch.zeros(1, 1))  # a matrix: Muon takes nothing else
    try:
        constructed = optimizer._construct(torch_class or optimizer.torch_class, [parameter], 0.1)
    except Exception as error:
        reason = " ".join(str(error).replace(f"{optimizer.label}.__init__() ", "").split())
        raise UserError(f"optimizer {optimizer.label}: {reason or type(error).__name__}") from error
    if optimizer.name == "sgd" and not optimizer.get("momentum") < 1:
        momentum = optimizer.get("momentum")
        raise UserError(f"optimizer SGD: with momentum {momentum} the movement grows without end: give less than 1")
    return constructed


def _rest(defaults: Hyperparameters, given: Hyperparameters) -> tuple[tuple[str, Any], ...]:
    """Those of a class's `defaults` that are plain values and not `given`."""
    rest = {name: value for name, value in defaults.items() if name != "lr" and name not in given}
    plain = (type(None), bool, int, float, str, tuple)
    return _pairs({name: value for name, value in rest.items() if isinstance(value, plain)}, False)


def _pairs(hyperparameters: Hyperparameters, as_floats: bool) -> tuple[tuple[str, Any], ...]:
    """Names and plain values, sorted by name; `as_floats` makes 0 and 0.0 the same."""
    return tuple((name, _plain(name, hyperparameters[name], as_floats)) for name in sorted(hyperparameters))


def _plain(name: str, value: Any, as_floats: bool) -> Any:
    """A hyperparameter as a number, a boolean, a string, None, or a tuple of such values."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(name, item, as_floats) for item in value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if not isinstance(value, Real):
        raise UserError(f"hyperparameter {name} is a {type(value).__name__}: give a number, a word or a tuple")
    if not math.isfinite(value):
        raise UserError(f"hyperparameter {name} is {value}: give a finite number")
    return int(value) if isinstance(value, Integral) and not as_floats else float(value)


def _listed(hyperparameters: Sequence[tuple[str, Any]]) -> list:
    """Pairs as lists, for JSON."""
    return [[name, list(value) if isinstance(value, tuple) else value] for name, value in hyperparameters]


def _tupled(pairs: Sequence) -> tuple[tuple[str, Any], ...]:
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in pairs)


def _in_words(name: str, value: Any) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return f"{name} {' and '.join(f'{item:g}' if isinstance(item, float) else str(item) for item in values)}"
