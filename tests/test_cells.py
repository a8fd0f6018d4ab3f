import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from suite.cells import NO_BATCH_SIZE, Cell, Measurement
from suite.timings import UPDATE_TIME
from suite.training.engine import TRAINING
from suite.training.protocol import EqualEpochs, Protocol, TargetLoss
from tests.command import ROOT

CELL = Cell(TRAINING, "digits", "cpu", 8, 10, Protocol(0.1, EqualEpochs(5)))


def key(cell: Cell, fingerprint: str = "f", device: str = "d", base_seed: int = 0) -> str:
    return cell.key(fingerprint, device, base_seed)


@pytest.mark.parametrize(
    "change",
    [
        {"measurement": Measurement("other", 1)},
        {"measurement": replace(TRAINING, version=3)},
        {"backend": "cuda"},
        {"batch_size": 9},
        {"repeats": 11},
        {"protocol": Protocol(0.2, EqualEpochs(5))},
        {"protocol": Protocol(0.1, EqualEpochs(6))},
        {"protocol": Protocol(0.1, TargetLoss(5, 5))},
        {"input_pipeline": "dataloader"},
        {"compared_with": 4},
    ],
)
def test_the_key_changes_with_each_field_that_determines_the_value(change):
    assert key(replace(CELL, **change)) != key(CELL)


@pytest.mark.parametrize("change", [{"fingerprint": "g"}, {"device": "e"}, {"base_seed": 1}])
def test_the_key_changes_with_where_and_on_what_the_cell_is_measured(change):
    assert key(CELL, **change) != key(CELL)


def test_the_key_is_the_same_in_another_process():
    program = "from tests.test_cells import CELL, key; print(key(CELL))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=ROOT, check=True
    )
    assert other.stdout.strip() == key(CELL)


def test_a_cell_of_no_batch_size_does_not_name_one():
    assert "batch size" not in str(replace(CELL, batch_size=NO_BATCH_SIZE))


def test_a_training_is_called_by_its_protocol_and_a_timing_by_its_arm():
    timing = Cell(UPDATE_TIME, "digits", "cpu", 8, repeats=6, input_pipeline="dataloader")
    assert str(CELL) == "training · digits · cpu · fixed rate 0.1, 5 epochs · batch size 8"
    assert str(timing) == "update_time · digits · cpu · dataloader · batch size 8"


def test_the_columns_of_a_cell_without_a_protocol_say_that_it_has_none():
    timing = Cell(UPDATE_TIME, "digits", "cpu", 8, repeats=6).describe()
    assert timing["protocol"] == ""
    assert math.isnan(timing["learning_rate"])
    assert CELL.describe()["protocol"] == "fixed rate 0.1, 5 epochs"
    assert CELL.describe()["learning_rate"] == 0.1
