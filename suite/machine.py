"""What this machine is and what it runs: the provenance of every number. Never a host, user or path."""

import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from asv.util import get_cpu_info

import suite
from suite import seeds

ROOT = Path(suite.__file__).resolve().parent.parent


def provenance(fingerprint: str, threads: int, duration_s: float) -> dict:
    """What stands beside every stored number: this machine, the workload's `fingerprint`, and how it was measured."""
    return {
        **describe(),
        "fingerprint": fingerprint,
        "base_seed": seeds.BASE_SEED,
        "threads": threads,
        "duration_s": round(duration_s, 3),
    }


@cache
def describe() -> dict[str, str]:
    """Facts about this machine and its software, each as text."""
    return {
        "machine": f"{processor()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "gpu": gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "asv": version("asv"),
        "suite": suite.__version__,
        "commit": commit(),
    }


def processor() -> str:
    """Model of the processor."""
    return get_cpu_info() or platform.processor() or platform.machine()


def gpu() -> str:
    """Model of the first CUDA device, or "none"."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


def commit() -> str:
    """The commit of the suite's code, with "dirty" where files differ from it, or where there is no git."""
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


def launch_method() -> str:
    """How asv starts its processes: a fork server, except beside CUDA, which a fork would break."""
    return "spawn" if torch.cuda.is_available() or sys.platform == "win32" else "forkserver"
