import pytest

from benchmarks.gate.planted import PLANTED
from tests.command import ROOT


@pytest.mark.parametrize("name", sorted(set(PLANTED) - {"nothing"}))
def test_the_text_to_be_replaced_occurs_exactly_once(name):
    planted = PLANTED[name]
    assert (ROOT / planted.file).read_text().count(planted.old) == 1
    assert planted.new != planted.old
