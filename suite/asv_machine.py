"""A plugin of asv's: tells it what this machine is, so that it need not ask, and how to start processes here.

asv would name the machine after its host and stop with exit code 1 where nobody can answer. This names it
after its processor and GPU, and writes asv's machine file when it has no entry of that name.
"""

import re

from asv import runner
from asv.machine import Machine, MachineCollection
from asv.util import UserError

try:
    from suite import devices
except ImportError:  # asv runs without torch too, which its own environments have
    devices = None

asv_get_spawner = runner.get_spawner


def accelerator_name() -> str:
    """Return the model of this machine's accelerator, or "none"."""
    return devices.accelerator_name() if devices else "none"


def machine() -> dict[str, str]:
    """asv's facts about this machine, with its GPU, and with a name that is not its host's."""
    facts = Machine.get_defaults()
    gpu = accelerator_name()
    name = f"{facts['cpu'] or facts['arch']} {facts['num_cpu']} cores"
    if gpu != "none":
        name += f" {gpu}"
    return {**facts, "machine": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"), "gpu": gpu}


def get_spawner(env, benchmark_dir, launch_method):
    """Do what asv's function of this name does, with the launch method of this machine where none is asked for: asv
    would always take `spawn`, which imports torch anew in every process."""
    if launch_method in (None, "auto"):
        launch_method = devices.launch_method() if devices else "spawn"
    return asv_get_spawner(env, benchmark_dir, launch_method)


def setup() -> None:
    """Called by asv when it loads the plugin."""
    runner.get_spawner = get_spawner
    facts = machine()
    Machine.hardcoded_machine_name = facts["machine"]
    try:
        MachineCollection.load(facts["machine"])
    except UserError:
        MachineCollection.save(facts["machine"], facts)
