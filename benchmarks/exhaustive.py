"""What `suite advise` is held against: an exhaustive search over all batch sizes, each with its rate tuned.

`python -m benchmarks.exhaustive digits` searches (what is stored already is not searched again), asks the advisor on
the same machine, and prints how far its prediction lies from what was found, what training with its recommendation
takes beside the best there is, what either cost, and how many of 100 further seeds the predicted intervals cover.
Instead of a name, the path of a workload's file: two lie in `benchmarks/workloads/`. `--results DIR` says where the
tables go. Nothing else may run on the machine.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from suite.advise.command import ANSWER, asked, store
from suite.advise.timing import batch_sizes
from suite.advise.training import GROWTH
from suite.cells import Cell
from suite.statistics import value_at_crossing
from suite.training import engine
from suite.training.learning_rate import Tuned
from suite.training.protocol import Protocol, TargetLoss
from suite.training.repaid import Compiling
from suite.training.tuning import FINAL, TUNED_TRAINING, measure
from suite.workloads import Data, Workload, find
from suite.workloads.check import load_checked

SEEDS = 10
"""Replicas of each batch size, at the rate that won."""
TUNED = Tuned(each_way=4, growths=2, seeds=4)
"""Nine rates, tried with four replicas each."""
COVERED, FIRST_COVERED = 100, 10_000
"""Further replicas whose updates should lie in the predicted intervals, and the number of the first."""


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


def covered(workload: Workload, data: Data, advice: dict) -> pd.DataFrame:
    """Of COVERED further replicas at each batch size that the advisor trained to check itself, at the rate that it
    chose, how many took updates within the interval predicted before the check."""
    before = pd.DataFrame(advice["predicted"]).set_index("batch_size")
    rows = []
    for checked in advice["checked"]:
        size, rate = checked["batch_size"], checked["learning_rate"]
        low, high = before.loc[size, ["updates_low", "updates_high"]]
        most = min(workload.max_updates, round(20 * high))
        protocol = Protocol(rate, TargetLoss(workload.target_loss, most, GROWTH))
        cell = Cell(TUNED_TRAINING, workload.name, "cpu", size, COVERED, protocol)
        cell = cell if engine.why_not_ensemble(workload, data) else engine.packed(cell, workload)
        compiling = Compiling(workload, len(data.train_inputs), cell, COVERED, round(before.loc[size, "updates"]))
        replicas = range(FIRST_COVERED, FIRST_COVERED + COVERED)
        seen = engine.train(workload, data, cell, [protocol] * COVERED, replicas, compiling)
        updates = [
            value_at_crossing([look[1] for look in looks], [look[0] for look in looks], workload.target_loss)
            for looks in seen
        ]
        inside = sum(low <= value <= high for value in updates)
        rows.append({"batch_size": size, "learning_rate": rate, "low": low, "high": high, "inside": inside})
    return pd.DataFrame(rows).assign(of=COVERED)


def say_how_good(table: pd.DataFrame, advice: dict) -> None:
    best = table["time_s"].idxmin()
    fastest = advice["recommended"]["fastest"]["batch_size"]
    print(table.to_string(float_format="%.4g"))
    errors = table["error"].abs()
    print(f"median error of the predicted time {errors.median():.1%}, largest {errors.max():.1%}")
    slower = table.loc[fastest, "time_s"] / table.loc[best, "time_s"] - 1
    print(f"recommended {fastest}, which takes {slower:+.1%} time beside the best, {best}")
    spent = table["search_s"].sum()
    print(f"advisor {advice['advisor_s']:.1f} s, search {spent:.1f} s: {advice['advisor_s'] / spent:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workload")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--coverage", action="store_true", help="train 100 further seeds too")
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
        inside = covered(workload, data, facts)
        inside.to_csv(folder / "covered.csv", index=False, float_format="%.6g")
        print(inside.to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
