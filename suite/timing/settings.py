"""The settings of a timing, as the environment variables that reach the benchmarks through asv."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATA, REFERENCES, WORKLOAD, THREADS = "SUITE_DATA", "SUITE_REFERENCES", "SUITE_WORKLOAD", "SUITE_THREADS"


@dataclass(frozen=True)
class TimingSettings:
    """The settings that `suite run` makes; each has its default in a plain `asv run`."""

    workload: str = "digits"
    """The name or path of the workload to time."""
    threads: int | None = None
    """The number of threads that suits the CPU; None where the benchmarks are to measure it."""
    data: Path | None = None
    """A file with the split to time with, so that not every process loads it; None where the workload loads it."""
    references: Path | None = None
    """The folder in which processes leave their reference times; None where they leave none."""

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "TimingSettings":
        """From environment variables.

        >>> TimingSettings.of({"SUITE_THREADS": "2"})
        TimingSettings(workload='digits', threads=2, data=None, references=None)
        """
        threads, data, references = (variables.get(name) for name in (THREADS, DATA, REFERENCES))
        return cls(
            variables.get(WORKLOAD, cls.workload),
            int(threads) if threads else None,
            Path(data) if data else None,
            Path(references) if references else None,
        )

    def variables(self) -> dict[str, str]:
        """The environment variables that `of` reads.

        >>> TimingSettings(threads=2).variables()
        {'SUITE_WORKLOAD': 'digits', 'SUITE_THREADS': '2'}
        """
        values = {WORKLOAD: self.workload, THREADS: self.threads, DATA: self.data, REFERENCES: self.references}
        return {name: str(value) for name, value in values.items() if value is not None}


def benchmark_name(workload: str) -> str:
    """The name of a workload's benchmarks in asv, which cuts names at "." and "-".

    >>> benchmark_name("my-net.v2")
    'my_net_v2'
    """
    return re.sub(r"\W", "_", workload)
