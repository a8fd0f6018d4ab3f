"""The cells, rows and sentences of a workload that names its own optimizer."""

import pandas as pd
import pytest
import torch

from suite.claims import all_claims, find, momentum_speed_up, momentum_sum
from suite.evidence import Evidence, Facts
from suite.experiments.cell import Cell, Scope
from suite.experiments.edge_of_stability import EDGE_OF_STABILITY
from suite.experiments.tuned_training import FINAL, TUNED_TRAINING
from suite.optimizers import Optimizer, adam, adamw, sgd
from suite.studies import factorial, factorial_views, studies_of
from suite.training.learning_rate import AdamSde, ConstantHalfLife
from suite.training.momentum_pair import WITH, WITHOUT
from suite.workloads import Workload
from tests.conftest import blobs, tiny

SCOPE = Scope(
    (1, 4, 16),
    (1, 4, 16),
    training_batch_sizes=(1, 4, 16),
    seeds=3,
    processes=2,
    backends=("sequential", "cpu"),
    training_backend="cpu",
    factorial=True,
)
ADAMW = adamw()
ADAMW_WITHOUT = adamw(betas=(0.0, 0.999))
ADADELTA = Optimizer.of(torch.optim.Adadelta)
GROUPED = adamw(betas=(0.8, 0.99), weight_decay=0.1).group("*.bias", betas=(0.8, 0.9), weight_decay=0.0)
ON_MOMENTUM = ("momentum_sum", "momentum_speed_up")
TOYS = {"twenty", "ravine", "saddle", "ball"}


def planned(workload: Workload, claim: str) -> list[Cell]:
    """The cells of the claim and of the studies under its row."""
    if find(claim).unfit(workload):
        return []
    return [cell for plugin in (find(claim), *studies_of(claim)) for cell in plugin.cells(workload, SCOPE)]


def trainings(workload: Workload, claim: str) -> list[Cell]:
    """The cells of the workload itself, not of a toy, that train; the edge of stability is a theory of SGD."""
    cells = [cell for cell in planned(workload, claim) if cell.workload == workload.name]
    return [cell for cell in cells if not cell.measurement.timed and cell.measurement is not EDGE_OF_STABILITY]


def optimizers(cells: list[Cell]) -> set[Optimizer]:
    return {cell.protocol.optimizer for cell in cells}


CLAIMS = [claim.name for claim in all_claims()]


@pytest.mark.parametrize("optimizer", [ADAMW, GROUPED, ADADELTA, sgd(momentum=0.9, nesterov=True)], ids=str)
@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim not in ON_MOMENTUM])
def test_every_training_uses_the_workloads_optimizer(claim, optimizer):
    assert optimizers(trainings(tiny(optimizer=optimizer), claim)) <= {optimizer}


@pytest.mark.parametrize("claim", ["gradient", "optimization", "generalization", "sharpness", *ON_MOMENTUM])
def test_there_are_trainings_of_every_claim_on_the_workload(claim):
    assert trainings(tiny(optimizer=ADAMW), claim)


@pytest.mark.parametrize("claim", ON_MOMENTUM)
def test_momentum_is_left_out_by_a_beta1_of_zero(claim):
    assert optimizers(trainings(tiny(optimizer=ADAMW), claim)) == {ADAMW, ADAMW_WITHOUT}


@pytest.mark.parametrize("claim", ON_MOMENTUM)
def test_an_optimizer_without_momentum_gets_that_of_the_lecture(claim):
    assert optimizers(trainings(tiny(optimizer=ADAMW_WITHOUT), claim)) == {ADAMW, ADAMW_WITHOUT}
    assert optimizers(trainings(tiny(), claim)) == {sgd(), sgd(momentum=0.9)}


@pytest.mark.parametrize("claim", ON_MOMENTUM)
def test_momentum_is_left_out_in_every_parameter_group(claim):
    without = adamw(betas=(0.0, 0.99), weight_decay=0.1).group("*.bias", betas=(0.0, 0.9), weight_decay=0.0)
    assert optimizers(trainings(tiny(optimizer=GROUPED), claim)) == {GROUPED, without}


