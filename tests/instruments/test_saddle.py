import numpy as np
import pytest

from suite.instruments import updates_to_leave


@pytest.mark.parametrize(("momentum", "updates"), [(0.0, 349), (0.9, 72)])
def test_the_closed_form_of_the_saddle(momentum, updates):
    assert np.ceil(updates_to_leave(0.01, momentum, -2.0, 1e-6, 1e-3)) == updates
