"""Recommend a batch size for a workload on this machine: measure, predict, choose, then check the choice."""