@pytest.mark.parametrize("optimizer", [ADAMW, GROUPED, ADADELTA, sgd(momentum=0.9)], ids=str)
def test_every_timing_steps_with_the_workloads_optimizer(optimizer):
    cells = [cell for claim in CLAIMS for cell in planned(tiny(optimizer=optimizer), claim)]
    timings = [cell for cell in cells if cell.measurement.timed]
    assert timings
    assert {cell.optimizer for cell in timings} == {optimizer}
    assert {cell.optimizer for cell in cells if not cell.measurement.timed} == {None}


def test_the_toys_are_trained_with_sgd_whatever_the_workload_is_trained_with():
    for claim in CLAIMS:
        of_adamw, of_sgd = (
            [cell for cell in planned(tiny(optimizer=optimizer), claim) if cell.workload in TOYS]
            for optimizer in (ADAMW, sgd())
        )
        assert of_adamw == of_sgd
        assert {cell.protocol.optimizer.name for cell in of_adamw} <= {"sgd"}


def test_where_momentum_is_unknown_only_the_claims_on_it_are_left_out():
    assert [claim for claim in CLAIMS if not planned(tiny(optimizer=ADADELTA), claim)] == list(ON_MOMENTUM)
    assert find("momentum_sum").unfit(tiny(optimizer=ADADELTA)) == (
        "the suite does not know what momentum is in Adadelta"
    )
    assert "groups have different momenta" in find("momentum_sum").unfit(
        tiny(optimizer=adamw().group("*.bias", betas=(0.5, 0.9)))
    )


def test_the_critical_batch_size_is_measured_where_momentum_is_unknown_too():
    cells = find("noise_scale").cells(tiny(optimizer=ADADELTA), SCOPE)
    assert {cell.measurement.name for cell in cells} == {"noise_scale", "tuned_training"}


@pytest.mark.parametrize(
    ("optimizer", "combinations"),
    [
        (sgd(), 15),
        (sgd(momentum=0.9), 15),
        (ADADELTA, 15),
        (Optimizer.of(torch.optim.NAdam, betas=(0.9, 0.99)), 15),
        (adam(), 21),
        (ADAMW, 21),
        (GROUPED, 21),
    ],
    ids=str,
)
def test_rate_rules_that_change_betas_are_crossed_with_budgets_where_the_betas_are_known(optimizer, combinations):
    workload = tiny(optimizer=optimizer)
    assert len(factorial.protocols(workload)) == combinations
    assert factorial.protocols(Facts.of(workload, blobs())) == factorial.protocols(workload)
    cells = factorial.cells(workload, SCOPE)
    assert len({(cell.protocol.key, cell.batch_size) for cell in cells}) == len(cells) == 2 * combinations


def test_the_rules_that_change_betas_give_each_batch_size_its_own():
    """At 16, four times the middle batch size: 1 - beta times 4 by one rule, beta2 to the power of 4 by the other."""
    protocols = factorial.protocols(tiny(optimizer=ADAMW)).values()
    rules = {type(protocol.rate_rule): protocol for protocol in protocols}
    assert rules[AdamSde].optimizer_at(4) == rules[ConstantHalfLife].optimizer_at(4) == ADAMW
    assert rules[AdamSde].optimizer_at(16).get("betas") == pytest.approx((0.6, 0.996))
    assert rules[AdamSde].optimizer_at(16).get("eps") == pytest.approx(5e-9)
    assert rules[ConstantHalfLife].optimizer_at(16).get("betas") == pytest.approx((0.9, 0.999**4))


def test_the_page_states_the_least_beta2_of_the_rules_that_change_betas():
    text = factorial_views.rules_in_words(Facts.of(tiny(optimizer=ADAMW), blobs()))
    assert "AdamW's betas" in text
    assert "neither lowers β2 below 0.9." in text
    low = factorial_views.rules_in_words(Facts.of(tiny(optimizer=adam(betas=(0.9, 0.85))), blobs()))
    assert "neither lowers β2 below 0.85." in low
    assert "beta" not in factorial_views.rules_in_words(Facts.of(tiny(), blobs()))


