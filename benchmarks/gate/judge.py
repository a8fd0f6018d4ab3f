"""The verdict on each number of base and head, and the conclusion from all of them."""

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
"""The least change of a ratio that is reported: the same code differs by a few percent when it is compiled again or
laid out differently in memory (Mytkowicz et al. 2009)."""
CEILING = math.log(1.15)
"""The greatest threshold with which a ratio counts as measured."""
FALSE_ALARM = 0.001
"""Probability that a gate reports a slower ratio for the same code, over all its ratios."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """A number of both sides and its verdict, as texts."""

    name: str
    base: str = ""
    head: str = ""
    change: str = ""
    threshold: str = ""
    confidence: str = ""
    verdict: str = SAME


def judge_finding(base: dict, head: dict) -> Row:
    """Compare the entries of `measuring.entries` for one track: they agree within its tolerance, or it moved."""
    name = base["name"]
    for side, entry in (("base", base), ("head", head)):
        if "failed" in entry:
            return Row(name, confidence=f"{side}: {entry['failed']}", verdict=NOT_MEASURED)
    if "skipped" in base and "skipped" in head:
        return Row(name, confidence=base["skipped"], verdict="skipped")
    if "skipped" in base or "skipped" in head:
        return Row(name, confidence="only one side has it", verdict=NOT_MEASURED)
    before, after = base["value"], head["value"]
    if not math.isfinite(before):
        return Row(name, confidence=f"base is {before}", verdict=NOT_MEASURED)
    allowed = base["relative"] * abs(before) + base["absolute"]
    agree = abs(after - before) <= allowed  # False where head is NaN
    change = f"{after / before - 1:+.3%}" if before else f"{after - before:+.4g}"
    threshold = f"{allowed / abs(before):.3%}" if before else f"{allowed:.4g}"
    unit = base["unit"]
    return Row(name, f"{before:.6g} {unit}", f"{after:.6g}", change, threshold, "exact", SAME if agree else MOVED)


def log_ratio(readings: Sequence[tuple[float, float]]) -> float:
    """Logarithm of a ratio, from readings [n, 2] of its numerator and of the yardstick, taken in turns: from the mean
    logarithms of the fastest quarter of each, since other processes only ever slow a reading."""
    logs = np.sort(np.log(np.asarray(readings)), axis=0)[: max(1, len(readings) // 4)]
    numerator, yardstick = logs.mean(axis=0)
    return float(numerator - yardstick)


@dataclass(frozen=True)
class Change:
    """The change of a ratio's logarithm from base to head, in n rounds of base, head and base again."""

    change: float
    error: float
    """Standard error of `change`."""
    freedom: int
    """Degrees of freedom of `error`."""
    threshold: float

    def interval(self) -> tuple[float, float]:
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom) * self.error
        return self.change - half, self.change + half

    def confidence_above(self, change: float) -> float:
        """The confidence that the true change is greater than `change`."""
        if self.error == 0:
            return float(self.change > change)
        return float(scipy.stats.t.cdf((self.change - change) / self.error, self.freedom))


def change_of(rounds: Sequence[tuple[float, float, float]], ratios: int) -> Change:
    """From logarithms of a ratio [n, 3], n >= 2: of base, head and base again in each round, one of `ratios` ratios.

    A round moves all three alike. The remaining spread is that of a process: of base against base again, and of head
    against both from round to round, 2 n − 1 degrees of freedom together. The threshold is the mean change that the
    same code exceeds with probability FALSE_ALARM / ratios (Student's t, Bonferroni), at least FLOOR.
    """
    first, head, second = np.asarray(rounds, float).T
    changes, again = head - (first + second) / 2, second - first
    count, freedom = len(changes), 2 * len(changes) - 1
    change = float(changes.mean())
    variance = ((again**2).sum() / 2 + ((changes - change) ** 2).sum() / 1.5) / freedom
    error = math.sqrt(1.5 * variance / count)
    critical = float(scipy.stats.t.isf(FALSE_ALARM / ratios, freedom))
    return Change(change, error, freedom, max(FLOOR, critical * error))


def judge_ratio(name: str, unit: str, rounds: Sequence[tuple[float, float, float]], ratios: int) -> Row:
    """Judge the `rounds` of `change_of`: slower where the change exceeds the threshold, whatever its confidence."""
    logs = np.asarray(rounds, float)
    if not np.isfinite(logs).all():
        return Row(name, confidence="a time is not finite", verdict=NOT_MEASURED)
    change = change_of(logs, ratios)
    low, high = change.interval()
    if change.change > change.threshold:
        verdict, confidence = SLOWER, 1 - ratios * (1 - change.confidence_above(0.0))
    elif change.threshold > CEILING:
        verdict, confidence = NOISY, 0.0
    elif change.change < -change.threshold:
        verdict, confidence = FASTER, 1 - ratios * change.confidence_above(0.0)
    else:
        verdict, confidence = SAME, 1 - change.confidence_above(change.threshold)
    return Row(
        name,
        f"{math.exp(logs[:, [0, 2]].mean()):.4g} {unit}",
        f"{math.exp(logs[:, 1].mean()):.4g}",
        f"{_percent(change.change)} ({_percent(low)} to {_percent(high)})",
        _percent(change.threshold),
        _share(confidence),
        verdict,
    )


def conclusion(rows: Sequence[Row]) -> tuple[int, str]:
    """The exit code and its line of text. A regression is a regression even where some numbers could not be measured;
    without a regression, there is then no verdict."""
    verdicts = {row.verdict for row in rows}
    names = {verdict: [row.name for row in rows if row.verdict == verdict] for verdict in verdicts}

    def listed(verdicts: Sequence[str]) -> str:
        return "; ".join(f"{verdict}: {', '.join(names[verdict])}" for verdict in verdicts if verdict in names)

    regressions, failures, faster = listed(REGRESSIONS), listed(FAILURES), listed([FASTER])
    if regressions:
        return REGRESSION, f"regression ({regressions})" + (f"; beside that, {failures}" if failures else "")
    if failures:
        return NO_VERDICT, f"could not measure ({failures})"
    return NOTHING, "no regression" + (f" ({faster})" if faster else "")


def _percent(log: float) -> str:
    return f"{math.expm1(log):+.1%}"


def _share(confidence: float) -> str:
    return ">99.9%" if confidence > 0.999 else f"{max(0.0, confidence):.1%}"
