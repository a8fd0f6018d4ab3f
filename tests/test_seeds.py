import hashlib

import torch

from suite import seeds


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
