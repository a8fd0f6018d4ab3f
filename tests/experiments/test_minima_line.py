import math

import numpy as np
import torch
from torch import nn

from suite.backends import CPU
from suite.experiments.cell import Cell
from suite.experiments.minima_line import LINE, line, measure
from suite.training.annealing import Annealing, mean_loss
from suite.training.engine import Engine
from suite.training.evaluate import evaluate
from suite.training.learning_rate import Tuned
from suite.training.tuning import best_rate
from tests.conftest import blobs, tiny
from tests.instruments.test_minima_line import normed
from tests.training.test_annealing import annealed_protocol

WORKLOAD = tiny(fitted_loss=0.3)
PROTOCOL = annealed_protocol(WORKLOAD, Tuned(factor=2, each_way=1, growths=1, seeds=2))


def test_of_a_linear_model_under_squared_loss_the_line_is_a_parabola():
    """Its three coefficients follow from three places; all others lie on it."""
    workload = tiny(
        model=lambda: nn.Linear(4, 1),
        loss=lambda outputs, targets: (outputs[:, 0] - targets).square(),
        score=lambda outputs, targets: outputs[:, 0],
    )
    rows = line(workload, blobs(), workload.initial_model(1), workload.initial_model(2))
    for column in ("train_loss", "test_loss"):
        parabola = np.polyfit(rows["place"][::8], rows[column][::8], 2)
        np.testing.assert_allclose(rows[column], np.polyval(parabola, rows["place"]), rtol=1e-4)
        assert parabola[0] > 0
    for column in ("train_score", "test_score"):
        straight = np.polyfit(rows["place"][[0, 24]], rows[column][[0, 24]], 1)
        np.testing.assert_allclose(rows[column], np.polyval(straight, rows["place"]), atol=1e-5)


def test_the_line_goes_from_the_solution_of_the_first_batch_size_to_that_of_the_second():
    rows = measure(WORKLOAD, blobs(), Cell(LINE, "tiny", "cpu", 16, 2, PROTOCOL, compared_with=1))
    assert set(rows["status"]) == {"ok"}
    for batch_size, place in ((1, 0.0), (16, 1.0)):
        annealing = Annealing.of(WORKLOAD, blobs(), PROTOCOL, batch_size, Engine(CPU))
        rate = best_rate(annealing.trials())
        *_, (_, ends) = annealing.models(rate, range(2))
        assert mean_loss(ends) <= 0.3
        for replica, end in ends.iterrows():
            of_replica = rows[rows["seed"] == replica].set_index("place")
            for column in ("train_loss", "test_loss", "train_score", "test_score"):
                assert math.isclose(of_replica[column][place], end[column], rel_tol=1e-4)


def test_where_no_length_fits_there_is_no_line():
    short = annealed_protocol(WORKLOAD, PROTOCOL.rate_rule, max_updates=20)
    rows = measure(WORKLOAD, blobs(), Cell(LINE, "tiny", "cpu", 16, 2, short, compared_with=1))
    assert rows["status"].tolist() == ["target_not_reached"] * 2
    assert "train_loss" not in rows


def test_batch_norm_has_the_statistics_of_its_inputs_at_each_place():
    """At each place the hidden units have the mean and the variance there: by hand."""
    workload, data = tiny(model=normed), blobs()
    start, end = workload.initial_model(1), workload.initial_model(2)
    rows = line(workload, data, start, end)
    for place in (-1.0, 0.5, 2.0):
        model = workload.initial_model(0)
        with torch.no_grad():
            for value, first, last in zip(*(each.parameters() for each in (model, start, end)), strict=True):
                value.copy_((1 - place) * first + place * last)
            hidden = model[0](data.train_inputs)
        model[1].running_mean, model[1].running_var = hidden.mean(dim=0), hidden.var(dim=0)
        expected = evaluate(workload, model, data.train_inputs, data.train_targets)[0]
        assert math.isclose(rows.set_index("place")["train_loss"][place], expected, rel_tol=1e-4)


def test_each_base_seed_drops_its_own_units_where_statistics_are_recomputed():
    """The same model at both ends, with dropout before batch norm: only the random numbers differ."""

    def test_losses(base_seed: int) -> list[float]:
        workload = tiny(base_seed=base_seed)
        model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4))
        return line(workload, blobs(), model, model)["test_loss"].tolist()

    assert test_losses(1) == test_losses(1)
    assert test_losses(1) != test_losses(2)
    assert len({round(loss, 5) for loss in test_losses(1)}) == 1
