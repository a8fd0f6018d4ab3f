"""Trainings at a tuned learning rate."""

import pandas as pd

from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, EVALUATED, FLAG, NUMBER, TEXT, optional
from suite.experiments.training import engine_of
from suite.training import evaluations
from suite.training.compile_policy import CALLS_TO_REPAY
from suite.training.tuning import Tuning, final_protocol
from suite.workloads import Data, Workload

TRIAL, FINAL = "trial", "final"


def measure(workload: Workload, data: Data, cell: Cell, calls_to_repay: float = CALLS_TO_REPAY) -> pd.DataFrame:
    """Return a row for the end of every trial (`stage` trial), and a row per evaluation of replicas 0 ... repeats − 1
    trained at the best learning rate (`stage` final). `learning_rate` is that of the row's training."""
    tuning = Tuning.of(workload, data, cell.protocol, cell.batch_size, engine_of(cell), calls_to_repay)
    trials = tuning.trials()
    protocol = final_protocol(cell.protocol, trials)
    trained = tuning.train([protocol] * cell.repeats, range(cell.repeats))
    finals = evaluations.tables(trained, protocol, len(data.train_inputs), cell.batch_size)
    finals = finals.assign(learning_rate=protocol.learning_rate, on_edge=bool(trials["on_edge"].iloc[0]))
    return pd.concat([trials.assign(stage=TRIAL), finals.assign(stage=FINAL)], ignore_index=True)


TUNED_TRAINING = Measurement(
    "tuned_training",
    version=4,
    columns={
        "seed": COUNT,
        "stage": TEXT,
        "on_edge": FLAG,
        **EVALUATED,
        **optional("cost_updates", "cost_loss", of=NUMBER),
        **optional("fine", of=FLAG),
    },
    measure=measure,
    trains=True,
)
