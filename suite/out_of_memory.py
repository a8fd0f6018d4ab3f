"""Which errors say that memory has run out."""

import torch


def out_of_memory(error: Exception) -> bool:
    """Whether `error` does; torch raises no class of its own for that on a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or says_out_of_memory(str(error))


def says_out_of_memory(text: str) -> bool:
    """Whether an error printed as `text` does."""
    return any(words in text.lower() for words in ("out of memory", "memoryerror", "can't allocate memory"))
