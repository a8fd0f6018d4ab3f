"""The share of false verdicts, "holds" and "fails" together, where there is no effect: nominally 5%.

Ten thousand null experiments each, with as many values as a default run has. `python -m benchmarks.verdicts` prints
the shares with their intervals.
"""

import numpy as np
import scipy

from suite.statistics import mean_interval, median_interval, verdict

EXPERIMENTS = 10_000
DISTRIBUTIONS = {
    "normal": (lambda generator, shape: generator.normal(size=shape), 0.0, 0.0),
    "skewed differences of pairs": (
        lambda generator, shape: generator.exponential(size=shape) - generator.exponential(size=shape),
        0.0,
        0.0,
    ),
    "skewed": (lambda generator, shape: generator.exponential(size=shape), 1.0, np.log(2)),
}
"""A sampler, and the true mean and median of its values."""
RULES = {"mean of 30 seeds": (mean_interval, 30), "median of 6 processes": (median_interval, 6)}


def false_verdicts(distribution: str, rule: str) -> int:
    """The number of EXPERIMENTS whose verdict is not undecided."""
    sample, mean, median = DISTRIBUTIONS[distribution]
    interval, size = RULES[rule]
    null = mean if interval is mean_interval else median
    values = sample(np.random.default_rng(0), (EXPERIMENTS, size))
    return sum(verdict(interval(experiment), null) != "undecided" for experiment in values)


class FalseVerdicts:
    version = "1"
    params = (list(DISTRIBUTIONS), list(RULES))
    param_names = ("values", "rule")
    unit = "share"

    def track_share(self, distribution, rule):
        return false_verdicts(distribution, rule) / EXPERIMENTS


def print_table() -> None:
    for rule in RULES:
        for distribution in DISTRIBUTIONS:
            count = false_verdicts(distribution, rule)
            interval = scipy.stats.binomtest(count, EXPERIMENTS).proportion_ci(method="exact")
            share = f"{count / EXPERIMENTS:6.1%} ({interval.low:.1%} to {interval.high:.1%})"
            print(f"{rule:21} {distribution:27} {share}")


if __name__ == "__main__":
    print_table()
