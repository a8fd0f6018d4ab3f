"""What is said of each number of base and head, and of all of them together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

SAME, MOVED, SLOWER, FASTER, NOISY, NOT_MEASURED = "same", "moved", "slower", "faster", "too noisy", "not measured"
REGRESSIONS, FAILURES = (MOVED, SLOWER), (NOISY, NOT_MEASURED)
NOTHING, REGRESSION, NO_VERDICT = 0, 1, 2
"""Exit codes."""
FLOOR = math.log(1.05)
"""The least change of a ratio that is reported: twice compiled or laid out in memory otherwise, the same code differs
by a few percent (Mytkowicz et al. 2009)."""
CEILING = math.log(1.15)
"""The greatest threshold with which a ratio counts as measured."""
FALSE_ALARM = 0.001
"""Probability that a gate reports a slower ratio of the same code, over all its ratios."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """A number of both sides, and what became of it, in words."""

    what: str
    base: str = ""
    head: str = ""
    change: str = ""
    threshold: str = ""
    sure: str = ""
    verdict: str = SAME


def judge_finding(base: dict, head: dict) -> Row:
    """Entries of `measuring.found` for one track: they agree within its tolerance, or it moved."""
    what = base["name"]
    for side, entry in (("base", base), ("head", head)):
        if "failed" in entry:
            return Row(what, sure=f"{side}: {entry['failed']}", verdict=NOT_MEASURED)
    if "skipped" in base and "skipped" in head:
        return Row(what, sure=base["skipped"], verdict="skipped")
    if "skipped" in base or "skipped" in head:
        return Row(what, sure="only one side has it", verdict=NOT_MEASURED)
    before, after = base["value"], head["value"]
    if not math.isfinite(before):
        return Row(what, sure=f"base is {before}", verdict=NOT_MEASURED)
    allowed = base["relative"] * abs(before) + base["absolute"]
    agree = abs(after - before) <= allowed  # never where head is no number
    change = f"{after / before - 1:+.3%}" if before else f"{after - before:+.4g}"
    threshold = f"{allowed / abs(before):.3%}" if before else f"{allowed:.4g}"
    unit = base["unit"]
    return Row(what, f"{before:.6g} {unit}", f"{after:.6g}", change, threshold, "exact", SAME if agree else MOVED)


def log_ratio(readings: Sequence[tuple[float, float]]) -> float:
    """Logarithm of a ratio, from readings [n, 2] of what is measured and of the yardstick, taken in turns: from the
    mean logarithms of the fastest quarter of each, since other processes only ever slow a reading."""
    logs = np.sort(np.log(np.asarray(readings)), axis=0)[: max(1, len(readings) // 4)]
    measured, yardstick = logs.mean(axis=0)
    return float(measured - yardstick)


@dataclass(frozen=True)
class Change:
    """How the logarithm of a ratio changed from base to head, in n rounds of base, head and base again."""

    change: float
    error: float
    """Standard error of `change`."""
    freedom: int
    """Degrees of freedom of `error`."""
    threshold: float

    def interval(self) -> tuple[float, float]:
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom) * self.error
        return self.change - half, self.change + half

    def beyond(self, change: float) -> float:
        """How sure it is that the true change is more than `change`."""
        if self.error == 0:
            return float(self.change > change)
        return float(scipy.stats.t.cdf((self.change - change) / self.error, self.freedom))


def change_of(rounds: Sequence[tuple[float, float, float]], ratios: int) -> Change:
    """From logarithms of a ratio [n, 3], n >= 2: of base, head and base again in each round, one of so many `ratios`.

    A round moves all three alike. What is left is the spread of a process: of base against base again, and of head
    against both from round to round, 2 n - 1 degrees of freedom together. The threshold is what the mean change of
    the same code exceeds with probability FALSE_ALARM / ratios (Student's t, Bonferroni), at least FLOOR.
    """
    first, head, second = np.asarray(rounds, float).T
    changes, again = head - (first + second) / 2, second - first
    count, freedom = len(changes), 2 * len(changes) - 1
    change = float(changes.mean())
    variance = ((again**2).sum() / 2 + ((changes - change) ** 2).sum() / 1.5) / freedom
    error = math.sqrt(1.5 * variance / count)
    critical = float(scipy.stats.t.isf(FALSE_ALARM / ratios, freedom))
    return Change(change, error, freedom, max(FLOOR, critical * error))


def judge_ratio(what: str, unit: str, rounds: Sequence[tuple[float, float, float]], ratios: int) -> Row:
    """`rounds` as in `change_of`: slower where the change is beyond the threshold, however sure it is otherwise."""
    logs = np.asarray(rounds, float)
    if not np.isfinite(logs).all():
        return Row(what, sure="a time is no number", verdict=NOT_MEASURED)
    found = change_of(logs, ratios)
    low, high = found.interval()
    if found.change > found.threshold:
        verdict, sure = SLOWER, 1 - ratios * (1 - found.beyond(0.0))
    elif found.threshold > CEILING:
        verdict, sure = NOISY, 0.0
    elif found.change < -found.threshold:
        verdict, sure = FASTER, 1 - ratios * found.beyond(0.0)
    else:
        verdict, sure = SAME, 1 - found.beyond(found.threshold)
    return Row(
        what,
        f"{math.exp(logs[:, [0, 2]].mean()):.4g} {unit}",
        f"{math.exp(logs[:, 1].mean()):.4g}",
        f"{_percent(found.change)} ({_percent(low)} to {_percent(high)})",
        _percent(found.threshold),
        _share(sure),
        verdict,
    )


def conclusion(rows: Sequence[Row]) -> tuple[int, str]:
    """The exit code and the one line that says it. A regression that was found stays one, whatever could not be
    measured beside it; without one, there is then no verdict on the whole."""
    of = {verdict: [row.what for row in rows if row.verdict == verdict] for verdict in {row.verdict for row in rows}}

    def told(verdicts: Sequence[str]) -> str:
        return "; ".join(f"{verdict}: {', '.join(of[verdict])}" for verdict in verdicts if verdict in of)

    regressions, failures, faster = told(REGRESSIONS), told(FAILURES), told([FASTER])
    if regressions:
        return REGRESSION, f"regression ({regressions})" + (f"; beside that, {failures}" if failures else "")
    if failures:
        return NO_VERDICT, f"could not measure ({failures})"
    return NOTHING, "no regression" + (f" ({faster})" if faster else "")


def _percent(log: float) -> str:
    return f"{math.expm1(log):+.1%}"


def _share(sure: float) -> str:
    return ">99.9%" if sure > 0.999 else f"{max(0.0, sure):.1%}"
