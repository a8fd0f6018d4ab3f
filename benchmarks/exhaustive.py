"""What `suite advise` is held against: an exhaustive search over all batch sizes, each with its rate tuned.

`python -m benchmarks.exhaustive digits` searches (what is stored already is not searched again), asks the advisor on
the same machine, and prints how far its prediction lies from what was found, what its recommendation takes beside
the best there is, and what either cost. `--coverage` asks it again with other base seeds, and counts the further
trainings whose updates lie in the interval predicted for them. Instead of a name, the path of a workload's file: two
lie in `benchmarks/workloads/`. `--results DIR` says where the tables go. Nothing else may run on the machine.
"""

import argparse
import json
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch

from suite import seeds
from suite.cells import Cell
from suite.statistics import value_at_crossing
from suite.training import engine
from suite.training.learning_rate import Tuned
from suite.training.plain import train_in_turns
from suite.training.protocol import Protocol, TargetLoss
from suite.training.tuning import FINAL, TUNED_TRAINING, measure
from suite.workloads import Data, Workload, find
from suite.workloads.check import load_checked

GROWTH = 1.2
"""Trainings are looked at as the advisor's are."""
SEEDS = 10
"""Replicas of each batch size, at the rate that won."""
TUNED = Tuned(each_way=4, growths=2, seeds=8)
"""Nine rates, tried with eight replicas each."""
ADVISED, TRAINED, FIRST_FURTHER = 25, 4, 10_000
"""Base seeds with which the advisor is asked, the further replicas that each answer is held against, and the number
of the first of them."""


def crossing(looks: pd.DataFrame, target: float) -> float:
    return value_at_crossing(looks["train_loss"].to_numpy(), looks["updates"].to_numpy(), target)


def searched(workload: Workload, data: Data, size: int, as_ensemble: bool) -> dict:
    """The tuned rate of a batch size, and the updates of SEEDS replicas to the target at it."""
    started = time.monotonic()
    protocol = Protocol(workload.learning_rate, TargetLoss(workload.target_loss, workload.max_updates, GROWTH), TUNED)
    cell = Cell(TUNED_TRAINING, workload.name, "cpu", size, SEEDS, protocol)
    rows = measure(workload, data, engine.packed(cell, workload) if as_ensemble else cell)
    final = rows[rows["stage"] == FINAL]
    updates = [crossing(looks, workload.target_loss) for _, looks in final.groupby("seed")]
    logs = np.log(updates)
    return {
        "batch_size": size,
        "learning_rate": final["learning_rate"].iloc[0],
        "on_edge": bool(final["on_edge"].iloc[0]),
        "seeds": int(np.isfinite(logs).sum()),
        "updates": float(np.exp(np.nanmean(logs))),
        "log_sd": float(np.nanstd(logs, ddof=1)),
        "search_s": time.monotonic() - started,
    }


def search(workload: Workload, data: Data, folder: Path) -> pd.DataFrame:
    """A row per batch size, kept in `folder` as each is done."""
    from suite.advise.timing import batch_sizes

    file = folder / "exhaustive.csv"
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    as_ensemble = engine.why_not_ensemble(workload, data) is None
    torch.set_num_threads(1)
    for size in reversed(batch_sizes(len(data.train_inputs))):
        if size not in {row["batch_size"] for row in rows}:
            rows.append(searched(workload, data, size, as_ensemble))
            print("  ".join(f"{name} {value:g}" for name, value in rows[-1].items()), flush=True)
            pd.DataFrame(rows).sort_values("batch_size").to_csv(file, index=False, float_format="%.6g")
    return pd.DataFrame(rows).sort_values("batch_size").set_index("batch_size")


def compared(found: pd.DataFrame, advice: dict) -> pd.DataFrame:
    """The search and the prediction before any check, a row per batch size."""
    before = pd.DataFrame(advice["predicted"]).set_index("batch_size")
    columns = ["updates", "updates_low", "updates_high", "update_s", "time_s", "learning_rate"]
    table = found.join(before[columns].add_prefix("predicted_")).rename(columns={"predicted_update_s": "update_s"})
    table["time_s"] = table["updates"] * table["update_s"]
    table["error"] = table["predicted_time_s"] / table["time_s"] - 1
    return table


