import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest

from suite.devices import Device
from suite.experiments.cell import NO_BATCH_SIZE, Cell, key_of
from suite.experiments.training import TRAINING
from suite.optimizers import adamw, sgd
from suite.timing.timed import UPDATE_TIME
from suite.training.budgets import EqualEpochs, TargetLoss
from suite.training.protocol import Protocol
from tests.command import ROOT


@dataclass(frozen=True)
class NamedDevice(Device):
    """A CPU of a given model."""

    model: str = "a processor"

    def name(self):
        return self.model


DEVICE = NamedDevice("cpu", "a stand-in")
CELL = Cell(TRAINING, "digits", "cpu", 8, 10, Protocol(0.1, EqualEpochs(5)))
TIMING = Cell(UPDATE_TIME, "digits", "cpu", 8, repeats=6, optimizer=sgd())


def key(cell: Cell, fingerprint: str = "f" * 16, device: Device = DEVICE, base_seed: int = 0) -> str:
    return key_of(cell.key_fields(fingerprint, device, base_seed))


@pytest.mark.parametrize(
    "change",
    [
        {"measurement": replace(TRAINING, name="other")},
        {"measurement": replace(TRAINING, version=TRAINING.version + 1)},
        {"backend": "cuda"},
        {"batch_size": 9},
        {"repeats": 11},
        {"protocol": Protocol(0.2, EqualEpochs(5))},
        {"protocol": Protocol(0.1, EqualEpochs(6))},
        {"protocol": Protocol(0.1, TargetLoss(5, 5))},
        {"protocol": Protocol(0.1, EqualEpochs(5), optimizer=sgd(momentum=0.9))},
        {"replicas_per_call": 10},
        {"compared_with": 4},
    ],
)
def test_the_key_of_a_training_changes_with_each_field_that_determines_its_value(change):
    assert key(replace(CELL, **change)) != key(CELL)


@pytest.mark.parametrize(
    "change",
    [
        {"measurement": replace(UPDATE_TIME, name="other")},
        {"measurement": replace(UPDATE_TIME, version=UPDATE_TIME.version + 1)},
        {"backend": "cuda"},
        {"batch_size": 9},
        {"repeats": 7},
        {"optimizer": adamw()},
        {"optimizer": sgd(momentum=0.9)},
        {"input_pipeline": "dataloader"},
    ],
)
def test_the_key_of_a_timing_changes_with_each_field_that_determines_its_value(change):
    assert key(replace(TIMING, **change)) != key(TIMING)


@pytest.mark.parametrize("cell", [CELL, TIMING], ids=["training", "timing"])
def test_the_key_changes_with_the_fingerprint_of_the_workload(cell):
    assert key(cell, fingerprint="0" * 16) != key(cell)


def test_the_key_of_a_training_changes_with_the_base_seed():
    assert key(CELL, base_seed=1) != key(CELL)


ANOTHER_MODEL, ANOTHER_TYPE = replace(DEVICE, model="another processor"), replace(DEVICE, type="cuda")


def test_the_key_of_a_timing_changes_with_the_model_of_the_device():
    assert key(TIMING, device=ANOTHER_MODEL) != key(TIMING)


def test_the_key_of_a_training_changes_with_the_type_of_the_device_and_not_with_its_model():
    assert key(CELL, device=ANOTHER_TYPE) != key(CELL)
    assert key(CELL, device=ANOTHER_MODEL) == key(CELL)


def test_the_key_is_the_same_in_another_process():
    program = "from tests.experiments.test_cell import CELL, key; print(key(CELL))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == key(CELL)


def test_the_text_of_a_cell_without_a_batch_size_names_none():
    assert "batch size" not in str(replace(CELL, batch_size=NO_BATCH_SIZE))


def test_a_trainings_text_names_its_protocol_and_a_timings_text_its_input_pipeline():
    assert str(CELL) == "training · digits · cpu · SGD, fixed rate 0.1, 5 epochs · batch size 8"
    dataloader = replace(TIMING, input_pipeline="dataloader")
    assert str(dataloader) == "update_time · digits · cpu · dataloader · batch size 8"


def test_the_columns_of_a_cell_without_a_protocol_are_empty_and_nan():
    assert TIMING.describe()["protocol"] == ""
    assert math.isnan(TIMING.describe()["learning_rate"])
    assert CELL.describe()["protocol"] == CELL.protocol.key
    assert CELL.describe()["learning_rate"] == 0.1
