import pandas as pd
import pytest

from suite.errors import UserError
from suite.experiments.cell import Cell
from suite.experiments.training import TRAINING
from suite.runs.store import Results
from suite.training.budgets import EqualEpochs
from suite.training.protocol import Protocol

CELL = Cell(TRAINING, "tiny", "cpu", 8, 2, Protocol(0.1, EqualEpochs(5)))
ROWS = pd.DataFrame({"seed": [0, 1], "train_loss": [0.1, 0.2], "status": "ok"})


def test_what_is_written_is_read_with_its_description_and_provenance(tmp_path):
    results = Results(tmp_path)
    with results.locked():
        results.write("abc", CELL, ROWS, {"commit": "c0ffee"})
    rows, metadata = results.read("abc")
    pd.testing.assert_frame_equal(rows[["seed", "train_loss", "status"]], ROWS, check_dtype=False)
    assert rows["batch_size"].tolist() == [8, 8]
    assert rows["protocol"].tolist() == [CELL.protocol.key] * 2
    assert metadata == {"schema_version": 2, "key": "abc", "commit": "c0ffee"}


def test_nothing_stays_under_a_temporary_name(tmp_path):
    results = Results(tmp_path)
    with results.locked():
        results.write("abc", CELL, ROWS, {})
    assert [file.name for file in results.cells.iterdir()] == ["abc.parquet"]


def test_a_failed_write_leaves_the_old_cell(tmp_path):
    results = Results(tmp_path)
    with results.locked():
        results.write("abc", CELL, ROWS, {})
        with pytest.raises(TypeError):
            results.write("abc", CELL, ROWS, {"not JSON": object()})
    assert len(results.read("abc")[0]) == 2


def test_only_one_run_at_a_time(tmp_path):
    refused = pytest.raises(UserError, match=r"in use by process \d+, running since \d\d:\d\d")
    with Results(tmp_path).locked(), refused, Results(tmp_path).locked():
        pass
    with Results(tmp_path).locked():
        pass


def test_a_parquet_file_of_somebody_else_is_named(tmp_path):
    results = Results(tmp_path)
    results.cells.mkdir()
    ROWS.to_parquet(results.path("abc"))
    with pytest.raises(UserError, match=r"abc\.parquet is damaged"):
        results.read("abc")


def test_a_cell_of_another_schema_is_named(tmp_path):
    results = Results(tmp_path)
    with results.locked():
        results.write("abc", CELL, ROWS, {"schema_version": 7})
    with pytest.raises(UserError, match="has schema 7, this suite reads 2"):
        results.read("abc")