def covered(source: str, data: Data) -> pd.DataFrame:
    """A row per base seed and batch size that the advisor trained to check itself: the interval predicted before the
    check, and how many of TRAINED further replicas, at the rate that it chose, took updates within."""
    from suite.advise.command import asked

    workload, rows = find(source), []
    for base_seed in range(1, ADVISED + 1):
        with mock.patch.object(seeds, "BASE_SEED", base_seed):
            advice, _ = asked(source, "cpu", seeds=4, check=True)
            for one in advice.checked:
                size, rate = one.trained.batch_size, one.trained.learning_rate
                low, high = one.predicted[["updates_low", "updates_high"]]
                inside = sum(low <= value <= high for value in further(workload, data, size, rate, 20 * high))
                recommended = size == advice.recommendation.fastest
                rows.append((base_seed, size, rate, low, high, recommended, inside, TRAINED))
    columns = ["base_seed", "batch_size", "learning_rate", "low", "high", "recommended", "inside", "of"]
    return pd.DataFrame(rows, columns=columns)


def further(workload: Workload, data: Data, size: int, rate: float, most_updates: float) -> list[float]:
    """Updates to the target of TRAINED replicas that nothing else was trained with; nan where it was not reached."""
    protocol = Protocol(rate, TargetLoss(workload.target_loss, round(most_updates), GROWTH))
    replicas = range(FIRST_FURTHER, FIRST_FURTHER + TRAINED)
    seen = train_in_turns(workload, data, [protocol] * TRAINED, size, replicas)
    return [
        value_at_crossing([look[1] for look in looks], [look[0] for look in looks], workload.target_loss)
        for looks in seen
    ]


def say_how_good(table: pd.DataFrame, advice: dict) -> None:
    best = table["time_s"].idxmin()
    fastest = advice["recommended"]["fastest"]["batch_size"]
    print(table.to_string(float_format="%.4g"))
    errors = table["error"].abs()
    print(f"median error of the predicted time {errors.median():.1%}, largest {errors.max():.1%}")
    slower = table.loc[fastest, "time_s"] / table.loc[best, "time_s"] - 1
    print(f"recommended {fastest}, which takes {slower:+.1%} time beside the best, {best}")
    spent_s = table["search_s"].sum()  # the search needs the times of an update too, which are not counted here
    print(f"advisor {advice['advisor_s']:.1f} s, search {spent_s:.1f} s: {advice['advisor_s'] / spent_s:.1%}")


def say_how_many(inside: pd.DataFrame) -> None:
    for name, rows in (("recommended", inside[inside["recommended"]]), ("checked", inside)):
        print(f"within the interval predicted for the {name}: {rows['inside'].sum()} of {rows['of'].sum()}")


def main() -> None:
    from suite.advise.command import ANSWER, asked, store

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workload")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--coverage", action="store_true", help="ask with other base seeds too")
    arguments = parser.parse_args()
    workload = find(arguments.workload)
    folder = arguments.results / "advise" / workload.name
    folder.mkdir(parents=True, exist_ok=True)
    data = load_checked(workload)
    found = search(workload, data, folder)
    advice, facts = asked(arguments.workload, "cpu", seeds=4, check=True)
    store(advice, facts, folder)
    print("\n".join(facts["in_words"]))
    facts = json.loads((folder / ANSWER).read_text())
    table = compared(found, facts)
    table.to_csv(folder / "compared.csv", float_format="%.6g")
    say_how_good(table, facts)
    if arguments.coverage:
        inside = covered(arguments.workload, data)
        inside.to_csv(folder / "covered.csv", index=False, float_format="%.6g")
        say_how_many(inside)


if __name__ == "__main__":
    main()
