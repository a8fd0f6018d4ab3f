"""The definition of a workload: data, a model, a loss and an optimizer, with batch sizes and learning rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, ConfigDict, FiniteFloat, InstanceOf, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from suite import seeds
from suite.optimizers import Optimizer, sgd
from suite.workloads.data import Data
from suite.workloads.fields import Count, Counts, Label, Name, Plain, Positive, Rates, Sentence, Switch, Whole

CHECKED = ConfigDict(arbitrary_types_allowed=True, extra="forbid")


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example, in nats: logits [B, C] and class numbers [B] to [B]."""
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 where the largest logit is the right class, else 0: logits [B, C] and class numbers [B] to [B]."""
    return (outputs.argmax(dim=1) == targets).float()


def _optimizer(given: Any) -> Any:
    if not isinstance(given, Optimizer):
        raise ValueError(
            "give one of suite.optimizers, such as adamw(weight_decay=0.1) or Optimizer.of(torch.optim.RMSprop)"
        )
    return given


@dataclass(frozen=True, config=CHECKED)
class Published:
    """Published values for the same data, drawn in light grey beside the measured values."""

    source: Label
    """A short reference: the label in the figures."""
    values: dict[Literal["update_time", "epoch_time", "train_score", "test_score"], dict[Count, FiniteFloat]]
    """By quantity (`update_time` and `epoch_time` in seconds, `train_score`, `test_score`), the value at each batch
    size."""


@dataclass(frozen=True, config=CHECKED)
class PublishedNoise:
    """Published batch sizes for the same data, in examples: at the start of training, and its mean over training."""

    source: Label
    noise_scale: tuple[Positive, Positive]
    """tr(Sigma) / |G|^2."""
    critical_batch_size: tuple[Positive, Positive]
    """Fitted to the updates that several batch sizes take to a loss."""


@dataclass(frozen=True, eq=False, config=CHECKED)
class Workload:
    """Data, a model, a loss and an optimizer, with the batch sizes and learning rates to measure.

    `small` and `large` are the batch sizes that the lecture's table calls Small and Large. They are fixed here
    and never chosen from results.
    """

    name: Name
    """Names files and benchmarks: letters, digits, '-', '_' and '.'."""
    about: Sentence
    """One sentence: the data, the model and the loss."""
    load: Callable[[], Any]
    """Returns the `Data`."""
    model: Callable[[], Any]
    """Returns a new `nn.Module`, with initial parameters drawn from torch's global generator."""
    batch_sizes: Counts
    """Ascending; contains `small` and `large`."""
    small: Count
    large: Count
    learning_rate: Positive
    """The learning rate of the lecture's comparison, equal for every batch size."""
    learning_rates: Rates
    """The learning rates at which that comparison is repeated; contains `learning_rate`."""
    epochs: Count
    target_loss: Positive
    """Mean training loss to which every batch size is trained where updates or scores are compared at equal loss."""
    max_updates: Count
    """The limit of updates of a training to the target loss or to the fitted loss."""
    fitted_loss: Positive | None = None
    """Mean training loss at which the training examples count as fitted, and *Generalization* is judged: low enough
    for a training accuracy of at least 99.5%. An eighth of `target_loss` when None."""
    loss: Callable[[Any, Any], Any] = cross_entropy
    """Outputs [B, ...] and targets [B, ...] to the loss of each example [B]."""
    score: Callable[[Any, Any], Any] = accuracy
    """Outputs [B, ...] and targets [B, ...] to the score of each example [B]; higher is better."""
    score_name: Label = "accuracy"
    optimizer: Annotated[InstanceOf[Optimizer], BeforeValidator(_optimizer)] = field(default_factory=sgd)
    """Used with the learning rates above by timings, tuning and trainings."""
    resplit: Switch = False
    """Whether every replica draws its own split into training and test sets."""
    training_batch_sizes: Counts | None = None
    """The subset of `batch_sizes` for trainings, where all would take too long; the preset chooses when None."""
    claims: Annotated[tuple[str, ...], Plain] | None = None
    """The default claims, where all would take too long; all when None."""
    published: Published | None = None
    published_noise: PublishedNoise | None = None
    base_seed: Whole = 0
    """The seed from which every random stream of a measurement is derived, by name."""

    @model_validator(mode="after")
    def _check_together(self) -> Workload:
        if self.fitted_loss is None:
            object.__setattr__(self, "fitted_loss", self.target_loss / 8)
        for name in ("small", "large"):
            if (size := getattr(self, name)) not in self.batch_sizes:
                raise ValueError(f"{name} is {size}: batch_sizes {self.batch_sizes} must contain it")
        if list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ValueError(f"batch_sizes are {self.batch_sizes}: give them in ascending order, each once")
        if not self.small < self.large:
            raise ValueError(f"small is {self.small} and large {self.large}: small must be less")
        if self.learning_rate not in self.learning_rates:
            raise ValueError(
                f"learning_rate is {self.learning_rate:g}: learning_rates {self.learning_rates} must contain it"
            )
        if unknown := set(self.training_batch_sizes or ()) - set(self.batch_sizes):
            raise ValueError(f"training_batch_sizes contain {min(unknown)}: batch_sizes {self.batch_sizes} must, too")
        if self.fitted_loss > self.target_loss:
            raise ValueError(
                f"fitted_loss is {self.fitted_loss:g}: it must be at most target_loss, {self.target_loss:g}"
            )
        return self

    @property
    def middle(self) -> int:
        """The batch size in the middle of those for trainings."""
        sizes = self.training_batch_sizes or self.batch_sizes
        return sizes[len(sizes) // 2]

    def initial_model(self, replica: int) -> nn.Module:
        """The model with the initial parameters of `replica`, which are the same at every batch size."""
        with seeds.torch_seeded("initialisation", replica, base_seed=self.base_seed):
            return self.model()

    def replica_data(self, data: Data, replica: int) -> Data:
        """The data in the split of `replica`; `data` itself unless the workload has `resplit`."""
        return data.resplit(replica, self.base_seed) if self.resplit else data

    def generator(self, *names: str | int) -> torch.Generator:
        """A CPU generator at the start of the random stream called `names`."""
        return seeds.generator(*names, base_seed=self.base_seed)
