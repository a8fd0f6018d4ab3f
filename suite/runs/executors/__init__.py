"""Executors: where cells are measured. One file each."""
