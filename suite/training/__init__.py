"""Training: the update, the epoch, and whole trainings by a protocol."""
