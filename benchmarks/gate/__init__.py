"""The gate: is a commit slower than another, or does it find something else? `python -m benchmarks.gate BASE`."""
