"""Toys: losses over one or two parameters, trained with SGD as in the lecture, whatever the workload."""

from __future__ import annotations

from dataclasses import dataclass

from suite.evidence.facts import Facts
from suite.optimizers import sgd
from suite.training.momentum_pair import why_no_momentum

TOY_OPTIMIZER = sgd().label


@dataclass(frozen=True)
class Toy:
    """The row is about a toy, not about the workload under which it stands."""

    workload: str
    """The name of that workload."""
    optimizer: str
    """The label of its optimizer."""

    @classmethod
    def of(cls, facts: Facts) -> Toy:
        return cls(facts.name, facts.optimizer.label)

    def __str__(self) -> str:
        return f"a toy, trained with {TOY_OPTIMIZER}"

    @property
    def sentence(self) -> str:
        """That toy and workload are trained with different optimizers; empty where they are trained with the same."""
        if self.optimizer == TOY_OPTIMIZER:
            return ""
        return (
            f"This row is about a toy, trained with {TOY_OPTIMIZER} as in the lecture; {self.workload} itself is "
            f"trained with {self.optimizer}."
        )


def where_momentum_is_measured(facts: Facts) -> str:
    """Which rows are about momentum in the workload's own training; empty where its optimizer's cannot be changed."""
    if why_no_momentum(facts):
        return ""
    return (
        f"What momentum does on {facts.name} itself is in two other rows: “Momentum saves updates”, and “Movement” "
        "for matched learning rates."
    )
