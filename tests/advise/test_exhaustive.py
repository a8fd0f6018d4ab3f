"""The search that the advisor is held against: its times are its own."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import coverage, exhaustive
from suite.advise.measured import Timing
from suite.advise.recommendation import neighbours
from suite.advise.timing import Updates
from tests.conftest import tiny


def stored_search(folder, sizes=(4, 40), updates=10.5) -> None:
    known = {"learning_rate": 0.1, "trained": 4, "reached": 4, "updates": updates, "search_s": 2.0}
    for size in sizes:
        row = {"batch_size": size, **known}
        pd.DataFrame([row]).to_csv(folder / f"searched_{size}.csv", index=False)


def advice(update_s: dict[int, float], updates=10.5) -> dict:
    names = [f"{name}{bound}" for name in ("updates", "time_s") for bound in ("", "_low", "_high")]
    rows = [
        {"batch_size": size, "learning_rate": 0.1, "update_s": each} | dict.fromkeys(names, updates * each)
        for size, each in update_s.items()
    ]
    return {"predicted": rows, "recommended": {"fastest": {"batch_size": 40}}, "advisor_s": 2.5}


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
    assert table["advisor_s"].tolist() == [2.5, 2.5]


def test_what_was_not_always_reached_in_the_search_is_no_best(tmp_path):
    stored_search(tmp_path)
    stuck = pd.read_csv(tmp_path / "searched_4.csv").assign(batch_size=8, reached=3, updates=1.0)
    stuck.to_csv(tmp_path / "searched_8.csv", index=False)
    assert exhaustive.all_searched(tmp_path)["batch_size"].tolist() == [4, 40]


def test_a_rate_at_which_a_replica_is_stuck_is_halved(monkeypatch):
    workload = tiny(target_loss=0.5)
    looks = [(0, 0, 1.0), (0, 10, 0.0), (1, 0, 1.0), (1, 10, 0.9)]
    final = pd.DataFrame(looks, columns=["seed", "updates", "train_loss"])
    final = final.assign(stage="final", learning_rate=0.8, on_edge=False)
    monkeypatch.setattr(exhaustive, "measure", lambda workload, data, cell: final)
    monkeypatch.setattr(
        exhaustive,
        "updates_to_target",
        lambda workload, data, size, rate, most, replicas: [rate * 100 + replica for replica in replicas],
    )
    row = exhaustive.searched(workload, workload.load(), 4, True)
    assert (row["learning_rate"], row["trained"], row["reached"]) == (0.4, 2, 2)
    assert row["updates"] == pytest.approx((40 * 41) ** 0.5)


def test_the_advice_and_the_best_are_compared_by_the_same_further_replicas(tmp_path, monkeypatch, capsys):
    """What the search found at 4 was lucky: it takes twice as long again, and 8 is the best then."""
    stored_search(tmp_path, sizes=(4, 8, 16, 40))
    times_s = {4: 0.95, 8: 1.0, 16: 1.2, 40: 1.2}
    rows = [{"batch_size": size, "threads": 1, "update_s": each} for size, each in times_s.items()]
    pd.DataFrame(rows).to_csv(tmp_path / "timed.csv", index=False)
    recommended = {"fastest": {"batch_size": 40, "learning_rate": 0.2}}
    answer = advice(times_s) | {"recommended": recommended, "in_words": []}
    (tmp_path / exhaustive.ANSWER).write_text(json.dumps(answer))
    taken = {(4, 0.1): 20.0, (8, 0.1): 10.0, (40, 0.1): 10.0, (40, 0.2): 5.0}

    def twice_and_half(workload, data, size, rate, most, replicas):
        assert type(size) is int, "torch's split takes no other"
        assert (most, len(replicas)) == (exhaustive.MOST * 10.5, exhaustive.AGAIN)
        assert min(replicas) >= exhaustive.FIRST_FURTHER
        return [taken[size, rate] * factor for factor in (2, 0.5)]

    monkeypatch.setattr(exhaustive, "updates_to_target", twice_and_half)
    exhaustive.compare(tiny(), tiny().load(), tmp_path)
    said = capsys.readouterr().out
    assert "recommended 40, which takes +20.0% time at the rate that was found beside the best found, 8" in said
    assert "recommended 40, which takes -40.0% time at the rate that was advised beside the best found, 8" in said
    table = pd.read_csv(tmp_path / "compared.csv", index_col="batch_size")
    assert table["again_updates"].dropna().to_dict() == {4: 20, 8: 10, 40: 10}
    assert table.loc[40, ["advised_updates", "advised_time_s"]].tolist() == pytest.approx([5, 6])


def test_where_a_further_replica_is_stuck_the_comparison_is_infinite(monkeypatch):
    monkeypatch.setattr(exhaustive, "updates_to_target", lambda *arguments: [10.0, np.nan])
    table = pd.DataFrame({"learning_rate": [0.1], "updates": [10.0], "update_s": [1.0]}, index=[4])
    exhaustive.train_again(tiny(), tiny().load(), table, 4, "learning_rate", "again")
    assert table.loc[4, "again_time_s"] == np.inf


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


def test_coverage_is_that_of_the_recommended_batch_size_and_its_neighbours(tmp_path, capsys):
    workload, sizes = tiny(), [1, 2, 4, 8, 16, 32]
    timings = [Timing(size, (1e-4 * (1 + size / 8),)) for size in sizes]
    coverage.covered(workload, workload.load(), timings, tmp_path, [1, 2])
    table = pd.concat([pd.read_csv(tmp_path / f"covered_{base_seed}.csv") for base_seed in (1, 2)])
    assert table.groupby("base_seed")["mean"].first().nunique() == 2
    for _, rows in table.groupby("base_seed"):
        (fastest,) = rows.loc[rows["recommended"], "batch_size"]
        assert rows["batch_size"].tolist() == neighbours(fastest, sizes)
    assert (table["one_low"] < table["mean_low"]).all()
    assert (table["mean_high"] < table["one_high"]).all()
    assert table[["mean", "one"]].map(np.isfinite).all(axis=None)
    table = pd.DataFrame(
        {"recommended": [True, True, False], "mean": [1, 5, 2], "one": [1, 3, 9]}
        | {f"{name}{bound}": value for name in ("mean", "one") for bound, value in (("_low", 1), ("_high", 4))}
    )
    coverage._say_how_many(table)
    assert capsys.readouterr().out.splitlines() == [
        "updates of the mean of 4 trainings at its neighbours: 1 of 1 within the interval predicted",
        "updates of one further training at its neighbours: 0 of 1 within the interval predicted",
        "updates of the mean of 4 trainings at the batch size recommended: 1 of 2 within the interval predicted",
        "updates of one further training at the batch size recommended: 2 of 2 within the interval predicted",
    ]
