"""The provenance of every number: this machine and its software. Never a host, user or path."""

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

import suite
from suite import devices

ROOT = Path(suite.__file__).resolve().parent.parent


def provenance(threads: int, duration_s: float) -> dict:
    """The provenance that is stored with every number: this machine, the threads, and the seconds it took."""
    return {**describe(), "threads": threads, "duration_s": round(duration_s, 3)}


@cache
def describe() -> dict[str, str]:
    """Facts about this machine and its software, each as text."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return {
        "machine": f"{devices.CPU.name()}, {psutil.cpu_count()} cores, {memory_gib:.0f} GiB",
        "gpu": devices.accelerator_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "asv": version("asv"),
        "suite": suite.__version__,
        "commit": commit(),
    }


def commit() -> str:
    """The commit of the suite's code, with "dirty" where files differ from it; "unknown" where there is no git."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"
    return head.stdout.strip()[:12] + (" (dirty)" if status.stdout.strip() else "")


def without_paths(text: str) -> str:
    """`text` with every absolute path cut down to its last part."""
    return re.sub(r"""(?<=['"])/[^'"]*/|(?<![\w.'"/])/(?:[^\s/'"]+/)+""", "", text)
