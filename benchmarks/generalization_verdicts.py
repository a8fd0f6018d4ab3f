"""The verdicts of *Generalization* on workloads whose true difference of the test scores is known.

`python -m benchmarks.generalization_verdicts` measures every cell of the claim as `suite run` does, with 20 base
seeds per case, analyses the rows, and prints how often the headline holds, fails and stays undecided. No class here
is timed by asv: the claim draws, and asv's environments have no matplotlib.
"""

from collections import Counter
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from suite.backends import CPU
from suite.evidence import Evidence, Facts
from suite.experiments.cell import Cell, Scope
from suite.training.engine import best_replicas_per_call, why_not_ensemble
from suite.workloads import Data, Workload

BASE_SEEDS = 20
SEEDS = 10
"""Replicas of each training."""
EXAMPLES, PARAMETERS = 64, 4
SMALL, LARGE = 4, 16


# Workloads with a known difference


def symmetric_examples() -> Data:
    """Normal points a [N, P], of which each stands beside −a; tested on the same points."""
    half = 0.5 * torch.randn(EXAMPLES // 2, PARAMETERS, generator=torch.Generator().manual_seed(0))
    points, targets = torch.cat([half, -half]), torch.zeros(EXAMPLES)
    return Data(points, targets, points, targets)


class RecordingPoint(nn.Module):
    """A point x [P], initially normal, with a buffer that records the batch size of its updates.

    The outputs [B, 3] of examples a [B, P] are |x|² / 2 − x·a, the first coordinate of x, and the batch size.
    """

    def __init__(self):
        super().__init__()
        self.point = nn.Parameter(torch.randn(PARAMETERS))
        self.register_buffer("batch_size", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.batch_size.fill_(len(inputs))
        losses = self.point.square().sum() / 2 - inputs @ self.point
        constants = torch.stack([self.point[0], self.batch_size])
        return torch.cat([losses[:, None], constants.expand(len(inputs), 2)], dim=1)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of mean |x|² / 2 over all examples, since their sum is zero."""
    return outputs[:, 0]


@dataclass(frozen=True)
class ScoreWithBonus:
    """The first coordinate of x, and a `bonus` for a model that was trained with batches of SMALL.

    x and −x are equally likely at every batch size and training loss, because the initial points and the examples are
    symmetric. The coordinate thus differs from seed to seed and from shuffle to shuffle with a mean of 0, and `bonus`
    is the true difference between SMALL and LARGE.
    """

    bonus: float

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs[:, 1] + self.bonus * (outputs[:, 2] == SMALL)


class Reshuffled(Workload):
    """A workload with the same initial parameters and splits, and other shuffles."""

    def generator(self, *names: str | int) -> torch.Generator:
        return super().generator("reshuffled", *names)


def workload(bonus: float, base_seed: int, kind: type[Workload] = Workload) -> Workload:
    return kind(
        name="recording_point",
        about="A quadratic bowl whose score knows the batch size.",
        load=symmetric_examples,
        model=RecordingPoint,
        batch_sizes=(SMALL, LARGE),
        small=SMALL,
        large=LARGE,
        learning_rate=0.1,
        learning_rates=(0.1,),
        epochs=4,
        target_loss=0.08,
        max_updates=200,
        loss=loss,
        score=ScoreWithBonus(bonus),
        score_name="score",
        base_seed=base_seed,
    )


# The path from cells to a verdict


@dataclass(frozen=True)
class Case:
    bonus: float
    same_batch_size: bool = False
    """Whether the rows of Large are those of Small under other shuffles."""

    @property
    def true_effect(self) -> float:
        return 0.0 if self.same_batch_size else self.bonus


CASES = {
    "Small tests better": Case(bonus=0.1),
    "Small tests worse": Case(bonus=-0.1),
    "Small twice, other shuffles": Case(bonus=0.1, same_batch_size=True),
}


def headline(case: Case, base_seed: int):
    """The headline row of *Generalization*, a `suite.claims.Row`."""
    from suite.claims import generalization  # draws: asv's environments have no matplotlib

    measured_workload = workload(case.bonus, base_seed)
    data, scope = measured_workload.load(), _scope()
    frames = [
        _stored_rows(case, measured_workload, data, cell) for cell in generalization.cells(measured_workload, scope)
    ]
    evidence = Evidence.from_frames(Facts.of(measured_workload, data), frames)
    (row,) = (row for row in generalization.judge(generalization.analyse(evidence)) if row.headline)
    return row


def _scope() -> Scope:
    sizes = (SMALL, LARGE)
    return Scope(sizes, sizes, sizes, SEEDS, processes=1, backends=(CPU.name,), training_backend=CPU.name)


def _stored_rows(case: Case, cell_workload: Workload, data: Data, cell: Cell) -> pd.DataFrame:
    """The rows of `cell` with its columns. Those of Large, in a case with the same batch size, are measured at Small
    under other shuffles."""
    columns = cell.describe()
    if case.same_batch_size and cell.batch_size == LARGE:
        cell_workload = workload(case.bonus, cell_workload.base_seed, Reshuffled)
        cell = replace(cell, batch_size=SMALL)
    if why_not_ensemble(cell_workload, data) is None:
        per_call = best_replicas_per_call(cell_workload, CPU.device, cell.repeats, cell.batch_size)
        cell = replace(cell, replicas_per_call=per_call)
    rows = cell.measurement.measure(cell_workload, data, cell)
    return pd.DataFrame({**columns, **{name: rows[name] for name in rows}}, index=rows.index)


# How often each verdict is reached


@dataclass(frozen=True)
class Tally:
    verdicts: Counter
    """The number of base seeds by verdict; None counts those that could not be compared."""
    mean_effect: float


def tally(case: Case, base_seeds: int) -> Tally:
    rows = [headline(case, base_seed) for base_seed in range(base_seeds)]
    return Tally(Counter(row.verdict for row in rows), sum(row.effect.estimate for row in rows) / base_seeds)


def print_table() -> None:
    print(f"{'case':28} holds  fails  undecided  none  mean effect  true effect")
    for name, case in CASES.items():
        result = tally(case, BASE_SEEDS)
        counts = (result.verdicts[verdict] for verdict in ("holds", "fails", "undecided", None))
        numbers = "{:5}  {:5}  {:9}  {:4}".format(*counts)
        print(f"{name:28} {numbers}  {result.mean_effect:+11.4f}  {case.true_effect:+11.4f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_table()
