"""Where the ball ends: thousands of starts on a loss over one parameter, trained at once."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor

from suite.backends import BACKENDS
from suite.cells import Cell, Measurement
from suite.training.ensemble import Ensemble
from suite.workloads import Data, Workload
from suite.workloads.ball import LEFT, RIGHT, stationary_points

STARTS, MOMENTA = 46, 30
"""Of a phase diagram whose balls roll once; half as many where they are drawn again."""
ROLLED_FROM = (-2.0, -1.3)
"""Above the bump, and below."""
COMPILED_FROM = 1000
"""Updates that repay compiling: an eager one loses 1 ms, and a thousand of them what compiling takes."""


def independent_batches(data: Data, batch_size: int, replicas: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices [R, B] drawn with replacement by `generator`, afresh for every update, so that the noise of one tells
    nothing of the next; all examples where the batch is that large."""
    count, device = len(data.train_inputs), data.train_inputs.device
    everything = torch.arange(count, device=device).expand(replicas, -1)
    while True:
        if batch_size == count:
            yield everything
        else:
            yield torch.randint(count, (replicas, batch_size), generator=generator).to(device)


def rolled(
    workload: Workload, data: Data, cell: Cell, starts: Tensor, momenta: Tensor, most_updates: int
) -> Iterator[tuple[int, Tensor]]:
    """Updates made and where the balls are [R], before the first update and after each, from rest at `starts` [R]
    with their own `momenta` [R] at the cell's rate and batch size."""
    device, count = BACKENDS[cell.backend].device.torch_device, len(starts)
    data = data.to(device)
    examples = (data.train_inputs, data.train_targets)
    protocol = cell.protocol
    varied = {"momentum": momenta.tolist()}
    ensemble = Ensemble(workload, [0] * count, protocol.learning_rate, protocol.optimizer, device, varied)
    (position,) = ensemble.parameters.values()
    position.copy_(starts)
    if most_updates > COMPILED_FROM:
        ensemble.compile(*examples, cell.batch_size)
    yield 0, position
    generator = workload.generator("escape", cell.batch_size, count)
    batches = independent_batches(data, cell.batch_size, count, generator)
    for updates, indices in zip(range(1, most_updates + 1), batches, strict=False):
        ensemble.update(*examples, indices)
        yield updates, position


def ends(balls: Iterator[tuple[int, Tensor]]) -> Tensor:
    for _, position in balls:  # noqa: B007
        pass
    return position.cpu()


def crossed(position: Tensor) -> Tensor:
    """Whether each ball lies beyond the bump; not one that flew away."""
    return ((position > stationary_points()[1]) & position.isfinite()).float()


def budget(cell: Cell, data: Data) -> int:
    return cell.protocol.budget.expected_updates(len(data.train_inputs), cell.batch_size)


def measure_ends(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per replica (`seed`): its `start`, drawn with its initial parameters, and whether it ends beyond the bump
    (`crossed`, 1 or 0)."""
    starts = torch.stack([workload.initial_model(replica).position.detach() for replica in range(cell.repeats)])
    momenta = torch.full((cell.repeats,), cell.protocol.optimizer.momentum)
    end = ends(rolled(workload, data, cell, starts, momenta, budget(cell, data)))
    rows = pd.DataFrame({"start": starts.tolist(), "crossed": crossed(end).tolist()})
    return rows.rename_axis("seed").reset_index().assign(status="ok")


def measure_phases(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per `start` and `momentum`, the latter from 0 to the cell's: the share of the cell's repeats that end
    beyond the bump (`crossed`)."""
    thinned = 1 if cell.repeats == 1 else 2
    starts = torch.linspace(LEFT, RIGHT, STARTS // thinned)
    grid = torch.cartesian_prod(starts, torch.linspace(0, cell.protocol.optimizer.momentum, MOMENTA // thinned))
    every = grid.repeat(cell.repeats, 1)
    end = crossed(ends(rolled(workload, data, cell, every[:, 0], every[:, 1], budget(cell, data))))
    rows = pd.DataFrame(grid.tolist(), columns=["start", "momentum"])
    return rows.assign(crossed=end.view(cell.repeats, -1).mean(dim=0).tolist(), status="ok")


def measure_rolling(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per start of ROLLED_FROM and update: `position`."""
    starts = torch.tensor(ROLLED_FROM)
    momenta = torch.full_like(starts, cell.protocol.optimizer.momentum)
    rows = [
        (updates, start, at)
        for updates, position in rolled(workload, data, cell, starts, momenta, budget(cell, data))
        for start, at in zip(ROLLED_FROM, position.tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["updates", "start", "position"]).assign(status="ok")


def measure_escape_times(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """A row per replica (`seed`): the updates it takes from the bottom of the local minimum to that of the better
    one; `target_not_reached` where the budget ends before."""
    bottom, _, better = stationary_points(workload.initial_model(0).tilt)
    starts = torch.full((cell.repeats,), bottom)
    first = torch.full((cell.repeats,), torch.inf)
    momenta = torch.full((cell.repeats,), cell.protocol.optimizer.momentum)
    for updates, position in rolled(workload, data, cell, starts, momenta, budget(cell, data)):
        first = first.where((position.cpu() < better) | first.isfinite(), float(updates))
        if first.isfinite().all():
            break
    rows = pd.DataFrame({"updates": first.tolist()}).rename_axis("seed").reset_index()
    return rows.assign(status=np.where(np.isfinite(rows["updates"]), "ok", "target_not_reached"))


def mean_escape_time(loss: Callable[[np.ndarray], np.ndarray], noise: float, start: float, end: float) -> float:
    """Mean time from `start` to the first visit of `end`, to its right, of dx = -V'(x) dt + sqrt(2 D) dW:
    (1/D) integral_start^end e^(V(x)/D) integral_-inf^x e^(-V(y)/D) dy dx, with V the `loss` and D the `noise`
    (Gardiner, Handbook of Stochastic Methods, section 5.2.7). Descent at rate eta with gradients of variance
    sigma^2 / B follows it for small eta with D = eta sigma^2 / (2 B) and a time of eta an update."""
    x = np.linspace(start - 6, end, 60_001)
    height = (loss(x) - loss(x)[x >= start].min()) / noise
    inside = scipy.integrate.cumulative_trapezoid(np.exp(-height), x, initial=0)
    between = x >= start
    return float(scipy.integrate.trapezoid(np.exp(height[between]) * inside[between], x[between]) / noise)


ENDS = Measurement("ball_ends", version=1, measure=measure_ends)
PHASES = Measurement("ball_phases", version=1, measure=measure_phases)
ROLLING = Measurement("ball_rolling", version=1, measure=measure_rolling)
ESCAPE_TIMES = Measurement("escape_times", version=1, measure=measure_escape_times)
