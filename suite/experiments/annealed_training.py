"""Annealed trainings at a tuned peak rate, each longer than the one before, until they fit the training examples."""

import math

import pandas as pd

from suite.experiments.cell import Cell, Measurement
from suite.experiments.training import engine_of
from suite.experiments.tuned_training import FINAL, TRIAL, TUNED_TRAINING
from suite.training.annealing import Annealing
from suite.training.compile_policy import CALLS_TO_REPAY
from suite.training.tuning import best_rate
from suite.workloads import Data, Workload

LOWER_RATE = "lower"
LOWER = 1 / math.sqrt(2)
"""The second peak rate, as a share of the tuned one: a verdict that depends on the rate shows in their difference."""


def measure(workload: Workload, data: Data, cell: Cell, calls_to_repay: float = CALLS_TO_REPAY) -> pd.DataFrame:
    """Return a row for the end of every trial at the length where the peak rate is tuned (`stage` trial), and a row
    for the end of each training of replicas 0 ... repeats − 1, whose length is its `updates`: from the tuned peak
    rate (`stage` final), and from LOWER times that rate (`stage` lower). `learning_rate` is the peak rate."""
    annealing = Annealing.of(workload, data, cell.protocol, cell.batch_size, engine_of(cell), calls_to_repay)
    trials = annealing.trials()
    best, on_edge, frames = best_rate(trials), bool(trials["on_edge"].iloc[0]), [trials.assign(stage=TRIAL)]
    for stage, rate in ((FINAL, best), (LOWER_RATE, LOWER * best)):
        ends = annealing.final_trainings(rate, range(cell.repeats))
        frames.append(ends.assign(stage=stage, learning_rate=rate, on_edge=on_edge))
    return pd.concat(frames, ignore_index=True)


ANNEALED_TRAINING = Measurement(
    "annealed_training", version=2, columns=TUNED_TRAINING.columns, measure=measure, trains=True
)
