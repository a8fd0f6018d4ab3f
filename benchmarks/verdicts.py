"""How often a verdict is drawn where there is no effect, holds and fails together: 5% are meant.

Ten thousand null experiments each, of as many values as a default run has. `python -m benchmarks.verdicts` prints the
shares with their intervals.
"""

import numpy as np
import scipy

from suite.statistics import mean_interval, median_interval, verdict

EXPERIMENTS = 10_000
DRAWN = {
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


def false_verdicts(drawn: str, rule: str) -> int:
    """Of so many EXPERIMENTS, those with a verdict other than undecided."""
    sample, mean, median = DRAWN[drawn]
    interval, size = RULES[rule]
    null = mean if interval is mean_interval else median
    values = sample(np.random.default_rng(0), (EXPERIMENTS, size))
    return sum(verdict(interval(experiment), null) != "undecided" for experiment in values)


class FalseVerdicts:
    version = "1"
    params = (list(DRAWN), list(RULES))
    param_names = ("values", "rule")
    unit = "share"

    def track_share(self, drawn, rule):
        return false_verdicts(drawn, rule) / EXPERIMENTS


def print_table() -> None:
    for rule in RULES:
        for drawn in DRAWN:
            found = false_verdicts(drawn, rule)
            around = scipy.stats.binomtest(found, EXPERIMENTS).proportion_ci(method="exact")
            print(f"{rule:21} {drawn:27} {found / EXPERIMENTS:6.1%} ({around.low:.1%} to {around.high:.1%})")


if __name__ == "__main__":
    print_table()
