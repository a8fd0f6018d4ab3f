"""What `suite advise` is held against: an exhaustive search over all batch sizes, each with its rate tuned.

`python -m benchmarks.exhaustive digits` does four things, one after another; named behind the workload it does only
those: `search` finds the updates to the target of every batch size, `time` times the trainings that were found, `ask`
asks the advisor, and prints how far its prediction lies from what was found, what its recommendation takes beside the
best there is, and what either cost, and `cover` asks it again with other base seeds and counts how often what it
trains lies in the interval predicted for it. What is stored already is not searched, timed or asked again. Instead of
a name, the path of a workload's file: two lie in `benchmarks/workloads/`. `--results DIR` says where the tables go;
nothing else may run on the machine while `time` and `ask` do. `--batch-sizes` and `--coarse` search less, where all
would take hours.

The tables in `results/reference/*/advise/` were made with

    python -m benchmarks.exhaustive digits
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer

from suite import seeds
from suite.advise.timing import Updates, batch_sizes, threads_for
from suite.backends import CPU
from suite.cells import Cell
from suite.statistics import value_at_crossing
from suite.training import engine
from suite.training.learning_rate import Tuned
from suite.training.plain import train_in_turns
from suite.training.protocol import Protocol, TargetLoss
from suite.training.tuning import FINAL, TUNED_TRAINING, measure
from suite.workloads import Data, Workload

GROWTH = 1.2
"""Trainings are looked at as the advisor's are."""
SEEDS, COARSE_SEEDS = 10, 4
"""Replicas of each batch size, at the rate that won."""
TUNED = Tuned(each_way=4, growths=2, seeds=8)
"""Nine rates, tried with eight replicas each."""
COARSE = Tuned(each_way=2, growths=2, seeds=3)
"""Five rates, tried with three replicas each."""
ROUNDS, SLOW_S = 3, 20
"""How often each training is timed, in turns; once where it takes longer than so many seconds."""
ADVISED, FIRST_FURTHER = 100, 10_000
"""Base seeds with which the advisor is asked, and the number of the further replica that each answer is held
against."""


def crossing(looks: pd.DataFrame, target: float) -> float:
    return value_at_crossing(looks["train_loss"].to_numpy(), looks["updates"].to_numpy(), target)


