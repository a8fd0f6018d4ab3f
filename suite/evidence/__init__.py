"""Stored rows as claims and studies read them: the facts of a workload, timings, trainings, and what is missing."""

from suite.evidence.evidence import Evidence, backend_of
from suite.evidence.facts import Facts
from suite.evidence.problem import Problem, why_none
from suite.evidence.timings import CappedLarge, Timings, largest_measured, relative_times

__all__ = [
    "CappedLarge",
    "Evidence",
    "Facts",
    "Problem",
    "Timings",
    "backend_of",
    "largest_measured",
    "relative_times",
    "why_none",
]
