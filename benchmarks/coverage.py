"""Measure how often further trainings lie in the intervals that `suite advise` predicts: a stage of
`benchmarks.exhaustive`."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from suite.advise.advisor import advise
from suite.advise.choice import neighbours
from suite.advise.measurements import Timing, TrainingRun
from suite.advise.stored_answer import ANSWER
from suite.advise.tables import prediction_table
from suite.advise.training import EVALUATION_GROWTH, Replicas
from suite.backends import CPU
from suite.statistics import value_at_crossing
from suite.training.budgets import TargetLoss
from suite.training.plain import train_in_turns
from suite.training.protocol import Protocol
from suite.workloads import Data, Workload

MAX_OVERRUN = 20
"""A further training is given up after this many times the expected updates."""
CHECK_SEEDS, FIRST_FURTHER_REPLICA = 4, 10_000
"""The seeds of each training of the advisor, and the number of the replica that each prediction is compared with."""


class Untimed(Replicas):
    """Replicas whose trainings are not timed: coverage is that of updates."""

    def update_seconds(self, runs: Sequence[TrainingRun]) -> list[float]:
        return [math.nan] * len(runs)


def cover(workload: Workload, data: Data, folder: Path, base_seeds: Sequence[int]) -> None:
    """Write `covered.csv` from the update times in the stored answer, and print the coverage."""
    stored = json.loads((folder / ANSWER).read_text())["timings"]
    timings = [Timing(timing["batch_size"], (timing["update_s"],)) for timing in stored if timing["status"] == "ok"]
    write_coverage(workload, data, timings, folder, base_seeds)
    table = pd.concat([pd.read_csv(folder / f"covered_{base_seed}.csv") for base_seed in base_seeds])
    table.to_csv(folder / "covered.csv", index=False)
    print_coverage(table)


def print_coverage(table: pd.DataFrame) -> None:
    for recommended, rows in table.groupby("recommended"):
        place = "at the recommended batch size" if recommended else "at its neighbours"
        for name, quantity in (("mean", f"the mean of {CHECK_SEEDS} trainings"), ("single", "one further training")):
            inside = rows[name].between(rows[f"{name}_low"], rows[f"{name}_high"]).sum()
            print(f"updates of {quantity} {place}: {inside} of {len(rows)} within the predicted interval")


def write_coverage(
    workload: Workload, data: Data, timings: Sequence[Timing], folder: Path, base_seeds: Sequence[int]
) -> None:
    """Write a file per base seed, with a row for the batch size predicted as the fastest and one for each neighbour.

    A row holds the predicted intervals of the updates, for the `mean` of the trainings of a check and for a `single`
    further training, and the updates that they took. A base seed without a recommendation has a row without bounds,
    which counts as not covered.
    """
    torch.set_num_threads(1)
    for base_seed in base_seeds:
        file = folder / f"covered_{base_seed}.csv"
        if not file.exists():
            seeded = replace(workload, base_seed=base_seed)
            rows = [{"base_seed": base_seed, **row} for row in _coverage_rows(seeded, data, timings)]
            pd.DataFrame(rows).to_csv(file, index=False, float_format="%.6g")


def _coverage_rows(workload: Workload, data: Data, timings: Sequence[Timing]) -> Iterator[dict]:
    trainer = Untimed(workload, data, CPU, CHECK_SEEDS, 1)
    recommendation = advise(trainer, timings, False, lambda step: None)
    if not recommendation.choice:
        yield {"recommended": True}
        return
    fastest = recommendation.choice.fastest
    means, singles = (
        prediction_table(recommendation.prediction, timings, trainings) for trainings in (CHECK_SEEDS, 1)
    )
    for size in neighbours(fastest, list(singles.index)):
        mean, single = means.loc[size], singles.loc[size]
        run = trainer.tuned_run(size, *single[["learning_rate", "updates"]])
        max_updates = MAX_OVERRUN * single["updates_high"]
        (updates,) = updates_to_target(workload, data, size, run.learning_rate, max_updates, [FIRST_FURTHER_REPLICA])
        yield {
            "batch_size": size,
            "recommended": size == fastest,
            "learning_rate": run.learning_rate,
            "mean_low": mean["updates_low"],
            "mean_high": mean["updates_high"],
            "mean": run.typical_updates,
            "single_low": single["updates_low"],
            "single_high": single["updates_high"],
            "single": updates,
        }


def updates_to_target(
    workload: Workload, data: Data, size: int, rate: float, max_updates: float, replicas: Sequence[int]
) -> list[float]:
    """The updates after which the averaged parameters of each of `replicas` reach the target; NaN where they do
    not."""
    budget = TargetLoss(workload.target_loss, round(max_updates), EVALUATION_GROWTH)
    protocol = Protocol.of(workload, budget, learning_rate=rate, averaged=True)
    trainings = train_in_turns(workload, data, [protocol] * len(replicas), size, replicas)
    return [
        value_at_crossing(
            [evaluation[1] for evaluation in evaluations],
            [evaluation[0] for evaluation in evaluations],
            workload.target_loss,
        )
        for evaluations in trainings
    ]
