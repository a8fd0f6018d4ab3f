"""The gate: is a commit slower than its base, or do its findings differ? `python -m benchmarks.gate BASE`."""