def reaching(facts: Facts, name: str, updates: float) -> pd.DataFrame:
    """Six seeds at Large that cross the target of 0.5 after `updates`, in the median."""
    lines = [
        {"seed": seed, "updates": made, "epoch": made, "train_loss": loss, "test_score": 0.9}
        for seed, crossing in enumerate((updates / 1.1, *[updates] * 4, updates * 1.1))
        for made, loss in ((crossing - 1, 1.0), (crossing + 1, 0.25))
    ]
    protocol = momentum_speed_up.protocols(facts)[name]
    return pd.DataFrame(lines).assign(
        batch_size=16,
        protocol=protocol.key,
        learning_rate=protocol.learning_rate,
        stage=FINAL,
        status="ok",
        measurement=TUNED_TRAINING.name,
        backend="cpu",
    )


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (ADAMW, "AdamW needs 40.0 updates without momentum and 10.0 with β1 = 0.9"),
        (sgd(momentum=0.8), "SGD needs 40.0 updates without momentum and 10.0 with λ = 0.8"),
    ],
    ids=str,
)
def test_the_updates_that_momentum_saves_are_those_of_the_workloads_optimizer(optimizer, words):
    facts = Facts.of(tiny(optimizer=optimizer), blobs())
    frames = [reaching(facts, WITHOUT, 40), reaching(facts, WITH, 10)]
    findings = momentum_speed_up.analyse(Evidence.from_frames(facts, frames))
    row, _ = momentum_speed_up.judge(findings)
    assert row.verdict == "holds"
    assert (row.value_small, row.value_large) == pytest.approx((40, 10))
    assert str(row.protocol).startswith(str(optimizer))
    assert words in momentum_speed_up.answer(findings)
    assert ("curvature" in momentum_speed_up.explain(findings)) == (optimizer.name == "sgd")


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [
        (sgd(), {WITHOUT: 0.1, WITH: 0.01}),
        (sgd(momentum=0.8), {WITHOUT: 0.5, WITH: 0.1}),
        (ADAMW, {WITHOUT: 0.1, WITH: 0.1}),
        (ADAMW_WITHOUT, {WITHOUT: 0.1, WITH: 0.1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("claim", [momentum_sum, momentum_speed_up], ids=lambda claim: claim.__name__)
def test_rates_with_and_without_momentum_go_equally_far(claim, optimizer, rates):
    protocols = claim.protocols(tiny(optimizer=optimizer))
    assert {name: protocol.learning_rate for name, protocol in protocols.items()} == pytest.approx(rates)


@pytest.mark.parametrize("claim", [momentum_sum, momentum_speed_up], ids=lambda claim: claim.__name__)
def test_rates_of_dampened_momentum_go_equally_far_too(claim):
    protocols = claim.protocols(tiny(optimizer=sgd(momentum=0.8, dampening=0.5)))
    distances = [protocol.learning_rate * protocol.optimizer.momentum_gain for protocol in protocols.values()]
    assert distances == pytest.approx([0.25, 0.25])


def movements(optimizer: Optimizer) -> momentum_sum.Findings:
    """The updates of a training with `optimizer`, recorded."""
    workload = tiny(optimizer=optimizer, learning_rate=0.01, learning_rates=(0.01, 0.03))
    cells = momentum_sum.cells(workload, SCOPE)
    frames = [cell.measurement.measure(workload, blobs(), cell).assign(**cell.describe()) for cell in cells]
    return momentum_sum.analyse(Evidence.from_frames(Facts.of(workload, blobs()), frames))


@pytest.fixture(scope="module")
def movements_of_adamw():
    return movements(ADAMW)


def test_movements_of_adamw_are_the_weighted_sum(movements_of_adamw):
    (row,) = momentum_sum.judge(movements_of_adamw)
    assert (row.verdict, row.effect_text) == ("checked", "equal to the weighted sum to within rounding")
    assert str(row.protocol).startswith("AdamW, fixed rate 0.01")


def test_the_sentences_on_the_movement_are_those_of_adamw(movements_of_adamw):
    text = f"{momentum_sum.answer(movements_of_adamw)} {momentum_sum.explain(movements_of_adamw)}"
    assert (
        "all gradients so far (before AdamW divides each coordinate by its root mean square gradient), up to" in text
    )
    assert "β1 = 0.9" in text
    assert "corrected for the scale and bias of the average" in text
    assert "Weight decay shrinks the parameters directly and is not part of the movement." in text
    assert "SGD" not in text


def test_the_parts_of_an_optimizer_that_are_not_the_lectures_are_named():
    text = momentum_sum.explain(movements(sgd(momentum=0.8, nesterov=True, weight_decay=0.1)))
    assert "The dampening or Nesterov momentum of tiny's own optimizer was left out." in text
    assert "Weight decay counts as part of each gradient." in text
