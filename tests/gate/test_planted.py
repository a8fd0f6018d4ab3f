import pytest

from benchmarks.gate.planted import PLANTED
from tests.command import ROOT


@pytest.mark.parametrize("name", sorted(set(PLANTED) - {"nothing"}))
def test_what_is_to_be_planted_still_finds_its_place(name):
    planted = PLANTED[name]
    assert (ROOT / planted.file).read_text().count(planted.old) == 1
    assert planted.new != planted.old
