"""Compare `suite advise` with an exhaustive search: every batch size, each with its learning rate tuned.

`python -m benchmarks.exhaustive digits` runs six stages; named behind the workload, only these, in the given order.
`search` finds the updates to the target at every batch size, where these are not stored yet. `time` times the
trainings of the search; it runs again after the advisor, because a machine's speed changes by tens of percent within
minutes. `ask` runs the advisor. `compare` prints the error of the predicted times, the time of the recommended batch
size relative to the best of the search, both with the same held-out replicas, and the cost of either. `cover`
predicts with further base seeds, and counts how many further trainings lie within the predicted intervals.

Instead of a name, give the path of a workload's file: two are in `benchmarks/workloads/`. `--results DIR` names the
folder of the tables. Nothing else may run on the machine during `time` and `ask`. `--batch-sizes` and `--coarse`
shorten a search that would take hours.

The tables in `results/reference/cpu-2-cores/advise/` are `compared.csv` and `covered.csv` of each workload, made with

    python -m benchmarks.exhaustive digits search time ask time compare cover
    python -m benchmarks.exhaustive benchmarks/workloads/mnist_10000.py search --coarse
    python -m benchmarks.exhaustive benchmarks/workloads/mnist_10000.py time ask time compare
    python -m benchmarks.exhaustive benchmarks/workloads/cifar10_2000.py search --coarse --batch-sizes 1 2 4 ... 1024
    python -m benchmarks.exhaustive benchmarks/workloads/cifar10_2000.py time ask time compare

The search at the batch of all 2,000 examples of CIFAR-10 was stopped, unfinished, after 79 minutes of processor time.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer

from benchmarks.coverage import CHECK_SEEDS, FIRST_FURTHER_REPLICA, MAX_OVERRUN, cover, updates_to_target
from suite.advise.choice import TOLERANCE
from suite.advise.stored_answer import ANSWER
from suite.advise.timing import Updates, batch_sizes, threads_for
from suite.advise.training import EVALUATION_GROWTH, MAX_HALVINGS
from suite.backends import CPU
from suite.experiments.cell import Cell
from suite.experiments.tuned_training import FINAL, TUNED_TRAINING, measure
from suite.statistics import value_at_crossing
from suite.training.budgets import TargetLoss
from suite.training.engine import best_replicas_per_call, why_not_ensemble
from suite.training.learning_rate import Tuned
from suite.training.protocol import Protocol
from suite.workloads import Data, Workload, find
from suite.workloads.check import load_checked

SEEDS, COARSE_SEEDS = 10, 4
"""Replicas of each batch size, at its best rate."""
TUNED = Tuned(each_way=4, growths=2, seeds=8)
"""Nine rates, each tried with eight replicas."""
COARSE = Tuned(each_way=2, growths=2, seeds=3)
"""Five rates, each tried with three replicas."""
ROUNDS, SLOW_S = 3, 20
"""Rounds of timing, in which the trainings take turns; a training of more than SLOW_S seconds takes part in one."""
COMPARISON_SEEDS = 40
"""Held-out replicas that compare the recommendation with the best of the search: the updates on CIFAR-10 at one rate
have a standard deviation of 13%, and their mean over ten is off by 4%."""
BASE_SEEDS = 100
"""Base seeds with which `cover` runs the advisor."""
STAGES = ("search", "time", "ask", "time", "compare", "cover")


def crossing(evaluations: pd.DataFrame, target: float) -> float:
    """The updates at which the training loss crosses the target."""
    return value_at_crossing(evaluations["train_loss"].to_numpy(), evaluations["updates"].to_numpy(), target)


def search_batch_size(workload: Workload, data: Data, size: int, coarse: bool) -> dict:
    """Tune the rate of a batch size, and return it with the updates of its replicas to the target.

    Where some replicas do not reach the target, halve the rate, as the advisor does. `search_s` is processor time.
    """
    started, rule = time.process_time(), COARSE if coarse else TUNED
    budget = TargetLoss(workload.target_loss, workload.max_updates, EVALUATION_GROWTH)
    protocol = Protocol.of(workload, budget, rule, averaged=True)
    seeds = COARSE_SEEDS if coarse else SEEDS
    cell = Cell(TUNED_TRAINING, workload.name, CPU.name, size, seeds, protocol)
    if why_not_ensemble(workload, data) is None:
        cell = replace(cell, replicas_per_call=best_replicas_per_call(workload, CPU.device, seeds, size))
    rows = measure(workload, data, cell)
    final = rows[rows["stage"] == FINAL]
    updates = [crossing(evaluations, workload.target_loss) for _, evaluations in final.groupby("seed")]
    rate = final["learning_rate"].iloc[0]
    for _ in range(MAX_HALVINGS):
        if np.isfinite(updates).all():
            break
        rate /= 2
        updates = updates_to_target(workload, data, size, rate, workload.max_updates, range(len(updates)))
    logs = np.log(updates)
    return {
        "batch_size": size,
        "learning_rate": rate,
        "on_edge": bool(final["on_edge"].iloc[0]),
        "trained": len(updates),
        "reached": int(np.isfinite(logs).sum()),
        "updates": float(np.exp(np.nanmean(logs))),
        "log_sd": float(np.nanstd(logs, ddof=1)),
        "search_s": time.process_time() - started,
    }


def search(workload: Workload, data: Data, folder: Path, sizes: Sequence[int], coarse: bool) -> None:
    """Write a file per batch size, the largest first, where it is not stored yet."""
    torch.set_num_threads(1)
    for size in reversed(sizes):
        file = folder / f"searched_{size}.csv"
        if not file.exists():
            row = search_batch_size(workload, data, size, coarse)
            print("  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
            pd.DataFrame([row]).to_csv(file, index=False, float_format="%.6g")


def read_search(folder: Path) -> pd.DataFrame:
    """The searched batch sizes at which every replica reached the target, a row each."""
    table = pd.concat([pd.read_csv(file) for file in sorted(folder.glob("searched_*.csv"))], ignore_index=True)
    return table[table["reached"] == table["trained"]]


def read_timed_search(folder: Path) -> pd.DataFrame:
    """The rows of `read_search` that are timed, by batch size (index).

    `update_s` is the median over all rounds, `timing_s` the seconds that a search spends on its times.
    """
    table = read_search(folder).set_index("batch_size")
    times = pd.read_csv(folder / "timed.csv").groupby("batch_size")
    medians = times.agg({"threads": "median", "update_s": "median"})
    table = table.merge(medians, left_index=True, right_index=True).sort_index()
    table["time_s"] = table["updates"] * table["update_s"]
    return table.assign(timing_s=table["time_s"].where(table["time_s"] > SLOW_S, ROUNDS * table["time_s"]))


def measure_times(workload: Workload, data: Data, folder: Path) -> None:
    """Time every training of the search, and append a row per round to `timed.csv`.

    A timed training goes from a new model to its last update; no time of the advisor's is used.
    """
    threads, split = threads_for(workload, data, CPU), workload.replica_data(data, 0)
    trainings = [row for _, row in read_search(folder).iterrows()]
    rows, slow = [], set()
    for _ in range(ROUNDS):
        for row in trainings:
            size = int(row["batch_size"])
            if size not in slow:
                rows.append((size, threads, update_seconds(workload, split, row, threads)))
                slow |= {size} if rows[-1][2] * row["updates"] > SLOW_S else set()
    table, file = pd.DataFrame(rows, columns=["batch_size", "threads", "update_s"]), folder / "timed.csv"
    table.to_csv(file, mode="a", header=not file.exists(), index=False, float_format="%.6g")


def update_seconds(workload: Workload, split: Data, row: pd.Series, threads: int) -> float:
    """Mean seconds of an update over the training in `row`."""
    size, rate = int(row["batch_size"]), row["learning_rate"]
    make = {"new_training": lambda: Updates(workload, split, CPU, size, rate)}
    timer = Timer("training.updates(1)", "training = new_training()", globals=make, num_threads=threads)
    return timer.timeit(math.ceil(row["updates"])).mean


def comparison(searches: pd.DataFrame, answer: dict) -> pd.DataFrame:
    """The search beside the prediction before any check, a row per batch size."""
    predicted = pd.DataFrame(answer["predicted"]).set_index("batch_size")
    names = ("updates", "time_s")
    columns = [f"{name}{bound}" for name in names for bound in ("", "_low", "_high")] + ["update_s", "learning_rate"]
    table = searches.join(predicted[columns].add_prefix("predicted_"))
    table["error"] = table["predicted_time_s"] / table["time_s"] - 1
    table["recommended"] = table.index == answer["recommended"]["fastest"]["batch_size"]
    return table.assign(advisor_s=answer["advisor_s"])


def ask(workload: Workload, data: Data, folder: Path) -> None:
    """Run the advisor, and store its answer."""
    from suite.advise.command import recommend, store  # draws: asv's environments have no matplotlib

    recommendation, answer = recommend(workload, data, CPU, seeds=CHECK_SEEDS, with_checks=True)
    store(recommendation, answer, folder)


def compare(workload: Workload, data: Data, folder: Path) -> None:
    """Train the recommended batch size and those nearly as fast as the best again; write and print the comparison."""
    torch.set_num_threads(1)
    answer = json.loads((folder / ANSWER).read_text())
    table, fastest = comparison(read_timed_search(folder), answer), answer["recommended"]["fastest"]
    recommended_size = fastest["batch_size"]
    if recommended_size not in table.index:
        raise SystemExit(
            f"the recommended batch size {recommended_size} was not searched: type `search --batch-sizes "
            f"{recommended_size}`, then `time`"
        )
    table.loc[recommended_size, "advised_learning_rate"] = fastest["learning_rate"]
    nearly_best = table.index[table["time_s"] <= TOLERANCE * table["time_s"].min()]
    for size in sorted({*nearly_best, recommended_size}):
        train_again(workload, data, table, int(size), "learning_rate", "again")
    train_again(workload, data, table, recommended_size, "advised_learning_rate", "advised")
    table.to_csv(folder / "compared.csv", float_format="%.6g")
    print_comparison(table, answer)


def train_again(workload: Workload, data: Data, table: pd.DataFrame, size: int, rate_column: str, name: str) -> None:
    """Train held-out replicas at the rate in `rate_column`, and add the columns `name`_updates and `name`_time_s to
    the row of `size`.

    All comparisons use the same replicas, which the search did not train. Infinite where some replica does not reach
    the target.
    """
    row = table.loc[size]
    replicas = range(FIRST_FURTHER_REPLICA, FIRST_FURTHER_REPLICA + COMPARISON_SEEDS)
    updates = updates_to_target(workload, data, size, row[rate_column], MAX_OVERRUN * row["updates"], replicas)
    table.loc[size, f"{name}_updates"] = np.exp(np.log(updates).mean()) if np.isfinite(updates).all() else math.inf
    table.loc[size, f"{name}_time_s"] = table.loc[size, f"{name}_updates"] * row["update_s"]


def print_comparison(table: pd.DataFrame, answer: dict) -> None:
    print("\n".join(answer["in_words"]))
    print(table.to_string(float_format="%.4g"))
    errors = table["error"].abs()
    print(f"error of the predicted time: median {errors.median():.1%}, largest {errors.max():.1%}")
    best, (fastest,) = table["again_time_s"].idxmin(), table.index[table["recommended"]]
    for rate, name in (("rate of the search", "again_time_s"), ("recommended rate", "advised_time_s")):
        difference = table.loc[fastest, name] / table.loc[best, "again_time_s"] - 1
        print(
            f"recommended batch size {fastest} at the {rate}: {difference:+.1%} time relative to {best}, the best of "
            "the search"
        )
    search_s = table["search_s"].sum() + table["timing_s"].sum()
    print(f"advisor {answer['advisor_s']:.1f} s, search {search_s:.1f} s: {answer['advisor_s'] / search_s:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workload")
    parser.add_argument("stages", nargs="*", help="run these in the given order; all when none is named")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="search only these")
    parser.add_argument("--coarse", action="store_true", help="try fewer rates, with fewer seeds")
    parser.add_argument(
        "--base-seeds", type=int, nargs=2, default=(1, BASE_SEEDS), help="cover the first to the last"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(STAGES):
        parser.error(f"no stage {', '.join(unknown)}: choose from {', '.join(dict.fromkeys(STAGES))}")
    workload = find(arguments.workload)
    data = load_checked(workload)
    folder = arguments.results / "advise" / workload.name
    folder.mkdir(parents=True, exist_ok=True)
    for stage in arguments.stages or STAGES:
        if stage == "search":
            sizes = arguments.batch_sizes or batch_sizes(len(data.train_inputs))
            search(workload, data, folder, sizes, arguments.coarse)
        elif stage == "time":
            measure_times(workload, data, folder)
        elif stage == "ask":
            ask(workload, data, folder)
        elif stage == "compare":
            compare(workload, data, folder)
        else:
            first, last = arguments.base_seeds
            cover(workload, data, folder, range(first, last + 1))


if __name__ == "__main__":
    main()
