"""The gradient noise scale along trainings to the target, and the critical batch size that it predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.evidence.facts import Facts
from suite.evidence.problem import Problem
from suite.evidence.trainings import at_target, training_problem
from suite.instruments.noise_scale import effective, plain_mean
from suite.statistics import Interval, mean_interval
from suite.status import Status


@dataclass(frozen=True)
class SeedCourse:
    """The noise scale in examples along the training of one seed."""

    noise_scales: dict[int, float]
    """By updates, at every evaluation."""
    updates_to_target: float
    initial: float
    mean: float
    """Over the updates to the target."""
    effective: float

    @classmethod
    def of(cls, rows: pd.DataFrame, facts: Facts) -> SeedCourse:
        """From the evaluations of one seed, by increasing updates."""
        updates_to_target = float(at_target(rows, facts, "updates").iloc[0, 0])
        updates, noise_scales = rows["updates"], rows["noise_scale"]
        return cls(
            noise_scales=dict(zip(updates.astype(int).tolist(), noise_scales.tolist(), strict=True)),
            updates_to_target=updates_to_target,
            initial=float(noise_scales.iloc[0]),
            mean=plain_mean(updates, noise_scales, updates_to_target),
            effective=effective(updates, noise_scales, rows["batch_size"].iloc[0], updates_to_target).noise_scale,
        )


@dataclass(frozen=True)
class NoiseCourse:
    """The noise scale along the trainings of all seeds that reached the target; intervals in examples, of geometric
    means over seeds."""

    batch_size: int
    learning_rate: float
    """The tuned rate."""
    on_edge: bool
    """Whether that rate lies on the edge of its grid."""
    seeds: dict[int, SeedCourse]
    mean_noise_scales: dict[int, float]
    """By updates, geometric mean over seeds, where every seed was evaluated."""
    updates_to_target: float
    """Mean over seeds."""
    initial: Interval
    mean: Interval
    effective: Interval
    """The critical batch size that the course predicts."""

    @classmethod
    def of(cls, rows: pd.DataFrame, facts: Facts) -> NoiseCourse | Problem:
        """From the evaluations, or why no seed reached the target."""
        reached = rows[rows["status"] == Status.OK]
        return training_problem(rows, "") if reached.empty else cls._of_reached(reached, facts)

    @classmethod
    def _of_reached(cls, rows: pd.DataFrame, facts: Facts) -> NoiseCourse:
        rows = rows.sort_values(["seed", "updates"])
        seeds = {int(seed): SeedCourse.of(training, facts) for seed, training in rows.groupby("seed")}
        courses = seeds.values()
        by_update = np.log(rows.pivot(index="updates", columns="seed", values="noise_scale").dropna()).mean(axis=1)
        return cls(
            batch_size=int(rows["batch_size"].iloc[0]),
            learning_rate=float(rows["learning_rate"].iloc[0]),
            on_edge=bool(rows["on_edge"].any()),
            seeds=seeds,
            mean_noise_scales={int(updates): float(np.exp(log)) for updates, log in by_update.items()},
            updates_to_target=float(np.mean([course.updates_to_target for course in courses])),
            initial=_geometric_mean([course.initial for course in courses]),
            mean=_geometric_mean([course.mean for course in courses]),
            effective=_geometric_mean([course.effective for course in courses]),
        )


def _geometric_mean(values: list[float]) -> Interval:
    """Of values above 0, with the interval of their logarithms."""
    return mean_interval(np.log(values)).map(np.exp)
