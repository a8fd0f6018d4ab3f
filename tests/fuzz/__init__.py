"""Made-up input: whatever is given, one line and no traceback.

A few hundred examples of each kind run with the other tests, always the same. `SUITE_FUZZ=10000 pytest tests/fuzz`
tries as many as it says, always new ones.
"""

import os

from hypothesis import HealthCheck, settings

COUNT = int(os.environ.get("SUITE_FUZZ", 0))


def examples(count: int) -> settings:
    """`count` examples, or as many as SUITE_FUZZ asks for."""
    return settings(
        max_examples=COUNT or count,
        derandomize=not COUNT,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
