"""A plugin of asv's: tells it what this machine is, so that it need not ask.

asv would name the machine after its host and stop with exit code 1 where nobody can answer. This names it
after its processor and GPU, and writes asv's machine file when it has no entry of that name.
"""

import re
import subprocess

from asv.machine import Machine, MachineCollection
from asv.util import UserError


def gpu_name() -> str:
    """Name of the first NVIDIA GPU, or "none"; asks the driver, since torch is slow to import."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return names[0].strip() if names else "none"


def machine() -> dict[str, str]:
    """asv's facts about this machine, with its GPU, and with a name that is not its host's."""
    facts = Machine.get_defaults()
    gpu = gpu_name()
    name = f"{facts['cpu'] or facts['arch']} {facts['num_cpu']} cores"
    if gpu != "none":
        name += f" {gpu}"
    return {**facts, "machine": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"), "gpu": gpu}


def setup() -> None:
    """Called by asv when it loads the plugin."""
    facts = machine()
    Machine.hardcoded_machine_name = facts["machine"]
    try:
        MachineCollection.load(facts["machine"])
    except UserError:
        MachineCollection.save(facts["machine"], facts)
