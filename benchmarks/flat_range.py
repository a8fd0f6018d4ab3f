"""How well the timing rows find known times: bias, coverage of the 95% intervals and false verdicts, in simulation.

An update takes a + B, in arbitrary units, and each process has noise of its own. `python -m benchmarks.flat_range`
prints a line per case, for the rule in use and for the former one, which took the first crossing of each process.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from suite.evidence import Timings
from suite.evidence.scaling import FLAT_FACTOR, LEAST_FLAT_RATIO, flat_range, flat_range_ratio
from suite.statistics import Interval, half_performance_batch, median_interval, verdict
from suite.statistics.curves import isotonic_fit
from suite.workloads import find

EXPERIMENTS, TRACKED_EXPERIMENTS = 400, 100
"""Of each case: in the printed table, and in asv."""
HALF_PERFORMANCE = 826
OUTLIER_SLOWNESS = (1.3, 2)
DRIFT, DRIFT_OF_REFERENCE = 0.05, 0.025
"""Growth of the times, and of the reference updates, from the first round of processes to the last."""
PROCESSES = (6, 15)
ALL = find("digits").batch_sizes
GRIDS = {"full": (ALL, ALL), "quick": ((1, 8, 64, 512, 1024), (1, 8, 64, 512, 1024))}
"""By preset, the batch sizes of digits that are timed in parallel, and those one example at a time."""


@dataclass(frozen=True)
class Case:
    """How the processes of a simulation differ."""

    noise: tuple[float, float]
    """Standard deviation of the log of a time at the smallest and at the largest batch size."""
    outliers: float = 0.0
    """Share of processes that are slower than the others, by a factor out of OUTLIER_SLOWNESS."""
    drifts: bool = False


CASES = {
    "noise 2%": Case((0.02, 0.02)),
    "noise 4%": Case((0.04, 0.04)),
    "noise 9%": Case((0.09, 0.09)),
    "4%, 15% outliers": Case((0.04, 0.04), outliers=0.15),
    "4%, drift": Case((0.04, 0.04), drifts=True),
    "2% rising to 8%": Case((0.02, 0.08)),
}


# What is simulated


def flat_end_of(fixed: float) -> float:
    """The batch size at which `fixed` + B is FLAT_FACTOR times `fixed` + 1."""
    return FLAT_FACTOR * (fixed + 1) - fixed


FIXED_AT_NULL = (LEAST_FLAT_RATIO * flat_end_of(0) - FLAT_FACTOR) / (FLAT_FACTOR - 1)
"""The fixed time with which an update stays flat LEAST_FLAT_RATIO times as far as one example at a time."""


@dataclass(frozen=True)
class Experiment:
    """Times of processes, divided by their reference updates."""

    parallel: Timings
    """With a half-performance batch of HALF_PERFORMANCE."""
    parallel_at_null: Timings
    """With a flat range LEAST_FLAT_RATIO times that of `sequential`."""
    sequential: Timings
    """In proportion to the batch size."""

    @classmethod
    def of(cls, case: Case, processes: int, grid: str, generator: np.random.Generator) -> "Experiment":
        sizes, sequential_sizes = GRIDS[grid]
        return cls(
            parallel=_simulated(case, HALF_PERFORMANCE, sizes, processes, generator),
            parallel_at_null=_simulated(case, FIXED_AT_NULL, sizes, processes, generator),
            sequential=_simulated(case, 0, sequential_sizes, processes, generator),
        )


def _simulated(case: Case, fixed: float, sizes: tuple[int, ...], processes: int, generator) -> Timings:
    """Times of `fixed` + B in `processes` processes at each of `sizes`."""
    shape = (len(sizes), processes)
    noise = np.geomspace(*case.noise, len(sizes))[:, None] * generator.normal(size=shape)
    slowness = np.where(generator.random(shape) < case.outliers, generator.uniform(*OUTLIER_SLOWNESS, shape), 1)
    rounds = np.linspace(0, 1, processes) * case.drifts
    drift = (1 + DRIFT * rounds) / (1 + DRIFT_OF_REFERENCE * rounds)
    times = (fixed + np.array(sizes))[:, None] * np.exp(noise) * slowness * drift
    return Timings(
        {size: tuple(row) for size, row in zip(sizes, times, strict=True)},
        dict(zip(sizes, np.median(times, axis=1).tolist(), strict=True)),
    )


# The rules


@dataclass(frozen=True)
class Quantity:
    """A quantity with a known value, and the rules that estimate it from an experiment."""

    truth: Callable[[Experiment], float]
    rules: dict[str, Callable[[Experiment], Interval]]


def _former_flat_ends(timings: Timings) -> np.ndarray:
    """The end of the flat range of each process, its times smoothed and joined by lines in the logs; at most the
    largest batch size."""
    log_sizes = np.log(list(timings.medians))
    rows = isotonic_fit(np.log(list(timings.processes.values())).T)
    return np.exp([np.interp(row[0] + np.log(FLAT_FACTOR), row, log_sizes) for row in rows])


def _former_time_ratio(timings: Timings) -> Interval:
    large, small = (np.array(timings.processes[size]) for size in _largest_and_smallest(timings))
    return median_interval(large / small)


def _largest_and_smallest(timings: Timings) -> tuple[int, int]:
    return max(timings.medians), min(timings.medians)


def _half_performance(timings: Timings) -> Interval:
    """The median of one fit a process."""
    sizes, processes = list(timings.medians), zip(*timings.processes.values(), strict=True)
    return median_interval([half_performance_batch(sizes, times) for times in processes])


QUANTITIES = {
    "flat range": Quantity(
        lambda _: flat_end_of(HALF_PERFORMANCE),
        {
            "former": lambda experiment: median_interval(_former_flat_ends(experiment.parallel)),
            "in use": lambda experiment: flat_range(experiment.parallel),
        },
    ),
    "flat range over that of sequential": Quantity(
        lambda _: LEAST_FLAT_RATIO,
        {
            "former": lambda experiment: median_interval(
                _former_flat_ends(experiment.parallel_at_null) / _former_flat_ends(experiment.sequential)
            ),
            "in use": lambda experiment: flat_range_ratio(experiment.parallel_at_null, experiment.sequential),
        },
    ),
    "time, largest / smallest batch size": Quantity(
        lambda experiment: np.divide(*_largest_and_smallest(experiment.sequential)),
        {
            "former": lambda experiment: _former_time_ratio(experiment.sequential),
            "in use": lambda experiment: experiment.sequential.ratio(*_largest_and_smallest(experiment.sequential)),
        },
    ),
    "half-performance batch": Quantity(
        lambda _: HALF_PERFORMANCE, {"in use": lambda experiment: _half_performance(experiment.parallel)}
    ),
}


# How well they do


@dataclass(frozen=True)
class Accuracy:
    bias: float
    """Mean of estimate / truth, less 1."""
    coverage: float
    """Share of the intervals that hold the truth."""
    false_verdicts: float
    """Share of the intervals that decide where the truth is the null, "holds" and "fails" together."""


def accuracy(quantity: str, rule: str, case: str, processes: int, grid: str, experiments: int) -> Accuracy:
    generator = np.random.default_rng(0)
    ratios, covered, decided = [], 0, 0
    for _ in range(experiments):
        experiment = Experiment.of(CASES[case], processes, grid, generator)
        truth, interval = QUANTITIES[quantity].truth(experiment), QUANTITIES[quantity].rules[rule](experiment)
        ratios.append(interval.estimate / truth)
        covered += interval.low <= truth <= interval.high
        decided += verdict(interval, truth) != "undecided"
    return Accuracy(float(np.mean(ratios)) - 1, covered / experiments, decided / experiments)


class FlatRange:
    version = "1"
    params = (list(CASES), list(PROCESSES))
    param_names = ("case", "processes")
    unit = "share"
    timeout = 300

    def track_bias(self, case, processes):
        return accuracy("flat range", "in use", case, processes, "full", TRACKED_EXPERIMENTS).bias

    def track_coverage(self, case, processes):
        return accuracy("flat range", "in use", case, processes, "full", TRACKED_EXPERIMENTS).coverage

    def track_false_verdicts(self, case, processes):
        quantity = "flat range over that of sequential"
        return accuracy(quantity, "in use", case, processes, "full", TRACKED_EXPERIMENTS).false_verdicts


def print_table(grid: str) -> None:
    """A line per case and rule; the share of false verdicts is the last number."""
    for name, quantity in QUANTITIES.items():
        print(f"{name}, batch sizes of the preset {grid}: bias, coverage, false verdicts")
        for processes in PROCESSES:
            for case in CASES:
                parts = []
                for rule in quantity.rules:
                    result = accuracy(name, rule, case, processes, grid, EXPERIMENTS)
                    parts.append(f"{rule} {result.bias:+6.1%} {result.coverage:6.1%} {result.false_verdicts:6.1%}")
                print(f"  {processes:2} processes, {case:17}", " | ".join(parts), flush=True)


if __name__ == "__main__":
    for preset in GRIDS:
        print_table(preset)
