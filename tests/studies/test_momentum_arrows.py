"""The lecture's arrows: recorded on the ravine."""

import numpy as np
import pandas as pd
import pytest

from suite.evidence import Evidence
from suite.studies import momentum_arrows
from suite.studies.momentum_arrows import UPDATES, analyse, ravine
from suite.training.momentum_pair import LAMBDA, WITH, WITHOUT
from tests.claims.test_momentum import FACTS, SCOPE, described
from tests.conftest import tiny

CELLS = momentum_arrows.cells(tiny(), SCOPE)


@pytest.fixture(scope="module")
def findings():
    data = ravine.load()
    frames = [described(cell, cell.measurement.measure(ravine, data, cell)) for cell in CELLS]
    return analyse(Evidence.from_frames(FACTS, frames))


@pytest.mark.parametrize("name", [WITHOUT, WITH])
def test_both_arrows_of_an_update_lead_to_the_next_point(findings, name):
    arrows = findings.arrows[name]
    points = np.column_stack([arrows.path.first, arrows.path.second])
    assert len(points) == UPDATES + 1
    ends = points[:-1] + np.array(arrows.kept_movements) + np.array(arrows.gradient_steps)
    assert ends == pytest.approx(points[1:], abs=1e-5)


def test_only_momentum_keeps_a_part_of_the_last_movement(findings):
    path = findings.arrows[WITH].path
    movements = np.diff(np.column_stack([path.first, path.second]), axis=0)
    assert np.array(findings.arrows[WITH].kept_movements)[1:] == pytest.approx(LAMBDA * movements[:-1])
    assert not np.any(findings.arrows[WITHOUT].kept_movements)


def test_both_panels_are_drawn_on_the_surface(findings):
    panels = momentum_arrows.figure(findings).axes
    assert [axes.get_title() for axes in panels] == ["without momentum", "with momentum"]


def test_paths_that_were_not_measured_have_no_figure():
    rows = [pd.DataFrame([{**cell.describe(), "status": "unavailable", "reason": "no"}]) for cell in CELLS]
    assert momentum_arrows.figure(analyse(Evidence.from_frames(FACTS, rows))) is None
