"""Protocols of trainings: the optimizer, the learning rate at every batch size, and the budget."""

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from suite.optimizers import Optimizer, sgd
from suite.training.budgets import Budget, GrowingBatch, GrowingLengths, TargetLoss, updates_per_epoch
from suite.training.learning_rate import FINE_SEARCH, FIXED, Fixed, RateRule


@dataclass(frozen=True)
class Protocol:
    """An optimizer, a learning rate with its rule, a budget, and the parameters that are evaluated."""

    learning_rate: float
    """The learning rate that the rate rule scales."""
    budget: Budget
    rate_rule: RateRule = FIXED
    optimizer: Optimizer = field(default_factory=sgd)
    with_replacement: bool = False
    """Whether examples are drawn with replacement; an epoch of N examples then is N draws."""
    annealed: bool = False
    """Whether the learning rate of the rule falls linearly to 0 over the budget."""
    averaged: bool = False
    """Whether the running average of the parameters is evaluated (`suite.training.average`), not the last iterate."""

    @classmethod
    def of(
        cls, workload, budget: Budget, rate_rule: RateRule = FIXED, learning_rate: float | None = None, **schedule
    ) -> "Protocol":
        """The protocol with the optimizer and, by default, the learning rate of a `workload` or of its facts."""
        rate = workload.learning_rate if learning_rate is None else learning_rate
        return cls(rate, budget, rate_rule, workload.optimizer, **schedule)

    @classmethod
    def to_target(cls, workload, rate_rule: RateRule = FIXED, optimizer: Optimizer | None = None) -> "Protocol":
        """Training until the averaged parameters reach the target loss of a `workload` or of its facts.

        Their loss hardly depends on when it is evaluated. That of the last iterate jumps from update to update where
        batches are small, so that more evaluations find it below the target sooner.
        """
        budget = TargetLoss(workload.target_loss, workload.max_updates)
        return cls(workload.learning_rate, budget, rate_rule, optimizer or workload.optimizer, averaged=True)

    @classmethod
    def annealed_to_fit(cls, workload) -> "Protocol":
        """Annealed trainings of growing length, at a tuned peak rate, until the training examples of a `workload` or
        of its facts are fitted."""
        budget = GrowingLengths(workload.fitted_loss, workload.target_loss, workload.max_updates)
        return cls.of(workload, budget, FINE_SEARCH, annealed=True)

    def __post_init__(self):
        if isinstance(self.budget, GrowingBatch) and not isinstance(self.rate_rule, Fixed):
            raise ValueError("a growing batch needs a fixed rate: other rules depend on a single batch size")
        if self.annealed and isinstance(self.budget, TargetLoss):
            raise ValueError("an annealed rate needs a fixed length: a target loss has none")

    def key_fields(self) -> dict:
        """The plain values that determine a training. An optimizer without a stacked form enters by its name."""
        return {
            "learning_rate": float(self.learning_rate),
            "budget": self.budget.key_fields(),
            "rate_rule": self.rate_rule.key_fields(),
            "optimizer": self.optimizer.key_fields(),
            "with_replacement": self.with_replacement,
            **{name: True for name in ("annealed", "averaged") if getattr(self, name)},
        }

    @property
    def key(self) -> str:
        """Hash of `key_fields`; claims select the rows of their trainings by it."""
        return hashlib.sha256(json.dumps(self.key_fields(), sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        annealed = " annealed to 0" if self.annealed else ""
        drawn = ", drawn with replacement" if self.with_replacement else ""
        averaged = ", averaged parameters" if self.averaged else ""
        rate = f"{self.rate_rule.describe(self.learning_rate)}{annealed}"
        return f"{self.optimizer}, {rate}, {self.budget}{drawn}{averaged}"

    def optimizer_at(self, batch_size: int) -> Optimizer:
        """The optimizer with the hyperparameters of the rate rule at `batch_size`."""
        return self.rate_rule.optimizer(self.optimizer, batch_size)

    def batch_size(self, first: int, epoch: int) -> int:
        """The batch size after `epoch` epochs; `first` is that of the first epoch."""
        return self.budget.batch_size(first, epoch) if isinstance(self.budget, GrowingBatch) else first

    def epochs(self, updates: pd.Series, examples: int, batch_size: int) -> pd.Series:
        """Convert numbers of `updates` to epochs, whole or in part."""
        if not isinstance(self.budget, GrowingBatch):
            return updates / updates_per_epoch(examples, batch_size)
        ends = list(self.budget.checks(examples, batch_size))
        return pd.Series(np.interp(updates, ends, range(len(ends))), updates.index)

    def rate(self, examples: int, batch_size: int, updates: int) -> float:
        """The learning rate of the update that follows `updates` earlier ones, with batches of `batch_size` out of
        `examples`."""
        rate = self.rate_rule.rate(self.learning_rate, batch_size, updates, updates_per_epoch(examples, batch_size))
        return rate * (1 - updates / self.budget.expected_updates(examples, batch_size)) if self.annealed else rate

    def rate_moves(self, examples: int, batch_size: int, updates: int) -> bool:
        """Whether the learning rate may change at the update that follows `updates` earlier ones."""
        return self.annealed or self.rate_rule.moves(updates, updates_per_epoch(examples, batch_size))
