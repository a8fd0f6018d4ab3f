"""The search that the advisor is held against: its times are its own."""

import pandas as pd
import pytest

from benchmarks import exhaustive
from suite.advise.timing import Updates
from tests.conftest import tiny


def stored_search(folder, sizes=(4, 40), updates=10.5) -> None:
    for size in sizes:
        row = {"batch_size": size, "learning_rate": 0.1, "updates": updates, "search_s": 2.0}
        pd.DataFrame([row]).to_csv(folder / f"searched_{size}.csv", index=False)


def advice(update_s: dict[int, float], updates=10.5) -> dict:
    names = [f"{name}{bound}" for name in ("updates", "time_s") for bound in ("", "_low", "_high")]
    rows = [
        {"batch_size": size, "learning_rate": 0.1, "update_s": each} | dict.fromkeys(names, updates * each)
        for size, each in update_s.items()
    ]
    return {"predicted": rows, "recommended": {"fastest": {"batch_size": 40}}}


def test_a_time_that_the_advisor_has_wrong_is_an_error(tmp_path, monkeypatch):
    stored_search(tmp_path)
    monkeypatch.setattr(exhaustive, "update_seconds", lambda workload, own, row, threads: 1.0)
    workload = tiny()
    exhaustive.trainings_timed(workload, workload.load(), tmp_path)
    found = exhaustive.found(tmp_path)
    assert found["time_s"].tolist() == pytest.approx([10.5, 10.5])
    monkeypatch.setattr(exhaustive, "update_seconds", lambda workload, own, row, threads: 1.5)
    exhaustive.trainings_timed(workload, workload.load(), tmp_path)
    assert exhaustive.found(tmp_path)["update_s"].tolist() == [1.25, 1.25]
    found["update_s"] = 1.0
    table = exhaustive.compared(found, advice({4: 1.0, 40: 1.3}))
    assert table["error"].tolist() == pytest.approx([0, 0.3])
    assert table["recommended"].tolist() == [False, True]


def test_a_training_is_timed_from_a_fresh_model_to_its_last_update(monkeypatch):
    made = {}

    class Watched(Updates):
        def updates(self, count):
            made[self] = made.get(self, 0) + count
            super().updates(count)

    monkeypatch.setattr(exhaustive, "Updates", Watched)
    workload = tiny()
    row = pd.Series({"batch_size": 4.0, "learning_rate": 0.1, "updates": 10.5})
    assert exhaustive.update_seconds(workload, workload.load(), row, 1) > 0
    assert list(made.values())[-1] == 11
