import pandas as pd
import pydantic
import pytest

from suite.devices import CPU
from suite.errors import UserError
from suite.experiments.cell import Cell, key_of
from suite.experiments.training import TRAINING
from suite.machine import provenance
from suite.runs.store import Results
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol

CELL = Cell(TRAINING, "tiny", "cpu", 8, 2, Protocol(0.1, EqualEpochs(5)))
FIELDS = CELL.key_fields("f" * 16, CPU, 0)
KEY = key_of(FIELDS)
VALUES = {
    "updates": 5,
    "epoch": 1.0,
    "train_loss": [0.1, 0.2],
    "train_score": 1.0,
    "test_loss": 0.3,
    "test_score": 0.9,
}
ROWS = pd.DataFrame({"seed": [0, 1], **VALUES, "status": "ok"})
PROVENANCE = provenance(threads=1, duration_s=0.5)


@pytest.fixture
def results(tmp_path):
    results = Results(tmp_path)
    with results.locked():
        yield results


def test_what_is_written_is_read_with_its_description_and_provenance(results):
    results.write(CELL, FIELDS, ROWS, PROVENANCE)
    rows, metadata = results.read(KEY)
    pd.testing.assert_frame_equal(rows[list(ROWS)], ROWS, check_dtype=False)
    assert rows["batch_size"].tolist() == [8, 8]
    assert rows["protocol"].tolist() == [CELL.protocol.key] * 2
    assert metadata == {"key": KEY, "cell": str(CELL), "key_fields": FIELDS, **PROVENANCE}


def test_nothing_stays_under_a_temporary_name(results):
    results.write(CELL, FIELDS, ROWS, PROVENANCE)
    assert [file.name for file in results.cells.iterdir()] == [f"{KEY}.parquet"]


def test_a_failed_write_leaves_the_old_cell(results):
    results.write(CELL, FIELDS, ROWS, PROVENANCE)
    with pytest.raises(pydantic.ValidationError, match="threads"):
        results.write(CELL, FIELDS, ROWS, {**PROVENANCE, "threads": -1})
    assert len(results.read(KEY)[0]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_loss": float("nan")}, "test_loss has no value in 2 of 2 rows"),
        ({"test_score": [1.0, float("inf")]}, "test_score is infinite"),
        ({"updates": -1}, "updates is -1, below 0"),
        ({"seed": ["a", "b"]}, "seed"),
        ({"seed": [0.5, 1]}, "seed"),
        ({"note": "mine"}, "column 'note' is not declared"),
        ({"status": "fine"}, "a row has no status, or an unknown one"),
        ({"status": None}, "a row has no status, or an unknown one"),
    ],
)
def test_rows_that_are_not_as_their_measurement_declares_are_not_stored(change, message, results):
    with pytest.raises(ValueError, match=message):
        results.write(CELL, FIELDS, ROWS.assign(**change), PROVENANCE)
    assert not results.has(KEY)


def test_a_column_may_be_missing_only_where_no_row_has_a_value(results):
    rows = ROWS.drop(columns="test_loss")
    with pytest.raises(ValueError, match="column 'test_loss' is missing"):
        results.write(CELL, FIELDS, rows, PROVENANCE)
    results.write(CELL, FIELDS, rows.assign(status="diverged"), PROVENANCE)


def test_a_training_that_diverged_may_have_infinite_values(results):
    results.write(CELL, FIELDS, ROWS.assign(train_loss=float("inf"), status="diverged"), PROVENANCE)
    assert results.read(KEY)[0]["train_loss"].tolist() == [float("inf")] * 2


def test_only_one_run_at_a_time(tmp_path):
    refused = pytest.raises(UserError, match=r"in use by process \d+, running since \d\d:\d\d")
    with Results(tmp_path).locked(), refused, Results(tmp_path).locked():
        pass
    with Results(tmp_path).locked():
        pass
