"""Devices: the CPU, and stand-ins for accelerators, which test machines seldom have."""

import re
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from suite import devices, seeds
from suite.devices import CPU, Accelerator, Device
from tests.command import ROOT
from tests.conftest import cuda


class StandIn(Accelerator):
    """An accelerator that is always available, with two random generators."""

    generators = tuple(torch.Generator() for _ in range(2))

    @property
    def _module(self):
        return SimpleNamespace(
            device_count=lambda: 2,
            get_rng_state=lambda index: self.generators[index].get_state(),
            set_rng_state=lambda state, index: self.generators[index].set_state(state),
            manual_seed_all=lambda seed: [generator.manual_seed(seed) for generator in self.generators],
            manual_seed=None,
        )

    def unavailable(self):
        return None

    def in_use(self):
        return True


STAND_IN = StandIn("stand_in", "a stand-in")
PAIR = (CPU, STAND_IN)


def test_only_one_file_of_the_suite_names_a_vendor():
    vendors = re.compile(r"""["'](cuda|mps|xpu)["']|torch\.(cuda|mps|xpu)|is_cuda|nvidia-smi""")
    naming = [file.name for file in (ROOT / "suite").rglob("*.py") if vendors.search(file.read_text())]
    assert naming == ["devices.py"]


ADDED = """
import sys
from suite import devices
devices.DEVICES += (devices.Accelerator("pretended", "a pretended GPU"),)
from suite.cli import main
sys.argv = ["suite", "list"]
main()
"""


def test_an_added_device_is_listed_with_the_reason_why_it_is_unavailable():
    done = subprocess.run([sys.executable, "-c", ADDED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "pretended" in line)
    assert "the whole batch at once on a pretended GPU (unavailable: this build of torch has no PRETENDED" in line


@pytest.mark.parametrize(
    ("built", "available", "tool", "reason"),
    [
        ("cuda", True, None, None),
        ("cuda", False, None, "no CUDA device on this machine"),
        ("cuda", False, "/usr/bin/nvidia-smi", "no CUDA device on this machine"),
        (None, False, None, "no CUDA device on this machine"),
        (None, False, "/usr/bin/nvidia-smi", "this build of torch has no CUDA support"),
        ("xpu", True, None, "no CUDA device on this machine"),
    ],
)
def test_the_reason_tells_whether_the_machine_or_torch_lacks_the_device(monkeypatch, built, available, tool, reason):
    accelerator = torch.device(built) if built else None
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: accelerator)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: available)
    monkeypatch.setattr("shutil.which", lambda program: tool)
    assert devices.find("cuda").unavailable() == reason


def test_the_cpu_is_always_available():
    assert CPU.unavailable() is None
    assert CPU.name() not in ("", "none")
    assert 0 < CPU.free_bytes() <= psutil.virtual_memory().total
    CPU.synchronize()


@pytest.mark.parametrize("device", devices.DEVICES, ids=lambda device: device.type)
def test_an_unavailable_device_has_no_name_and_is_not_in_use(device):
    assert (device.name() == "none") == bool(device.unavailable())
    assert not (device.unavailable() and device.in_use())


def test_the_device_of_a_tensor_or_of_a_torch_device():
    assert devices.of(torch.zeros(1)) is CPU
    assert devices.of("cpu") is CPU
    assert devices.of(torch.device("cuda", 1)) is devices.find("cuda")


def test_an_available_accelerator_is_the_fastest():
    assert devices.fastest(PAIR) is STAND_IN


