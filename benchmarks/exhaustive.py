"""What `suite advise` is held against: an exhaustive search over all batch sizes, each with its rate tuned.

`python -m benchmarks.exhaustive digits` goes through five stages; named behind the workload, only through those, in
the order given. `search` finds the updates to the target of every batch size, where that is not stored yet. `time`
times the trainings that were found, and again after the advisor was asked: a machine's speed changes by tens of
percent within minutes. `ask` asks the advisor. `compare` prints how far its prediction lies from what was found, what
its recommendation takes beside the best found, both with the same replicas that neither had, and what either cost.
`cover` has it predict with other base seeds, and counts how often what is trained then takes updates within the
interval predicted.

Instead of a name, the path of a workload's file: two lie in `benchmarks/workloads/`. `--results DIR` says where the
tables go; nothing else may run on the machine during `time` and `ask`. `--batch-sizes` and `--coarse` search less,
where all would take hours.

The tables in `results/reference/cpu-2-cores/advise/` are `compared.csv` and `covered.csv` of each workload, made with

    python -m benchmarks.exhaustive digits search time ask time compare cover
    python -m benchmarks.exhaustive benchmarks/workloads/mnist_10000.py search --coarse
    python -m benchmarks.exhaustive benchmarks/workloads/mnist_10000.py time ask time compare
    python -m benchmarks.exhaustive benchmarks/workloads/cifar10_2000.py search --coarse --batch-sizes 1 2 4 ... 1024
    python -m benchmarks.exhaustive benchmarks/workloads/cifar10_2000.py time ask time compare

The last leaves out the batch of all 2,000 examples: its search was stopped, without an end, after 79 minutes of the
processor.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer

from benchmarks.coverage import CHECKED, FIRST_FURTHER, MOST, cover, updates_to_target
from suite.advise.answer import ANSWER
from suite.advise.recommendation import CLOSE
from suite.advise.timing import Updates, batch_sizes, threads_for
from suite.advise.training import GROWTH, HALVED
from suite.backends import CPU
from suite.cells import Cell
from suite.statistics import value_at_crossing
from suite.training import engine
from suite.training.learning_rate import Tuned
from suite.training.protocol import Protocol, TargetLoss
from suite.training.tuning import FINAL, TUNED_TRAINING, measure
from suite.workloads import Data, Workload

SEEDS, COARSE_SEEDS = 10, 4
"""Replicas of each batch size, at the rate that won."""
TUNED = Tuned(each_way=4, growths=2, seeds=8)
"""Nine rates, tried with eight replicas each."""
COARSE = Tuned(each_way=2, growths=2, seeds=3)
"""Five rates, tried with three replicas each."""
ROUNDS, SLOW_S = 3, 20
"""How often each training is timed, in turns; once where it takes longer than so many seconds."""
AGAIN = 40
"""Further replicas that the advice and the best found are compared by: the updates of CIFAR-10's, at one rate, have a
standard deviation of 13%, and their mean over ten is off by 4%."""
ADVISED = 100
"""Base seeds with which the advisor is asked."""
STAGES = ("search", "time", "ask", "time", "compare", "cover")


def crossing(looks: pd.DataFrame, target: float) -> float:
    return value_at_crossing(looks["train_loss"].to_numpy(), looks["updates"].to_numpy(), target)


def searched(workload: Workload, data: Data, size: int, coarse: bool) -> dict:
    """The tuned rate of a batch size, and the updates of its replicas to the target at it; where some never reach it,
    at its half, and so on, as the advisor does. `search_s` are seconds of the processor."""
    started, rule = time.process_time(), COARSE if coarse else TUNED
    protocol = Protocol.of(workload, TargetLoss(workload.target_loss, workload.max_updates, GROWTH), rule)
    cell = Cell(TUNED_TRAINING, workload.name, "cpu", size, COARSE_SEEDS if coarse else SEEDS, protocol)
    as_ensemble = engine.why_not_ensemble(workload, data) is None
    rows = measure(workload, data, engine.packed(cell, workload) if as_ensemble else cell)
    final = rows[rows["stage"] == FINAL]
    updates = [crossing(looks, workload.target_loss) for _, looks in final.groupby("seed")]
    rate = final["learning_rate"].iloc[0]
    for _ in range(HALVED):
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
    """A file per batch size, written as each is done."""
    torch.set_num_threads(1)
    for size in reversed(sizes):
        file = folder / f"searched_{size}.csv"
        if not file.exists():
            row = searched(workload, data, size, coarse)
            print("  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
            pd.DataFrame([row]).to_csv(file, index=False, float_format="%.6g")


def all_searched(folder: Path) -> pd.DataFrame:
    """Of the batch sizes searched, those with which every replica reached the target."""
    table = pd.concat([pd.read_csv(file) for file in sorted(folder.glob("searched_*.csv"))], ignore_index=True)
    return table[table["reached"] == table["trained"]]


def found(folder: Path) -> pd.DataFrame:
    """Whatever was searched and timed, a row per batch size (index) with which every replica reached the target: an
    update's time is the median over all rounds, `timing_s` the seconds that a search needs for its times."""
    table = all_searched(folder).set_index("batch_size")
    timed = pd.read_csv(folder / "timed.csv").groupby("batch_size")
    table = table.join(timed.agg({"threads": "median", "update_s": "median"}), how="inner").sort_index()
    table["time_s"] = table["updates"] * table["update_s"]
    return table.assign(timing_s=table["time_s"].where(table["time_s"] > SLOW_S, ROUNDS * table["time_s"]))


