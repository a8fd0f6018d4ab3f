import ast
import hashlib
from pathlib import Path

import pytest
import torch

import suite
from suite import seeds

SOURCES = sorted(Path(suite.__file__).parent.rglob("*.py"))
OF_NO_MEASUREMENT = {"fingerprint", "lanczos", "trial", "twenty"}
"""Streams that are the same for every base seed: what identifies a workload, where an eigenvalue is sought from,
whether an ensemble can be tried, and data."""


def test_a_seed_is_the_sha256_of_the_base_seed_and_the_names():
    digest = hashlib.sha256(b"0/shuffle/8/3").digest()
    assert seeds.derive("shuffle", 8, 3) == int.from_bytes(digest[:8], "big") >> 1


def test_a_stream_does_not_depend_on_other_streams():
    alone = torch.rand(3, generator=seeds.generator("a"))
    torch.rand(100, generator=seeds.generator("b"))
    assert torch.equal(torch.rand(3, generator=seeds.generator("a")), alone)


def test_different_names_give_different_streams():
    assert len({seeds.derive("split", replica) for replica in range(1000)}) == 1000


def test_torchs_own_generator_runs_a_stream_and_is_then_as_it_was():
    torch.manual_seed(3)
    undisturbed = torch.rand(2)
    torch.manual_seed(3)
    with seeds.torch_seeded("a"):
        inside = torch.rand(3)
    assert torch.equal(inside, torch.rand(3, generator=seeds.generator("a")))
    assert torch.equal(torch.rand(2), undisturbed)


def test_the_base_seed_is_a_part_of_every_stream():
    digest = hashlib.sha256(b"7/shuffle/8/3").digest()
    assert seeds.derive("shuffle", 8, 3, base_seed=7) == int.from_bytes(digest[:8], "big") >> 1
    assert seeds.derive("shuffle", base_seed=0) == seeds.derive("shuffle")


def drawn_by_generator(base_seed: int) -> torch.Tensor:
    return torch.rand(3, generator=seeds.generator("a", base_seed=base_seed))


def drawn_inside(base_seed: int) -> torch.Tensor:
    with seeds.torch_seeded("a", base_seed=base_seed):
        return torch.rand(3)


def drawn_in_two_parts(base_seed: int) -> torch.Tensor:
    stream = seeds.TorchStream("a", base_seed=base_seed)
    with stream.running():
        first = torch.rand(1)
    with stream.running():
        return torch.cat([first, torch.rand(2)])


@pytest.mark.parametrize("drawn", [drawn_by_generator, drawn_inside, drawn_in_two_parts])
def test_each_base_seed_has_its_own_streams(drawn):
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_two_base_seeds_share_no_stream():
    derived = [
        seeds.derive(name, replica, base_seed=base_seed)
        for base_seed in range(10)
        for name in ("split", "shuffle")
        for replica in range(50)
    ]
    assert len(set(derived)) == len(derived)


def globals_of(source: str) -> set[str]:
    """Names that a module binds outside its functions and classes, or that its functions set in it."""
    tree = ast.parse(source)
    outside = [one for one in tree.body if not isinstance(one, (ast.FunctionDef, ast.ClassDef))]
    nodes = [node for statement in outside for node in ast.walk(statement)]
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return bound | {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def test_no_module_keeps_a_base_seed():
    """It is an argument, or a workload's."""
    assert globals_of("A: int = 0\nif A:\n    B = 1\ndef f():\n    global C\n    D = 1") == {"A", "B", "C"}
    kept = {name.lower() for source in SOURCES for name in globals_of(source.read_text())}
    assert "momenta" in kept  # of suite/instruments/escape.py: globals are found
    assert not {name for name in kept if name == "seed" or "base_seed" in name}


def streams_of_no_base_seed(source: Path) -> list[str]:
    """The first names of the streams that a module takes from `suite.seeds` without a base seed."""
    calls = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)]
    taken = [call for call in calls if ast.unparse(call.func).startswith("seeds.")]
    without = [call for call in taken if "base_seed" not in {keyword.arg for keyword in call.keywords}]
    return [ast.literal_eval(call.args[0]) for call in without]


def test_every_stream_of_a_measurement_is_derived_from_the_base_seed():
    found = {name for source in SOURCES for name in streams_of_no_base_seed(source)}
    assert found == OF_NO_MEASUREMENT
