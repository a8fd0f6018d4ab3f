"""Models that cannot be trained on a single example, as those with batch normalisation, and their batch sizes."""

from collections.abc import Sequence

from suite import seeds
from suite.errors import last_line
from suite.workloads.data import Data
from suite.workloads.workload import Workload


def batch_of_one_problem(workload: Workload, data: Data) -> str | None:
    """The error of a training pass through a single example; None where there is none."""
    try:
        with seeds.torch_seeded("check"):
            workload.loss(workload.initial_model(0).train()(data.train_inputs[:1]), data.train_targets[:1])
    except Exception as error:
        return last_line(error)
    return None


def meets_batch_of_one(batch_size: int, examples: int) -> bool:
    """Whether an epoch of `examples` has a batch of one.

    >>> meets_batch_of_one(1, 8), meets_batch_of_one(4, 8), meets_batch_of_one(4, 9)
    (True, False, True)
    """
    return batch_size == 1 or examples % batch_size == 1


def trainable(workload: Workload, data: Data, batch_sizes: Sequence[int]) -> list[int]:
    """Those of `batch_sizes` at which the model can be trained for whole epochs."""
    if batch_of_one_problem(workload, data) is None:
        return list(batch_sizes)
    return [size for size in batch_sizes if not meets_batch_of_one(size, len(data.train_inputs))]
