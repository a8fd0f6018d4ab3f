"""The exhaustive search that the advisor is compared with."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import coverage, exhaustive
from suite.advise.choice import neighbours
from suite.advise.measurements import Timing
from suite.advise.timing import Updates
from tests.conftest import tiny


def store_search(folder, sizes=(4, 40), updates=10.5) -> None:
    columns = {"learning_rate": 0.1, "trained": 4, "reached": 4, "updates": updates, "search_s": 2.0}
    for size in sizes:
        row = {"batch_size": size, **columns}
        pd.DataFrame([row]).to_csv(folder / f"searched_{size}.csv", index=False)


def stored_answer(update_s: dict[int, float], updates=10.5) -> dict:
    names = [f"{name}{bound}" for name in ("updates", "time_s") for bound in ("", "_low", "_high")]
    rows = [
        {"batch_size": size, "learning_rate": 0.1, "update_s": seconds} | dict.fromkeys(names, updates * seconds)
        for size, seconds in update_s.items()
    ]
    return {"predicted": rows, "recommended": {"fastest": {"batch_size": 40}}, "advisor_s": 2.5}


def test_a_wrong_predicted_time_is_an_error(tmp_path, monkeypatch):
    store_search(tmp_path)
    monkeypatch.setattr(exhaustive, "update_seconds", lambda workload, split, row, threads: 1.0)
    workload = tiny()
    exhaustive.measure_times(workload, workload.load(), tmp_path)
    searches = exhaustive.read_timed_search(tmp_path)
    assert searches["time_s"].tolist() == pytest.approx([10.5, 10.5])
    monkeypatch.setattr(exhaustive, "update_seconds", lambda workload, split, row, threads: 1.5)
    exhaustive.measure_times(workload, workload.load(), tmp_path)
    assert exhaustive.read_timed_search(tmp_path)["update_s"].tolist() == [1.25, 1.25]
    searches["update_s"] = 1.0
    table = exhaustive.comparison(searches, stored_answer({4: 1.0, 40: 1.3}))
    assert table["error"].tolist() == pytest.approx([0, 0.3])
    assert table["recommended"].tolist() == [False, True]
    assert table["advisor_s"].tolist() == [2.5, 2.5]


def test_a_batch_size_at_which_some_replica_did_not_reach_the_target_is_left_out(tmp_path):
    store_search(tmp_path)
    stuck = pd.read_csv(tmp_path / "searched_4.csv").assign(batch_size=8, reached=3, updates=1.0)
    stuck.to_csv(tmp_path / "searched_8.csv", index=False)
    assert exhaustive.read_search(tmp_path)["batch_size"].tolist() == [4, 40]


def test_a_rate_at_which_a_replica_is_stuck_is_halved(monkeypatch):
    workload = tiny(target_loss=0.5)
    evaluations = [(0, 0, 1.0), (0, 10, 0.0), (1, 0, 1.0), (1, 10, 0.9)]
    final = pd.DataFrame(evaluations, columns=["seed", "updates", "train_loss"])
    final = final.assign(stage="final", learning_rate=0.8, on_edge=False)
    monkeypatch.setattr(exhaustive, "measure", lambda workload, data, cell: final)
    monkeypatch.setattr(
        exhaustive,
        "updates_to_target",
        lambda workload, data, size, rate, max_updates, replicas: [rate * 100 + replica for replica in replicas],
    )
    row = exhaustive.search_batch_size(workload, workload.load(), 4, True)
    assert (row["learning_rate"], row["trained"], row["reached"]) == (0.4, 2, 2)
    assert row["updates"] == pytest.approx((40 * 41) ** 0.5)


def test_a_batch_size_is_searched_with_an_ensemble():
    workload = tiny(target_loss=0.8)
    row = exhaustive.search_batch_size(workload, workload.load(), 4, True)
    assert row["trained"] == row["reached"] == exhaustive.COARSE_SEEDS
    assert row["updates"] > 0


def test_the_recommendation_and_the_best_are_compared_by_the_same_further_replicas(tmp_path, monkeypatch, capsys):
    """The search result at 4 was lucky: trained again it takes twice as long, and 8 is the best."""
    store_search(tmp_path, sizes=(4, 8, 16, 40))
    times_s = {4: 0.95, 8: 1.0, 16: 1.2, 40: 1.2}
    rows = [{"batch_size": size, "threads": 1, "update_s": seconds} for size, seconds in times_s.items()]
    pd.DataFrame(rows).to_csv(tmp_path / "timed.csv", index=False)
    recommended = {"fastest": {"batch_size": 40, "learning_rate": 0.2}}
    answer = stored_answer(times_s) | {"recommended": recommended, "in_words": []}
    (tmp_path / exhaustive.ANSWER).write_text(json.dumps(answer))
    updates = {(4, 0.1): 20.0, (8, 0.1): 10.0, (40, 0.1): 10.0, (40, 0.2): 5.0}

    def twice_and_half(workload, data, size, rate, max_updates, replicas):
        assert type(size) is int, "torch's split takes no other"
        assert (max_updates, len(replicas)) == (exhaustive.MAX_OVERRUN * 10.5, exhaustive.COMPARISON_SEEDS)
        assert min(replicas) >= exhaustive.FIRST_FURTHER_REPLICA
        return [updates[size, rate] * factor for factor in (2, 0.5)]

    monkeypatch.setattr(exhaustive, "updates_to_target", twice_and_half)
    exhaustive.compare(tiny(), tiny().load(), tmp_path)
    printed = capsys.readouterr().out
    assert "recommended batch size 40 at the rate of the search: +20.0% time relative to 8, the best of" in printed
    assert "recommended batch size 40 at the recommended rate: -40.0% time relative to 8, the best of" in printed
    table = pd.read_csv(tmp_path / "compared.csv", index_col="batch_size")
    assert table["again_updates"].dropna().to_dict() == {4: 20, 8: 10, 40: 10}
    assert table.loc[40, ["advised_updates", "advised_time_s"]].tolist() == pytest.approx([5, 6])


def test_the_comparison_is_infinite_where_a_further_replica_is_stuck(monkeypatch):
    monkeypatch.setattr(exhaustive, "updates_to_target", lambda *arguments: [10.0, np.nan])
    table = pd.DataFrame({"learning_rate": [0.1], "updates": [10.0], "update_s": [1.0]}, index=[4])
    exhaustive.train_again(tiny(), tiny().load(), table, 4, "learning_rate", "again")
    assert table.loc[4, "again_time_s"] == np.inf


def test_a_training_is_timed_from_a_new_model_to_its_last_update(monkeypatch):
    counts = {}

    class Counted(Updates):
        def updates(self, count):
            counts[self] = counts.get(self, 0) + count
            super().updates(count)

    monkeypatch.setattr(exhaustive, "Updates", Counted)
    workload = tiny()
    row = pd.Series({"batch_size": 4.0, "learning_rate": 0.1, "updates": 10.5})
    assert exhaustive.update_seconds(workload, workload.load(), row, 1) > 0
    assert list(counts.values())[-1] == 11


def test_coverage_is_measured_at_the_recommended_batch_size_and_its_neighbours(tmp_path):
    workload, sizes = tiny(), [1, 2, 4, 8, 16, 32]
    timings = [Timing(size, (1e-4 * (1 + size / 8),)) for size in sizes]
    coverage.write_coverage(workload, workload.load(), timings, tmp_path, [1, 2])
    table = pd.concat([pd.read_csv(tmp_path / f"covered_{base_seed}.csv") for base_seed in (1, 2)])
    assert table.groupby("base_seed")["mean"].first().nunique() == 2
    for _, rows in table.groupby("base_seed"):
        (fastest,) = rows.loc[rows["recommended"], "batch_size"]
        assert rows["batch_size"].tolist() == neighbours(fastest, sizes)
    assert (table["single_low"] < table["mean_low"]).all()
    assert (table["mean_high"] < table["single_high"]).all()
    assert table[["mean", "single"]].map(np.isfinite).all(axis=None)


def test_coverage_is_counted_for_the_recommended_batch_size_and_for_its_neighbours(capsys):
    table = pd.DataFrame(
        {"recommended": [True, True, False], "mean": [1, 5, 2], "single": [1, 3, 9]}
        | {f"{name}{bound}": value for name in ("mean", "single") for bound, value in (("_low", 1), ("_high", 4))}
    )
    coverage.print_coverage(table)
    assert capsys.readouterr().out.splitlines() == [
        "updates of the mean of 4 trainings at its neighbours: 1 of 1 within the predicted interval",
        "updates of one further training at its neighbours: 0 of 1 within the predicted interval",
        "updates of the mean of 4 trainings at the recommended batch size: 1 of 2 within the predicted interval",
        "updates of one further training at the recommended batch size: 2 of 2 within the predicted interval",
    ]
