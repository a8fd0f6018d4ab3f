"""Thousands of balls on the lecture's loss over one parameter, trained at once: their ends and their escape times."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, NUMBER
from suite.training.ensemble import Ensemble
from suite.workloads import Data, Workload
from suite.workloads.ball import LEFT, RIGHT, stationary_points

STARTS, MOMENTA = 46, 30
"""Values of a phase diagram without noise; half as many with noise, where every ball is repeated."""
ROLLED_FROM = (-2.0, -1.3)
"""Starting positions: one above the height of the bump, one below."""
COMPILED_FROM = 1000
"""Compile from this many updates: an eager update loses 1 ms, a thousand of them as much as compilation takes."""


def independent_batches(data: Data, batch_size: int, replicas: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices [R, B] drawn with replacement by `generator`, anew for every update, so that the noise of successive
    updates is independent; the indices of all examples where the batch size is their number."""
    count, device = len(data.train_inputs), data.train_inputs.device
    full_batch = torch.arange(count, device=device).expand(replicas, -1)
    while True:
        if batch_size == count:
            yield full_batch
        else:
            yield torch.randint(count, (replicas, batch_size), generator=generator).to(device)


def roll(
    workload: Workload, data: Data, cell: Cell, starts: Tensor, momenta: Tensor, max_updates: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of updates and the positions [R] of the balls, before the first update and after each; from
    rest at `starts` [R], each with its `momenta` [R], at the cell's learning rate and batch size."""
    device, count = BACKENDS[cell.backend].device.torch_device, len(starts)
    data = data.to(device)
    examples = (data.train_inputs, data.train_targets)
    protocol = cell.protocol
    varied = {"momentum": momenta.tolist()}
    ensemble = Ensemble(workload, [0] * count, protocol.learning_rate, protocol.optimizer, device, varied)
    (position,) = ensemble.parameters.values()
    position.copy_(starts)
    if max_updates > COMPILED_FROM:
        ensemble.compile(*examples, cell.batch_size)
    yield 0, position
    generator = workload.generator("escape", cell.batch_size, count)
    batches = independent_batches(data, cell.batch_size, count, generator)
    for updates, indices in zip(range(1, max_updates + 1), batches, strict=False):
        ensemble.update(*examples, indices)
        yield updates, position


def final_positions(balls: Iterator[tuple[int, Tensor]]) -> Tensor:
    """The positions [R] after the last update."""
    for _, position in balls:  # noqa: B007
        pass
    return position.cpu()


def crossed(position: Tensor) -> Tensor:
    """1 for each ball that lies to the right of the bump, else 0, also where its position is not finite."""
    return ((position > stationary_points()[1]) & position.isfinite()).float()


def budgeted_updates(cell: Cell, data: Data) -> int:
    """The updates of the cell's budget."""
    return cell.protocol.budget.expected_updates(len(data.train_inputs), cell.batch_size)


def measure_ends(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per replica (`seed`): its `start`, drawn with its initial parameters, and whether it ends to the
    right of the bump (`crossed`, 1 or 0)."""
    starts = torch.stack([workload.initial_model(replica).position.detach() for replica in range(cell.repeats)])
    momenta = torch.full((cell.repeats,), cell.protocol.optimizer.momentum)
    end = final_positions(roll(workload, data, cell, starts, momenta, budgeted_updates(cell, data)))
    rows = pd.DataFrame({"start": starts.tolist(), "crossed": crossed(end).tolist()})
    return rows.rename_axis("seed").reset_index().assign(status="ok")


def measure_phases(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per `start` and `momentum`, the latter from 0 to the cell's: the share of the cell's repeats that
    end to the right of the bump (`crossed`)."""
    thinning = 1 if cell.repeats == 1 else 2
    starts = torch.linspace(LEFT, RIGHT, STARTS // thinning)
    grid = torch.cartesian_prod(starts, torch.linspace(0, cell.protocol.optimizer.momentum, MOMENTA // thinning))
    repeated = grid.repeat(cell.repeats, 1)
    balls = roll(workload, data, cell, repeated[:, 0], repeated[:, 1], budgeted_updates(cell, data))
    end = crossed(final_positions(balls))
    rows = pd.DataFrame(grid.tolist(), columns=["start", "momentum"])
    return rows.assign(crossed=end.view(cell.repeats, -1).mean(dim=0).tolist(), status="ok")


def measure_rolling(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per start of ROLLED_FROM and update: `position`."""
    starts = torch.tensor(ROLLED_FROM)
    momenta = torch.full_like(starts, cell.protocol.optimizer.momentum)
    rows = [
        (updates, start, position)
        for updates, positions in roll(workload, data, cell, starts, momenta, budgeted_updates(cell, data))
        for start, position in zip(ROLLED_FROM, positions.tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["updates", "start", "position"]).assign(status="ok")


def measure_escape_times(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return a row per replica (`seed`): its updates from the bottom of the local minimum to that of the better
    minimum; status target_not_reached where the budget ends first."""
    bottom, _, better = stationary_points(workload.initial_model(0).tilt)
    starts = torch.full((cell.repeats,), bottom)
    first = torch.full((cell.repeats,), torch.inf)
    momenta = torch.full((cell.repeats,), cell.protocol.optimizer.momentum)
    for updates, position in roll(workload, data, cell, starts, momenta, budgeted_updates(cell, data)):
        first = first.where((position.cpu() < better) | first.isfinite(), float(updates))
        if first.isfinite().all():
            break
    rows = pd.DataFrame({"updates": first.tolist()}).rename_axis("seed").reset_index()
    return rows.assign(status=np.where(np.isfinite(rows["updates"]), "ok", "target_not_reached"))


ENDS = Measurement(
    "ball_ends", version=1, columns={"seed": COUNT, "start": NUMBER, "crossed": NUMBER}, measure=measure_ends
)
PHASES = Measurement(
    "ball_phases",
    version=1,
    columns={"start": NUMBER, "momentum": NUMBER, "crossed": NUMBER},
    measure=measure_phases,
)
ROLLING = Measurement(
    "ball_rolling",
    version=1,
    columns={"updates": COUNT, "start": NUMBER, "position": NUMBER},
    measure=measure_rolling,
)
ESCAPE_TIMES = Measurement(
    "escape_times", version=1, columns={"seed": COUNT, "updates": NUMBER}, measure=measure_escape_times
)
