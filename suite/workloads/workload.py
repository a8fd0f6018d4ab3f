"""The definition of a workload: data, a model, a loss and an optimizer, with batch sizes and learning rates."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from suite import seeds
from suite.devices import out_of_memory
from suite.errors import UserError
from suite.optimizers import Optimizer, sgd


@dataclass(frozen=True)
class Data:
    """Training and test examples, on the CPU.

    `train_inputs` [N, ...] and `test_inputs` [M, ...] are inputs of the model, one example per row; `train_targets`
    [N, ...] and `test_targets` [M, ...] are the targets of the loss.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor

    def pooled(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of all examples, training before test."""
        return torch.cat([self.train_inputs, self.test_inputs]), torch.cat([self.train_targets, self.test_targets])

    def split(self, replica: int, base_seed: int = 0) -> tuple[Tensor, Tensor]:
        """Indices of the pooled examples that `replica` trains on and of those that it is tested on: a random split
        into sets of the same sizes."""
        sizes = [len(self.train_inputs), len(self.test_inputs)]
        generator = seeds.generator("split", replica, base_seed=base_seed)
        return torch.randperm(sum(sizes), generator=generator).split(sizes)

    def resplit(self, replica: int, base_seed: int = 0) -> Data:
        """The same examples in the split of `replica`."""
        (inputs, targets), (train, test) = self.pooled(), self.split(replica, base_seed)
        return Data(inputs[train], targets[train], inputs[test], targets[test])

    def to(self, device: torch.device) -> Data:
        return Data(
            self.train_inputs.to(device),
            self.train_targets.to(device),
            self.test_inputs.to(device),
            self.test_targets.to(device),
        )


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example, in nats: logits [B, C] and class numbers [B] to [B]."""
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 where the largest logit is the right class, else 0: logits [B, C] and class numbers [B] to [B]."""
    return (outputs.argmax(dim=1) == targets).float()


@dataclass(frozen=True)
class Published:
    """Published values for the same data, drawn in light grey beside the measured values."""

    source: str
    """A short reference: the label in the figures."""
    values: dict[str, dict[int, float]]
    """By quantity (`update_time` and `epoch_time` in seconds, `train_score`, `test_score`), the value at each batch
    size."""


@dataclass(frozen=True)
class PublishedNoise:
    """Published batch sizes for the same data, in examples: at the start of training, and its mean over training."""

    source: str
    noise_scale: tuple[float, float]
    """tr(Sigma) / |G|^2."""
    critical_batch_size: tuple[float, float]
    """Fitted to the updates that several batch sizes take to a loss."""


@dataclass(frozen=True)
class Workload:
    """Data, a model, a loss and an optimizer, with the batch sizes and learning rates to measure.

    `small` and `large` are the batch sizes that the lecture's table calls Small and Large. They are fixed here
    and never chosen from results.
    """

    name: str
    about: str
    """One sentence: the data, the model and the loss."""
    load: Callable[[], Data]
    model: Callable[[], nn.Module]
    """Constructs a model, with initial parameters drawn from torch's global generator."""
    batch_sizes: tuple[int, ...]
    """Ascending; contains `small` and `large`."""
    small: int
    large: int
    learning_rate: float
    """The learning rate of the lecture's comparison, equal for every batch size."""
    learning_rates: tuple[float, ...]
    """The learning rates at which that comparison is repeated; contains `learning_rate`."""
    epochs: int
    target_loss: float
    """Mean training loss to which every batch size is trained where updates or scores are compared at equal loss."""
    max_updates: int
    """The limit of updates of a training to the target loss or to the fitted loss."""
    fitted_loss: float | None = None
    """Mean training loss at which the training examples count as fitted, and *Generalization* is judged: low enough
    for a training accuracy of at least 99.5%. An eighth of `target_loss` when None."""
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    """Outputs [B, ...] and targets [B, ...] to the loss of each example [B]."""
    score: Callable[[Tensor, Tensor], Tensor] = accuracy
    """Outputs [B, ...] and targets [B, ...] to the score of each example [B]; higher is better."""
    score_name: str = "accuracy"
    optimizer: Optimizer = field(default_factory=sgd)
    """Used with the learning rates above by timings, tuning and trainings."""
    resplit: bool = False
    """Whether every replica draws its own split into training and test sets."""
    training_batch_sizes: tuple[int, ...] | None = None
    """The subset of `batch_sizes` for trainings, where all would take too long; the preset chooses when None."""
    claims: tuple[str, ...] | None = None
    """The default claims, where all would take too long; all when None."""
    published: Published | None = field(default=None, hash=False)
    published_noise: PublishedNoise | None = None
    base_seed: int = 0
    """The seed from which every random stream of a measurement is derived, by name."""

    def __post_init__(self):
        if not isinstance(self.optimizer, Optimizer):
            given = getattr(self.optimizer, "__name__", repr(self.optimizer))
            raise UserError(
                f"workload {self.name}: optimizer is {given}: give one of suite.optimizers, such as "
                "adamw(weight_decay=0.1) or Optimizer.of(torch.optim.RMSprop)"
            )
        if self.fitted_loss is None:
            object.__setattr__(self, "fitted_loss", self.target_loss / 8)
        for name in ("learning_rate", "target_loss", "fitted_loss"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 < value < math.inf):
                raise ValueError(f"workload {self.name}: {name} must be a positive number, not {value!r}")
        for name in ("epochs", "max_updates"):
            value = getattr(self, name)
            if not (isinstance(value, Integral) and value > 0):
                raise ValueError(f"workload {self.name}: {name} must be a positive whole number, not {value!r}")
        for needed, where in ((self.small, self.batch_sizes), (self.large, self.batch_sizes)):
            if needed not in where:
                raise ValueError(f"workload {self.name}: batch_sizes {where} lacks {needed}")
        if self.learning_rate not in self.learning_rates:
            raise ValueError(f"workload {self.name}: learning_rates {self.learning_rates} lacks {self.learning_rate}")
        if list(self.batch_sizes) != sorted(set(self.batch_sizes)) or self.batch_sizes[0] < 1:
            raise ValueError(f"workload {self.name}: batch_sizes must be positive and ascending")
        if self.fitted_loss > self.target_loss:
            raise ValueError(f"workload {self.name}: fitted_loss must be at most target_loss, {self.target_loss:g}")
        if not self.small < self.large:
            raise ValueError(f"workload {self.name}: small must be less than large")
        if not min(self.learning_rates) > 0:
            raise ValueError(f"workload {self.name}: learning_rates {self.learning_rates} must be positive")

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


def data_fingerprint(data: Data) -> str:
    """Hash of all examples: content, shape and dtype."""
    digest = hashlib.sha256()
    for tensor in (data.train_inputs, data.train_targets, data.test_inputs, data.test_targets):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _training_losses(workload: Workload, data: Data) -> str:
    """Mean loss of a few examples in training mode, where dropout and similar layers are active, as text.

    For an optimizer without a stacked form, whose updates are known only by its name, also the losses after each of
    three updates. Empty where the model cannot be trained on these examples: a training reports that. An error of
    memory is raised, since it is not a property of the model.
    """
    inputs, targets = data.train_inputs[:8], data.train_targets[:8]
    model = workload.initial_model(0).train()
    try:
        with seeds.torch_seeded("fingerprint"):
            losses = [workload.loss(model(inputs), targets).mean()]
            if workload.optimizer.form is None:
                optimizer = workload.optimizer.make(model, workload.learning_rate)
                for _ in range(3):
                    optimizer.zero_grad()
                    losses[-1].backward()
                    optimizer.step()
                    losses.append(workload.loss(model(inputs), targets).mean())
    except Exception as error:
        if out_of_memory(error):
            raise
        return ""
    return " ".join(f"{loss.item():.5g}" for loss in losses)


def fingerprint(workload: Workload, data: Data) -> str:
    """Hash of the computation of a workload: its data, the losses and scores of replica 0 on a few examples, the
    structure of its model, the names of the trained parameters, and a loss in training mode.

    Losses enter with five significant digits, so that rounding on another processor does not matter.
    """
    few = slice(0, 8)
    model = workload.initial_model(0).eval()
    with torch.no_grad():
        outputs = model(data.train_inputs[few])
        losses = workload.loss(outputs, data.train_targets[few])
        scores = workload.score(outputs, data.train_targets[few])
    values = " ".join(f"{value:.5g}" for value in torch.cat([losses, scores]).tolist())
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    structure = re.sub("0x[0-9a-f]+", "", str(model))  # without memory addresses
    about = f"{structure} {trained} {_training_losses(workload, data)}"
    text = f"{workload.name} {workload.resplit} {data_fingerprint(data)} {values} {about}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
