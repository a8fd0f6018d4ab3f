"""The names that the gate watches: the file to change where the gate is copied to another project."""

PACKAGE = "suite"
"""The package that is built from each side, and imported."""
FINDINGS = ("benchmarks.findings", "benchmarks.memory")
"""Modules with functions `track_*`, on whose values both sides must agree; each function has a `unit`, and `relative`
and `absolute` tolerances."""
RATIOS = "benchmarks.ratios"
"""The module with the `PAIRS` whose ratios may not grow, and the `Readings` of each."""
