import ast
import hashlib
from pathlib import Path

import pytest
import torch

import suite
from suite import seeds

SOURCES = sorted(Path(suite.__file__).parent.rglob("*.py"))
UNSEEDED = {"check", "fingerprint", "lanczos", "symmetry", "trial", "twenty"}
"""Streams that are the same for every base seed: the check and the fingerprint of a workload, the first vector of an
eigenvalue iteration, the trial of an ensemble, and data."""


def test_a_seed_is_the_sha256_of_the_base_seed_and_the_names():
    digest = hashlib.sha256(b"0/shuffle/8/3").digest()
    assert seeds.derive("shuffle", 8, 3) == int.from_bytes(digest[:8], "big") >> 1


def test_a_stream_does_not_depend_on_other_streams():
    alone = torch.rand(3, generator=seeds.generator("a"))
    torch.rand(100, generator=seeds.generator("b"))
    assert torch.equal(torch.rand(3, generator=seeds.generator("a")), alone)


def test_different_names_give_different_streams():
    assert len({seeds.derive("split", replica) for replica in range(1000)}) == 1000


def test_torchs_generator_runs_a_stream_and_is_restored():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeds.torch_seeded("a"):
        inside = torch.rand(3)
    assert torch.equal(inside, torch.rand(3, generator=seeds.generator("a")))
    assert torch.equal(torch.rand(2), expected)


def test_the_base_seed_enters_every_stream():
    digest = hashlib.sha256(b"7/shuffle/8/3").digest()
    assert seeds.derive("shuffle", 8, 3, base_seed=7) == int.from_bytes(digest[:8], "big") >> 1
    assert seeds.derive("shuffle", base_seed=0) == seeds.derive("shuffle")


def draw_from_generator(base_seed: int) -> torch.Tensor:
    return torch.rand(3, generator=seeds.generator("a", base_seed=base_seed))


def draw_inside(base_seed: int) -> torch.Tensor:
    with seeds.torch_seeded("a", base_seed=base_seed):
        return torch.rand(3)


def draw_in_two_parts(base_seed: int) -> torch.Tensor:
    stream = seeds.TorchStream("a", base_seed=base_seed)
    with stream.running():
        first = torch.rand(1)
    with stream.running():
        return torch.cat([first, torch.rand(2)])


@pytest.mark.parametrize("draw", [draw_from_generator, draw_inside, draw_in_two_parts])
def test_each_base_seed_has_its_own_streams(draw):
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_two_base_seeds_share_no_stream():
    derived = [
        seeds.derive(name, replica, base_seed=base_seed)
        for base_seed in range(10)
        for name in ("split", "shuffle")
        for replica in range(50)
    ]
    assert len(set(derived)) == len(derived)


def globals_of(source: str) -> set[str]:
    """Names that a module binds at its top level, or as `global` in its functions."""
    tree = ast.parse(source)
    statements = [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    nodes = [node for statement in statements for node in ast.walk(statement)]
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return bound | {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def test_no_module_keeps_a_base_seed():
    """It is an argument, or a field of the workload."""
    assert globals_of("A: int = 0\nif A:\n    B = 1\ndef f():\n    global C\n    D = 1") == {"A", "B", "C"}
    kept = {name.lower() for source in SOURCES for name in globals_of(source.read_text())}
    assert "momenta" in kept  # of suite/experiments/ball.py: globals are recognised
    assert not {name for name in kept if name == "seed" or "base_seed" in name}


STREAMS = {
    f"seeds.{name}" for name, value in vars(seeds).items() if getattr(value, "__module__", "") == seeds.__name__
}
"""The functions and classes of `suite.seeds`, as modules call them."""


def unseeded_streams(source: Path) -> list[str]:
    """First names of the streams that a module derives without a base seed."""
    calls = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)]
    streams = [call for call in calls if ast.unparse(call.func) in STREAMS]
    unseeded = [call for call in streams if "base_seed" not in {keyword.arg for keyword in call.keywords}]
    return [ast.literal_eval(call.args[0]) for call in unseeded]


def test_every_stream_of_a_measurement_is_derived_from_the_base_seed():
    assert {"seeds.derive", "seeds.generator", "seeds.torch_seeded", "seeds.TorchStream"} <= STREAMS
    unseeded = {name for source in SOURCES for name in unseeded_streams(source)}
    assert unseeded == UNSEEDED