def searched(workload: Workload, data: Data, size: int, coarse: bool) -> dict:
    """The tuned rate of a batch size, and the updates of its replicas to the target at it; `search_s` are seconds of
    the processor."""
    started, rule = time.process_time(), COARSE if coarse else TUNED
    protocol = Protocol(workload.learning_rate, TargetLoss(workload.target_loss, workload.max_updates, GROWTH), rule)
    cell = Cell(TUNED_TRAINING, workload.name, "cpu", size, COARSE_SEEDS if coarse else SEEDS, protocol)
    as_ensemble = engine.why_not_ensemble(workload, data) is None
    rows = measure(workload, data, engine.packed(cell, workload) if as_ensemble else cell)
    final = rows[rows["stage"] == FINAL]
    updates = [crossing(looks, workload.target_loss) for _, looks in final.groupby("seed")]
    logs = np.log(updates)
    return {
        "batch_size": size,
        "learning_rate": final["learning_rate"].iloc[0],
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


def found(folder: Path) -> pd.DataFrame:
    """Whatever was searched and timed, a row per batch size (index)."""
    tables = {
        name: pd.concat([pd.read_csv(file) for file in folder.glob(f"{name}_*.csv")], ignore_index=True)
        for name in ("searched", "timed")
    }
    return tables["searched"].merge(tables["timed"], on="batch_size").set_index("batch_size").sort_index()


def time_trainings(workload: Workload, data: Data, folder: Path) -> None:
    """Time every training that was searched, from a fresh model to its last update: none of the advisor's times is
    used."""
    threads, own = threads_for(workload, data, CPU), workload.replica_data(data, 0)
    rows = [pd.read_csv(file).iloc[0] for file in folder.glob("searched_*.csv")]
    rounds: list[list[float]] = [[] for _ in rows]
    for _ in range(ROUNDS):
        for row, seconds in zip(rows, rounds, strict=True):
            if not seconds or seconds[0] * row["updates"] < SLOW_S:
                seconds.append(update_seconds(workload, own, row, threads))
    for row, seconds in zip(rows, rounds, strict=True):
        size, update_s = int(row["batch_size"]), float(np.median(seconds))
        timed = {"batch_size": size, "threads": threads, "update_s": update_s, "time_s": update_s * row["updates"]}
        timed["timing_s"] = sum(seconds) * row["updates"]
        pd.DataFrame([timed]).to_csv(folder / f"timed_{size}.csv", index=False, float_format="%.6g")


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
    return table


def ask(workload: Workload, data: Data, folder: Path) -> dict:
    """The advice, and the seconds that it took, as it is stored."""
    from suite.advise.command import ANSWER, asked, store

    if not (folder / ANSWER).exists():
        advice, facts = asked(workload, data, CPU, seeds=4, check=True)
        store(advice, facts, folder)
    return json.loads((folder / ANSWER).read_text())


def covered(workload: Workload, data: Data, folder: Path, base_seeds: Sequence[int]) -> None:
    """A file per base seed, with a row per batch size that the advisor trained to check itself: the intervals
    predicted before the check, for the mean of its trainings and for one more, and the updates that they took, the
    further one at the rate that it chose."""
    from suite.advise.command import asked

    for base_seed in base_seeds:
        file = folder / f"covered_{base_seed}.csv"
        if file.exists():
            continue
        with mock.patch.object(seeds, "BASE_SEED", base_seed):
            advice, _ = asked(workload, data, CPU, seeds=4, check=True)
            rows = [{"base_seed": base_seed, **_covered(workload, data, advice, one)} for one in advice.checked]
        pd.DataFrame(rows).to_csv(file, index=False, float_format="%.6g")


def _covered(workload: Workload, data: Data, advice, one) -> dict:
    size, single = one.trained.batch_size, advice.before.loc[one.trained.batch_size]
    return {
        "batch_size": size,
        "learning_rate": one.trained.learning_rate,
        "recommended": size == advice.recommendation.fastest,
        "mean_low": one.predicted["updates_low"],
        "mean_high": one.predicted["updates_high"],
        "mean": one.trained.typical_updates,
        "one_low": single["updates_low"],
        "one_high": single["updates_high"],
        "one": further(workload, data, size, one.trained.learning_rate, 20 * single["updates_high"]),
    }


def further(workload: Workload, data: Data, size: int, rate: float, most_updates: float) -> float:
    """Updates to the target of a replica that nothing else was trained with; nan where it was not reached."""
    protocol = Protocol(rate, TargetLoss(workload.target_loss, round(most_updates), GROWTH))
    (seen,) = train_in_turns(workload, data, [protocol], size, [FIRST_FURTHER])
    return value_at_crossing([look[1] for look in seen], [look[0] for look in seen], workload.target_loss)


def say_how_good(table: pd.DataFrame, advice: dict) -> None:
    print("\n".join(advice["in_words"]))
    print(table.to_string(float_format="%.4g"))
    errors = table["error"].abs()
    print(f"median error of the predicted time {errors.median():.1%}, largest {errors.max():.1%}")
    best, (fastest,) = table["time_s"].idxmin(), table.index[table["recommended"]]
    slower = table.loc[fastest, "time_s"] / table.loc[best, "time_s"] - 1
    print(f"recommended {fastest}, which takes {slower:+.1%} time beside the best, {best}")
    spent_s = table["search_s"].sum() + table["timing_s"].sum()
    print(f"advisor {advice['advisor_s']:.1f} s, search {spent_s:.1f} s: {advice['advisor_s'] / spent_s:.1%}")


def say_how_many(table: pd.DataFrame) -> None:
    for what, rows in (("recommended", table[table["recommended"]]), ("checked", table)):
        for name in ("mean", "one"):
            inside = rows[name].between(rows[f"{name}_low"], rows[f"{name}_high"]).sum()
            print(f"{what}, {name}: {inside} of {len(rows)} within the interval predicted for it")


def main() -> None:
    from suite.advise.command import usable

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workload")
    parser.add_argument("stages", nargs="*", help="search, time, ask, cover; all when none is named")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="search only these")
    parser.add_argument("--coarse", action="store_true", help="try fewer rates, with fewer seeds")
    parser.add_argument("--base-seeds", type=int, nargs=2, default=(1, ADVISED), help="cover the first to the last")
    arguments = parser.parse_args()
    stages = arguments.stages or ["search", "time", "ask", "cover"]
    workload, data, _ = usable(arguments.workload, CPU.name)
    folder = arguments.results / "advise" / workload.name
    folder.mkdir(parents=True, exist_ok=True)
    if "search" in stages:
        sizes = arguments.batch_sizes or batch_sizes(len(data.train_inputs))
        search(workload, data, folder, sizes, arguments.coarse)
    if "time" in stages:
        time_trainings(workload, data, folder)
    if "ask" in stages:
        advice = ask(workload, data, folder)
        table = compared(found(folder), advice)
        table.to_csv(folder / "compared.csv", float_format="%.6g")
        say_how_good(table, advice)
    if "cover" in stages:
        first, last = arguments.base_seeds
        covered(workload, data, folder, range(first, last + 1))
        table = pd.concat([pd.read_csv(file) for file in folder.glob("covered_*.csv")])
        table.sort_values(["base_seed", "batch_size"]).to_csv(folder / "covered.csv", index=False)
        say_how_many(table)


if __name__ == "__main__":
    main()
