"""The error that a single test set gives to a difference of test scores."""

from __future__ import annotations

from suite.evidence.facts import Facts

ACCURACY = "accuracy"


def shared_variance(scores: tuple[float, float], facts: Facts) -> float:
    """The largest variance that the draw of the test examples can give to the difference of two mean test `scores`.

    Models that are right on the shares p and q of n examples differ on at most the shares p + q and 2 − p − q of
    them, so that the variance is at most the smaller of these over n. It counts as 0 where every seed has its own
    split, and where the score is no accuracy, so that it is unknown.
    """
    if not has_shared_error(facts):
        return 0.0
    differing = min(sum(scores), 2 - sum(scores))
    return max(0.0, differing) / facts.test_examples


def has_shared_error(facts: Facts) -> bool:
    """Whether the intervals of differences of test scores contain the error of the test set."""
    return facts.score_name == ACCURACY and not facts.resplit
