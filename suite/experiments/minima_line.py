"""The loss along the line between the solutions of two batch sizes."""

import pandas as pd
from torch import nn

from suite import seeds
from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, NUMBER
from suite.experiments.training import engine_of
from suite.instruments.minima_line import losses_along_line
from suite.status import Status
from suite.training.annealing import Annealing, mean_loss
from suite.training.evaluate import evaluate
from suite.training.tuning import best_rate
from suite.workloads import Data, Workload


def measure(workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """Return the line of each replica: from the end of its annealed training with the batch size `cell.compared_with`
    to that with the cell's batch size, each at the shortest length whose mean loss is the fitted loss. A replica that
    has no such end with both is a row with a status alone."""
    data, ends = data.to(BACKENDS[cell.backend].device.torch_device), []
    for batch_size in (cell.compared_with, cell.batch_size):
        ends.append(fitted(Annealing.of(workload, data, cell.protocol, batch_size, engine_of(cell)), cell.repeats))
    frames = []
    for replica, models in enumerate(zip(*ends, strict=True)):
        problem = next((model for model in models if isinstance(model, Status)), None)
        split = workload.replica_data(data, replica)
        rows = pd.DataFrame([{}]) if problem else line(workload, split, *models)
        frames.append(rows.assign(seed=replica, status=(problem or Status.OK).value))
    return pd.concat(frames, ignore_index=True)


def fitted(annealing: Annealing, replicas: int) -> list[nn.Module | Status]:
    """The models of the first `replicas` at the shortest length whose mean loss is the fitted loss; the status of
    those that have none."""
    for models, ends in annealing.models(best_rate(annealing.trials()), range(replicas)):
        statuses = [Status(status) for status in ends["status"]]
        if annealing.protocol.budget.reached(mean_loss(ends)):
            return [model if status is Status.OK else status for model, status in zip(models, statuses, strict=True)]
    return [Status.TARGET_NOT_REACHED if status is Status.OK else status for status in statuses]


def line(workload: Workload, data: Data, first: nn.Module, second: nn.Module) -> pd.DataFrame:
    """Loss and score on all training and all test examples, in evaluation mode: a row per position (`place`) on the
    line from `first` to `second`."""

    def on_both_splits(model: nn.Module) -> dict[str, float]:
        train_loss, train_score = evaluate(workload, model, data.train_inputs, data.train_targets)
        test_loss, test_score = evaluate(workload, model, data.test_inputs, data.test_targets)
        return {
            "train_loss": train_loss,
            "train_score": train_score,
            "test_loss": test_loss,
            "test_score": test_score,
        }

    with seeds.torch_seeded("statistics", base_seed=workload.base_seed):
        return losses_along_line(first, second, on_both_splits, data.train_inputs)


LINE = Measurement(
    "line",
    version=4,
    columns={
        "seed": COUNT,
        **dict.fromkeys(("place", "train_loss", "train_score", "test_loss", "test_score"), NUMBER),
    },
    measure=measure,
    trains=True,
)