def trainings_timed(workload: Workload, data: Data, folder: Path) -> None:
    """Time every training that was searched, from a fresh model to its last update, a row a round, below those that
    are stored: none of the advisor's times is used."""
    threads, own = threads_for(workload, data, CPU), workload.replica_data(data, 0)
    searched = [row for _, row in all_searched(folder).iterrows()]
    rows, slow = [], set()
    for _ in range(ROUNDS):
        for row in searched:
            size = int(row["batch_size"])
            if size not in slow:
                rows.append((size, threads, update_seconds(workload, own, row, threads)))
                slow |= {size} if rows[-1][2] * row["updates"] > SLOW_S else set()
    table, file = pd.DataFrame(rows, columns=["batch_size", "threads", "update_s"]), folder / "timed.csv"
    table.to_csv(file, mode="a", header=not file.exists(), index=False, float_format="%.6g")


def update_seconds(workload: Workload, own: Data, row: pd.Series, threads: int) -> float:
    """Mean over all updates of a training as `row` has it."""
    size, rate = int(row["batch_size"]), row["learning_rate"]
    fresh = {"fresh": lambda: Updates(workload, own, CPU, size, rate)}
    timer = Timer("training.updates(1)", "training = fresh()", globals=fresh, num_threads=threads)
    return timer.timeit(math.ceil(row["updates"])).mean


def compared(found: pd.DataFrame, advice: dict) -> pd.DataFrame:
    """The search and the prediction before any check, a row per batch size."""
    before = pd.DataFrame(advice["predicted"]).set_index("batch_size")
    names = ("updates", "time_s")
    columns = [f"{name}{bound}" for name in names for bound in ("", "_low", "_high")] + ["update_s", "learning_rate"]
    table = found.join(before[columns].add_prefix("predicted_"))
    table["error"] = table["predicted_time_s"] / table["time_s"] - 1
    table["recommended"] = table.index == advice["recommended"]["fastest"]["batch_size"]
    return table.assign(advisor_s=advice["advisor_s"])


def ask(workload: Workload, data: Data, folder: Path) -> None:
    """Store the advice, with the seconds that it took."""
    from suite.advise.command import asked, store

    advice, facts = asked(workload, data, CPU, seeds=CHECKED, check=True)
    store(advice, facts, folder)


