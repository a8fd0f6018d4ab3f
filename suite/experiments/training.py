"""Trainings by a protocol, evaluated whenever its budget says so."""

import pandas as pd

from suite.backends import BACKENDS
from suite.experiments.cell import Cell, Measurement
from suite.experiments.columns import COUNT, EVALUATED
from suite.training import evaluations
from suite.training.compile_policy import CALLS_TO_REPAY, CompilePolicy
from suite.training.engine import Engine
from suite.workloads import Data, Workload


def engine_of(cell: Cell) -> Engine:
    """The engine that trains the replicas of `cell`."""
    return Engine(BACKENDS[cell.backend], cell.replicas_per_call)


def measure(workload: Workload, data: Data, cell: Cell, calls_to_repay: float = CALLS_TO_REPAY) -> pd.DataFrame:
    """Return a row per replica (`seed`) and evaluation."""
    examples, protocol, replicas = len(data.train_inputs), cell.protocol, range(cell.repeats)
    updates = protocol.budget.expected_updates(examples, cell.batch_size)
    policy = CompilePolicy.for_trainings(
        workload,
        protocol,
        cell.batch_size,
        examples,
        cell.repeats,
        cell.replicas_per_call,
        updates,
        calls_to_repay,
    )
    protocols = [protocol] * cell.repeats
    trained = engine_of(cell).train(workload, data, protocols, cell.batch_size, replicas, policy)
    return evaluations.tables(trained, protocol, examples, cell.batch_size)


TRAINING = Measurement("training", version=2, columns={"seed": COUNT, **EVALUATED}, measure=measure, trains=True)
