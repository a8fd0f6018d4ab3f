"""The largest Hessian eigenvalue that training with squared loss ends at, at one learning rate."""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor, nn

from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, NUMBER
from suite.instruments.sharpness import LossSurface, largest_eigenvalue
from suite.optimizers import sgd
from suite.training.epoch import Batch, resident_batches
from suite.training.update import update
from suite.workloads import Data, Workload

EXAMPLES = 1024
"""The first training examples, at most this many, are trained on and measured on."""
START = 1.2
"""λmax η / 2 at initialisation: it sets the learning rate η, so that training starts beyond the edge of stability."""
EVALUATED = (1500, 1625, 1750, 1875, 2000)
"""Numbers of updates after which λmax is measured; training stops at the last.

On digits λmax η / 2 has settled by then: with the full batch after 200 updates, at batch size 16 after 1,000, at 4
after 1,500. At batch size 64 it is 0.8 there, and still rises by a tenth until 12,000.
"""


def squared_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance of each output from its one-hot target: outputs [B, C] and class numbers [B] to
    [B] (Cohen et al. 2021)."""
    one_hot = nn.functional.one_hot(targets, outputs.shape[1]).to(outputs)
    return (outputs - one_hot).square().sum(dim=1) / 2


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per replica and evaluation: `updates`, `train_loss`, `largest_eigenvalue` λmax of that loss, and
    the `learning_rate` η of the replica, which is the same at every batch size.

    The model is trained by SGD without momentum and in evaluation mode, so that λmax is that of the loss which is
    trained. A replica whose loss is not below that of the best constant output has diverged.
    """
    frames = [_measure_replica(workload, data, cell, replica) for replica in range(cell.repeats)]
    return pd.concat(frames, ignore_index=True)


def _measure_replica(workload: Workload, data: Data, cell: Cell, replica: int) -> pd.DataFrame:
    backend = BACKENDS[cell.backend]
    split = workload.replica_data(data.to(backend.device.torch_device), replica)
    examples = (split.train_inputs[:EXAMPLES], split.train_targets[:EXAMPLES])
    model = workload.initial_model(replica).to(backend.device.torch_device).eval()
    rate = 2 * START / largest_eigenvalue(_surface(model, *examples))
    optimizer, limit = sgd().make(model, rate), _loss_of_best_constant(model, *examples)
    batches = _endless_batches(*examples, cell.batch_size, workload.generator("shuffle", cell.batch_size, replica))
    rows, updates, status = [], 0, "ok"
    for evaluated in EVALUATED:
        while updates < evaluated:
            update(backend, model, squared_loss, optimizer, *next(batches))
            updates += 1
        surface = _surface(model, *examples)
        loss = float(surface.value(surface.parameters))
        row = {"updates": updates, "train_loss": loss, "learning_rate": rate}
        if not loss < limit:
            rows.append(row)
            status = "diverged"
            break
        rows.append(row | {"largest_eigenvalue": largest_eigenvalue(surface)})
    return pd.DataFrame(rows).assign(seed=replica, status=status)


def _surface(model: nn.Module, inputs: Tensor, targets: Tensor) -> LossSurface:
    return LossSurface(model, squared_loss, inputs, targets, torch.float32)


def _endless_batches(inputs: Tensor, targets: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    while True:
        yield from resident_batches(inputs, targets, batch_size, generator)


@torch.no_grad()
def _loss_of_best_constant(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """The mean loss of the output that is the mean of all one-hot targets."""
    classes = model(inputs[:1]).shape[1]
    shares = nn.functional.one_hot(targets, classes).float().mean(dim=0)
    return float(squared_loss(shares.expand(len(targets), -1), targets).mean())


EDGE_OF_STABILITY = Measurement(
    "edge_of_stability",
    version=1,
    columns={"seed": COUNT, "updates": COUNT, "train_loss": NUMBER, "largest_eigenvalue": NUMBER},
    measure=measure,
)
