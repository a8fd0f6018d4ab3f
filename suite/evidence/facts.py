"""The facts about a workload that are stored beside its results."""

from __future__ import annotations

import json
from dataclasses import asdict, field

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from suite.optimizers import Optimizer, sgd
from suite.workloads import Data, Workload


@dataclass(frozen=True, config=ConfigDict(strict=True, arbitrary_types_allowed=True, extra="forbid"))
class Facts:
    """The properties of a workload that claims and studies need to read its stored rows, without loading it."""

    name: str
    about: str
    small: int
    large: int
    train_examples: int
    test_examples: int
    middle: int
    learning_rate: float
    learning_rates: tuple[float, ...]
    epochs: int
    target_loss: float
    fitted_loss: float
    max_updates: int
    score_name: str
    resplit: bool
    published: dict[str, dict[str, float]]
    """Published numbers by quantity and batch size; empty where there are none."""
    published_by: str
    optimizer: Optimizer = field(default_factory=sgd)
    published_noise: dict[str, dict[str, float]] = field(default_factory=dict)
    """Published noise scale and critical batch size in examples, each at the `start` and its `average`."""
    published_noise_by: str = ""

    @classmethod
    def of(cls, workload: Workload, data: Data) -> Facts:
        return cls(
            name=workload.name,
            about=workload.about,
            small=workload.small,
            large=workload.large,
            train_examples=len(data.train_inputs),
            test_examples=len(data.test_inputs),
            middle=workload.middle,
            learning_rate=workload.learning_rate,
            learning_rates=workload.learning_rates,
            epochs=workload.epochs,
            target_loss=workload.target_loss,
            fitted_loss=workload.fitted_loss,
            max_updates=workload.max_updates,
            score_name=workload.score_name,
            resplit=workload.resplit,
            published={
                quantity: {str(size): value for size, value in values.items()}
                for quantity, values in (workload.published.values.items() if workload.published else ())
            },
            published_by=workload.published.source if workload.published else "",
            optimizer=workload.optimizer,
            **_published_noise(workload),
        )

    def to_dict(self) -> dict:
        """As JSON has it."""
        return json.loads(json.dumps(asdict(self) | {"optimizer": self.optimizer.key_fields()}))

    @classmethod
    def from_dict(cls, stored: dict) -> Facts:
        """Restore what `to_dict` wrote; raise ValueError, TypeError or KeyError for anything else."""
        restored = {
            "optimizer": Optimizer.from_key_fields(stored["optimizer"]),
            "learning_rates": tuple(stored["learning_rates"]),
        }
        return cls(**stored | restored)


def _published_noise(workload: Workload) -> dict:
    if (published := workload.published_noise) is None:
        return {}
    pairs = {"noise scale": published.noise_scale, "critical batch": published.critical_batch_size}
    values = {quantity: dict(zip(("start", "average"), pair, strict=True)) for quantity, pair in pairs.items()}
    return {"published_noise": values, "published_noise_by": published.source}
