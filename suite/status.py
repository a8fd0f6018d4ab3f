"""How a measurement ended, as every stored row says."""

from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    UNAVAILABLE = "unavailable"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    TARGET_NOT_REACHED = "target_not_reached"
    LOSS_NOT_POSITIVE = "loss_not_positive"
    """The training loss ended at zero or below, where it has no logarithm and no ratio."""

    @property
    def text(self) -> str:
        return self.value.replace("_", " ")
