"""What momentum saves: from made-up trainings whose updates to the target are known."""

import numpy as np
import pandas as pd
import pytest

from suite.claims import momentum_speed_up
from suite.claims.momentum_speed_up import PLAIN, WITH, protocols
from suite.statistics import critical_batch
from suite.timings import UPDATE_TIME
from suite.training.tuning import FINAL, TRIAL, TUNED_TRAINING
from tests.claims.evidence import FACTS, evidence, timings


def trained(which: str, updates: dict[int, list[float]], status: str = "ok") -> pd.DataFrame:
    """Two looks at each seed whose log losses cross that of the target, 0.5, after so many updates; and a trial."""
    lines = [
        {"batch_size": size, "seed": seed, "stage": stage, "status": status, "learning_rate": 0.1}
        | {"updates": made, "epoch": made, "train_loss": loss, "test_score": 0.9}
        for size, of_size in updates.items()
        for seed, crossing in enumerate(of_size)
        for stage, factor in ((FINAL, 1), (TRIAL, 7))
        for made, loss in ((factor * (crossing - 1), 1.0), (factor * (crossing + 1), 0.25))
    ]
    protocol = protocols(FACTS)[which].key
    return pd.DataFrame(lines).assign(measurement=TUNED_TRAINING.name, protocol=protocol)


def both(plain: dict, momentum: dict, **fields):
    return evidence(trained(PLAIN, plain), trained(WITH, momentum, **fields))


def test_the_effect_is_the_geometric_mean_of_what_each_seed_saves():
    found = both({1: [100, 110], 16: [40, 90]}, {1: [100, 110], 16: [10, 10]})
    (large,) = momentum_speed_up.judge(found)
    assert large.effect == pytest.approx(6)
    assert (large.value_small, large.value_large) == pytest.approx((60, 10))
    assert momentum_speed_up.speed_ups(found)[1].estimate == pytest.approx(1)


def test_it_fails_where_momentum_takes_more_updates():
    found = both({16: [10, 11, 10]}, {16: [40, 45, 42]})
    assert momentum_speed_up.judge(found)[0].verdict == "fails"


def test_a_target_not_reached_leaves_no_verdict():
    found = both({16: [10, 11]}, {16: [40, 45]}, status="target_not_reached")
    row = momentum_speed_up.judge(found)[0]
    assert (row.status, row.verdict) == ("target_not_reached", "")
    assert row.flags == "2 of 2 seeds with momentum: target not reached"


def test_few_seeds_that_only_momentum_gets_there_are_left_out():
    plain, momentum = trained(PLAIN, {16: [40] * 9 + [42, 500]}), trained(WITH, {16: [10] * 10 + [12]})
    plain.loc[plain["seed"] == 10, "status"] = "target_not_reached"
    (row,) = momentum_speed_up.judge(evidence(plain, momentum))
    assert row.verdict == "holds"
    assert row.seeds == 10
    assert row.effect == pytest.approx(4, rel=0.01)
    assert row.flags == "1 of 11 seeds without momentum: target not reached, left out"


def test_times_without_trainings_draw_no_times_and_an_empty_figure():
    """As after a run that was killed between asv and the trainings."""
    found = evidence(
        timings(UPDATE_TIME.name, "cpu", "resident", {1: [0.1, 0.2], 16: [0.3, 0.4]}).assign(protocol="")
    )
    assert momentum_speed_up.judge(found)[0].status == "unavailable"
    assert momentum_speed_up.draw(found).axes[0].get_legend() is None
    assert momentum_speed_up.draw_times(found) is None
    assert momentum_speed_up.numbers(found).empty


@pytest.mark.parametrize(("least", "critical"), [(17, 84), (3, 1.5), (100, 5000)])
def test_the_critical_batch_of_a_hyperbola(least, critical):
    sizes = np.array([1, 4, 16, 64, 256, 1024])
    assert critical_batch(sizes, least * (1 + critical / sizes)) == pytest.approx((least, critical), rel=1e-4)
