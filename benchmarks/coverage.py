"""How often what is trained further lies in the intervals that `suite advise` predicts: a stage of
`benchmarks.exhaustive`."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from suite.advise.advisor import advise
from suite.advise.answer import ANSWER
from suite.advise.measured import Timing, Trained
from suite.advise.recommendation import neighbours, predicted
from suite.advise.training import GROWTH, Replicas
from suite.backends import CPU
from suite.statistics import value_at_crossing
from suite.training.plain import train_in_turns
from suite.training.protocol import Protocol, TargetLoss
from suite.workloads import Data, Workload

MOST = 20
"""Further trainings are given up after so many times the updates expected."""
CHECKED, FIRST_FURTHER = 4, 10_000
"""Seeds of each training of the advisor's, and the number of the further replica that each answer is held against."""


class Untimed(Replicas):
    """Coverage is that of updates: their times are left out."""

    def update_seconds(self, trained: Sequence[Trained]) -> list[float]:
        return [math.nan] * len(trained)


def cover(workload: Workload, data: Data, folder: Path, base_seeds: Sequence[int]) -> None:
    """As `covered`, from the times that the advisor is stored with."""
    known = [one for one in json.loads((folder / ANSWER).read_text())["timings"] if one["status"] == "ok"]
    covered(workload, data, [Timing(one["batch_size"], (one["update_s"],)) for one in known], folder, base_seeds)
    table = pd.concat([pd.read_csv(folder / f"covered_{base_seed}.csv") for base_seed in base_seeds])
    table.to_csv(folder / "covered.csv", index=False)
    _say_how_many(table)


def _say_how_many(table: pd.DataFrame) -> None:
    for recommended, rows in table.groupby("recommended"):
        where = "at the batch size recommended" if recommended else "at its neighbours"
        for name, what in (("mean", f"the mean of {CHECKED} trainings"), ("one", "one further training")):
            inside = rows[name].between(rows[f"{name}_low"], rows[f"{name}_high"]).sum()
            print(f"updates of {what} {where}: {inside} of {len(rows)} within the interval predicted")


def covered(
    workload: Workload, data: Data, timings: Sequence[Timing], folder: Path, base_seeds: Sequence[int]
) -> None:
    """A file per base seed, a row for the batch size predicted to be the fastest and one for each of its neighbours:
    the intervals of the updates predicted for the mean of the trainings that would check it and for one more, and the
    updates that they took. Where there is no advice the row has no bounds, and counts as not covered."""
    torch.set_num_threads(1)
    for base_seed in base_seeds:
        file = folder / f"covered_{base_seed}.csv"
        if not file.exists():
            seeded = replace(workload, base_seed=base_seed)
            rows = [{"base_seed": base_seed, **row} for row in _covered(seeded, data, timings)]
            pd.DataFrame(rows).to_csv(file, index=False, float_format="%.6g")


def _covered(workload: Workload, data: Data, timings: Sequence[Timing]) -> Iterator[dict]:
    trainer = Untimed(workload, data, CPU, CHECKED, 1)
    advice = advise(trainer, timings, False, lambda what: None)
    if not advice.recommendation:
        yield {"recommended": True}
        return
    fastest = advice.recommendation.fastest
    of_mean, of_one = (predicted(advice.curve, timings, trainings) for trainings in (CHECKED, 1))
    for size in neighbours(fastest, list(of_one.index)):
        mean, one = of_mean.loc[size], of_one.loc[size]
        trained = trainer.trained(size, *one[["learning_rate", "updates"]])
        yield {
            "batch_size": size,
            "recommended": size == fastest,
            "learning_rate": trained.learning_rate,
            "mean_low": mean["updates_low"],
            "mean_high": mean["updates_high"],
            "mean": trained.typical_updates,
            "one_low": one["updates_low"],
            "one_high": one["updates_high"],
            "one": updates_to_target(
                workload, data, size, trained.learning_rate, MOST * one["updates_high"], [FIRST_FURTHER]
            )[0],
        }


def updates_to_target(
    workload: Workload, data: Data, size: int, rate: float, most_updates: float, replicas: Sequence[int]
) -> list[float]:
    """Updates of `replicas` to the target; nan where it was not reached."""
    budget = TargetLoss(workload.target_loss, round(most_updates), GROWTH)
    protocol = Protocol.of(workload, budget, learning_rate=rate)
    seen = train_in_turns(workload, data, [protocol] * len(replicas), size, replicas)
    return [
        value_at_crossing([look[1] for look in looks], [look[0] for look in looks], workload.target_loss)
        for looks in seen
    ]