def test_the_cpu_is_the_fastest_without_an_accelerator(monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert devices.fastest() is CPU


@pytest.mark.parametrize(
    ("platform", "method"), [("linux", "forkserver"), ("darwin", "forkserver"), ("win32", "spawn")]
)
def test_asv_forks_without_an_accelerator(monkeypatch, platform, method):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("sys.platform", platform)
    assert devices.launch_method() == method


def test_asv_does_not_fork_beside_an_accelerator():
    assert devices.launch_method(STAND_IN) == "spawn"


def test_the_peak_counts_tensors_alive_at_once_and_none_from_before():
    before = torch.zeros(1000)

    def function():
        for _ in range(3):
            before + torch.ones(1000)  # two tensors of 4,000 bytes at once

    assert CPU.peak_bytes(function) == 8000


def test_memory_reserved_by_the_allocator_counts_as_free(monkeypatch):
    for name, value in (("get_memory_info", (100, 1000)), ("memory_reserved", 50), ("memory_allocated", 20)):
        monkeypatch.setattr(f"torch.accelerator.{name}", lambda value=value: value)
    assert devices.find("cuda").free_bytes() == 130
    assert devices.find("mps").free_bytes() > 1000  # the memory of the machine, which the CPU shares


def test_the_peak_is_that_of_tensors_where_the_allocator_does_not_count():
    assert devices.find("mps").peak_bytes(lambda: torch.ones(1000)) == 4000


def random_states():
    return [state for device in PAIR for state in device.random_state()]


def assert_equal(states, expected_states):
    for state, expected in zip(states, expected_states, strict=True):
        assert torch.equal(state, expected)


def test_a_stream_runs_the_generators_of_every_device_in_use():
    """Two parts give the numbers of one whole on each device, and the previous states are restored."""

    def draw(count):
        generators = STAND_IN.generators
        return torch.stack([torch.rand(count), *(torch.rand(count, generator=each) for each in generators)])

    stream, parts = seeds.TorchStream("a", among=PAIR), []
    for _ in range(2):
        draw(1)
        before = random_states()
        with stream.running():
            parts.append(draw(4))
        assert_equal(random_states(), before)
    with seeds.TorchStream("a", among=PAIR).running():
        whole = draw(8)
    assert torch.equal(torch.cat(parts, dim=1), whole)


def failing(device):
    with devices.random_state_restored(PAIR):
        device.seed(7)
        raise ZeroDivisionError


def test_random_states_are_restored_after_an_error():
    for device in PAIR:
        before = random_states()
        with pytest.raises(ZeroDivisionError):
            failing(device)
        assert_equal(random_states(), before)


def test_seeding_a_device_gives_the_same_numbers_as_torch():
    with devices.random_state_restored():
        torch.manual_seed(5)
        expected = torch.rand(3)
        CPU.seed(5)
        assert torch.equal(torch.rand(3), expected)


def test_sums_are_in_float64_where_the_device_supports_it():
    widest = {"cpu": torch.float64, "cuda": torch.float64, "mps": torch.float32, "xpu": torch.float64}
    assert {name: devices.find(name).widest_float for name in widest} == widest


def test_the_cpu_captures_no_graphs():
    assert not CPU.captures
    assert not Device("meta", "nothing").captures


@cuda
def test_a_gpu_has_a_name_and_memory_and_can_be_synchronized():
    device = devices.find("cuda")
    assert device.name() == torch.cuda.get_device_name(0)
    device.synchronize()
    assert 0 < device.free_bytes() <= torch.cuda.get_device_properties(0).total_memory
    assert 4000 <= device.peak_bytes(lambda: torch.ones(1000, device="cuda")) < 2**21


@cuda
def test_a_gpu_repeats_captured_work_at_each_replay():
    count = torch.zeros((), device="cuda")
    replay = devices.find("cuda").capture(lambda: count.add_(1))
    count.zero_()
    for _ in range(5):
        replay()
    assert count.item() == 5


@cuda
def test_a_stream_on_a_gpu_does_not_depend_on_earlier_draws():
    torch.zeros(1, device="cuda")

    def drawn():
        with seeds.torch_seeded("a"):
            return torch.rand(3, device="cuda")

    first = drawn()
    torch.rand(5, device="cuda")
    assert torch.equal(drawn(), first)