def compare(workload: Workload, data: Data, folder: Path) -> None:
    torch.set_num_threads(1)
    advice = json.loads((folder / ANSWER).read_text())
    table, fastest = compared(found(folder), advice), advice["recommended"]["fastest"]
    size, rate = fastest["batch_size"], fastest["learning_rate"]
    if size not in table.index:
        raise SystemExit(
            f"batch size {size} is advised and was not searched: `search --batch-sizes {size}`, then `time`"
        )
    table.loc[size, "advised_learning_rate"] = rate
    nearly_best = table.index[table["time_s"] <= CLOSE * table["time_s"].min()]
    for one in sorted({*nearly_best, size}):
        train_again(workload, data, table, int(one), "learning_rate", "again")
    train_again(workload, data, table, size, "advised_learning_rate", "advised")
    table.to_csv(folder / "compared.csv", float_format="%.6g")
    _say_how_good(table, advice)


def train_again(workload: Workload, data: Data, table: pd.DataFrame, size: int, rate_column: str, name: str) -> None:
    """Add to the row of `size` the updates and seconds, columns `name`_, of further replicas at the rate in a column.
    They are the same whatever is compared, and not those by which the search found its best. Infinite where one of
    them does not reach the target."""
    row = table.loc[size]
    updates = updates_to_target(
        workload, data, size, row[rate_column], MOST * row["updates"], range(FIRST_FURTHER, FIRST_FURTHER + AGAIN)
    )
    table.loc[size, f"{name}_updates"] = np.exp(np.log(updates).mean()) if np.isfinite(updates).all() else math.inf
    table.loc[size, f"{name}_time_s"] = table.loc[size, f"{name}_updates"] * row["update_s"]


def _say_how_good(table: pd.DataFrame, advice: dict) -> None:
    print("\n".join(advice["in_words"]))
    print(table.to_string(float_format="%.4g"))
    errors = table["error"].abs()
    print(f"median error of the predicted time {errors.median():.1%}, largest {errors.max():.1%}")
    best, (fastest,) = table["again_time_s"].idxmin(), table.index[table["recommended"]]
    for how, name in (("rate that was found", "again_time_s"), ("rate that was advised", "advised_time_s")):
        slower = table.loc[fastest, name] / table.loc[best, "again_time_s"] - 1
        print(f"recommended {fastest}, which takes {slower:+.1%} time at the {how} beside the best found, {best}")
    spent_s = table["search_s"].sum() + table["timing_s"].sum()
    print(f"advisor {advice['advisor_s']:.1f} s, search {spent_s:.1f} s: {advice['advisor_s'] / spent_s:.1%}")


def main() -> None:
    from suite.advise.command import usable

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workload")
    parser.add_argument("stages", nargs="*", help="in this order; all when none is named")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="search only these")
    parser.add_argument("--coarse", action="store_true", help="try fewer rates, with fewer seeds")
    parser.add_argument("--base-seeds", type=int, nargs=2, default=(1, ADVISED), help="cover the first to the last")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(STAGES):
        parser.error(f"no stage {', '.join(unknown)}: choose from {', '.join(dict.fromkeys(STAGES))}")
    workload, data, _ = usable(arguments.workload, CPU.name)
    folder = arguments.results / "advise" / workload.name
    folder.mkdir(parents=True, exist_ok=True)
    for stage in arguments.stages or STAGES:
        if stage == "search":
            sizes = arguments.batch_sizes or batch_sizes(len(data.train_inputs))
            search(workload, data, folder, sizes, arguments.coarse)
        elif stage == "time":
            trainings_timed(workload, data, folder)
        elif stage == "ask":
            ask(workload, data, folder)
        elif stage == "compare":
            compare(workload, data, folder)
        else:
            first, last = arguments.base_seeds
            cover(workload, data, folder, range(first, last + 1))


if __name__ == "__main__":
    main()
