"""Optimizers as frozen values: torch's own for one model, and stacked forms for ensembles in `forms`."""

from suite.optimizers.optimizer import Group, Optimizer, adam, adamw, set_learning_rate, sgd

__all__ = ["Group", "Optimizer", "adam", "adamw", "set_learning_rate", "sgd"]
