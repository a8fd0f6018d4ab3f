"""How far a batch's gradient lies from the gradient of the whole training set.

With g_i the gradient of example i and G their mean over the N training examples, a batch of B examples
drawn without replacement has the gradient g_B with

    E|g_B - G|^2 = (S2 / B) (1 - B / N),    S2 = sum_i |g_i - G|^2 / (N - 1),

zero at B = N (sampling without replacement; Cochran, Sampling Techniques, 1977, theorem 2.2). The relative
noise is the root of the mean of |g_B - G|^2 over |G|.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from suite import devices, seeds
from suite.backends import BACKENDS, Backend, PerExampleLoss
from suite.cells import Cell, Measurement
from suite.instruments.gradient_pass import gradient_statistics
from suite.statistics import Interval, ratio_interval
from suite.training.evaluate import chunks
from suite.training.plain import endless_batches
from suite.training.protocol import Protocol
from suite.training.update import update
from suite.workloads import Data, Workload

STAGES = ("at initialisation", "after a tenth of training")


def batch_gradient(model: nn.Module, loss: PerExampleLoss, inputs: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the mean loss over `inputs` [B, ...], all parameters that are trained in one vector [P]."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = torch.zeros_like(nn.utils.parameters_to_vector(parameters))
    for some_inputs, some_targets in chunks(inputs, targets):
        mean = loss(model(some_inputs), some_targets).sum() / len(inputs)
        gradients = torch.autograd.grad(mean, parameters, materialize_grads=True)
        total += nn.utils.parameters_to_vector(gradients)
    return total


def sampled_noise(
    model: nn.Module,
    loss: PerExampleLoss,
    inputs: Tensor,
    targets: Tensor,
    batch_size: int,
    batches: int,
    generator: torch.Generator,
) -> float:
    """Root mean square of |g_B - G| over `batches` batches, each drawn without replacement from all N."""
    mean = batch_gradient(model, loss, inputs, targets)
    squares = 0.0
    for _ in range(batches):
        indices = torch.randperm(len(inputs), generator=generator)[:batch_size].to(inputs.device)
        gradient = batch_gradient(model, loss, inputs[indices], targets[indices])
        squares += (gradient - mean).to(devices.of(mean).widest_float).square().sum().item()
    return math.sqrt(squares / batches)


def theoretical_noise(variance: float, batch_size: int, examples: int) -> float:
    """Root of E|g_B - G|^2 = (S2 / B) (1 - B / N) for `variance` = S2."""
    return math.sqrt(variance / batch_size * (1 - batch_size / examples))


def noise_scale_from_two_batch_sizes(
    small_squares: Sequence[float],
    large_squares: Sequence[float],
    batch_sizes: tuple[int, int],
    examples: int | None = None,
) -> Interval:
    """tr(Sigma) / |G|^2 from |g_B|^2 of sampled batches, `small_squares` [n] and `large_squares` [n] of the two
    `batch_sizes`: where no pass over all gradients can be made (McCandlish 2018, appendix A.1).

    `examples` is N where batches are drawn without replacement, None where with. The estimates of both are unbiased,
    and averaged before one is divided by the other; nothing is clamped: a ratio below zero, or an interval without
    bounds, says that these batches are too few.
    """
    small, large = batch_sizes
    small_squares, large_squares = np.asarray(small_squares, float), np.asarray(large_squares, float)
    variances = (small_squares - large_squares) / (1 / small - 1 / large)
    squared_norms = (large * large_squares - small * small_squares) / (large - small)
    return ratio_interval(variances, squared_norms + (variances / examples if examples else 0))


def train_a_tenth(
    workload: Workload, data: Data, model: nn.Module, protocol: Protocol, replica: int, backend: Backend
) -> None:
    """Train `model` on `backend` as far as the protocol's `TenthOfTraining` says."""
    batch_size = protocol.budget.batch_size
    optimizer = protocol.optimizer_at(batch_size).make(model, protocol.learning_rate)
    batches = endless_batches(workload, data, protocol, batch_size, replica)
    with seeds.torch_seeded("dropout", batch_size, replica, base_seed=workload.base_seed):
        for _ in range(protocol.budget.updates(len(data.train_inputs))):
            update(backend, model, workload.loss, optimizer, *next(batches))


def sampled_batches(batch_size: int, examples: int) -> int:
    """How many batches to sample: 100, fewer of large batches, one of the full batch, which has no noise."""
    return 1 if batch_size == examples else max(8, min(100, 50_000 // batch_size))


def stages(workload: Workload, data: Data, cell: Cell) -> Iterator[tuple[int, str, Data, nn.Module]]:
    """Each replica of the cell at each stage: its number, the stage, its split, and the model there, in
    evaluation mode; on the cell's device."""
    backend = BACKENDS[cell.backend]
    device = backend.device.torch_device
    data = data.to(device)
    for replica in range(cell.repeats):
        split = workload.replica_data(data, replica)
        model = workload.initial_model(replica).to(device)
        for stage in STAGES:
            if stage != STAGES[0]:
                train_a_tenth(workload, split, model.train(), cell.protocol, replica, backend)
            yield replica, stage, split, model.eval()


def measure_noise(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per replica and stage: `gradient_norm` |G| and `noise`, the root mean square of |g_B - G| over
    sampled batches of the cell's size, both in the loss's unit over the parameters', and `relative_noise`."""
    rows = []
    for replica, stage, split, model in stages(workload, data, cell):
        examples = (split.train_inputs, split.train_targets)
        generator = workload.generator("noise", stage, cell.batch_size, replica)
        batches = sampled_batches(cell.batch_size, len(split.train_inputs))
        norm = batch_gradient(model, workload.loss, *examples).norm().item()
        noise = sampled_noise(model, workload.loss, *examples, cell.batch_size, batches, generator)
        rows.append((replica, stage, norm, noise, noise / norm, batches, "ok"))
    columns = ["seed", "stage", "gradient_norm", "noise", "relative_noise", "batches", "status"]
    return pd.DataFrame(rows, columns=columns)


def measure_variance(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per replica and stage: `gradient_norm` |G| and `variance` S2, from which the noise of every batch
    size follows."""
    rows = []
    for replica, stage, split, model in stages(workload, data, cell):
        examples = (split.train_inputs, split.train_targets)
        statistics = gradient_statistics(model, workload.loss, *examples)
        rows.append((replica, stage, math.sqrt(statistics.squared_norm), statistics.variance, "ok"))
    return pd.DataFrame(rows, columns=["seed", "stage", "gradient_norm", "variance", "status"])


GRADIENT_NOISE = Measurement("gradient_noise", version=4, measure=measure_noise)
GRADIENT_VARIANCE = Measurement("gradient_variance", version=2, measure=measure_variance)
