"""A plugin of asv's: describes this machine to asv, so that asv need not ask, and chooses how it starts processes.

asv would name the machine after its host and stop with exit code 1 where nobody can answer. The plugin names it after
its processor and GPU, and writes asv's machine file where that has no entry of the name.
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
    """Return asv's facts about this machine, with its GPU, and with a name that is not its host's."""
    facts = Machine.get_defaults()
    gpu = accelerator_name()
    name = f"{facts['cpu'] or facts['arch']} {facts['num_cpu']} cores"
    if gpu != "none":
        name += f" {gpu}"
    return {**facts, "machine": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"), "gpu": gpu}


def get_spawner(env, benchmark_dir, launch_method):
    """Call asv's function of this name with the launch method of this machine where none is given: asv would always
    take `spawn`, which imports torch anew in every process."""
    if launch_method in (None, "auto"):
        launch_method = devices.launch_method() if devices else "spawn"
    return asv_get_spawner(env, benchmark_dir, launch_method)


def setup() -> None:
    """Install the plugin: asv calls this when it loads it."""
    runner.get_spawner = get_spawner
    facts = machine()
    Machine.hardcoded_machine_name = facts["machine"]
    try:
        MachineCollection.load(facts["machine"])
    except UserError:
        MachineCollection.save(facts["machine"], facts)
