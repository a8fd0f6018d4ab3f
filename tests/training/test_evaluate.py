"""Evaluation: in parts that fit into memory, and summed in the widest float."""

import pytest
import torch
from torch import nn

from suite.training.ensemble import Ensemble
from suite.training.evaluate import evaluate
from suite.workloads import Data
from suite.workloads.chunks import CHUNK_VALUES
from tests.conftest import tiny

WIDE = 2**12
EXAMPLES = 1000


class Wide(nn.Module):
    """Few inputs and many outputs, as of a language model; notes the largest batch."""

    largest = 0

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        Wide.largest = max(Wide.largest, len(inputs))
        return self.scale * inputs.repeat(1, WIDE)


@pytest.fixture
def wide():
    inputs = torch.linspace(0, 1, EXAMPLES)[:, None]
    per_example = lambda outputs, targets: outputs.mean(dim=1)  # noqa: E731
    targets = torch.zeros(EXAMPLES)
    workload = tiny(
        load=lambda: Data(inputs, targets, inputs, targets), model=Wide, loss=per_example, score=per_example
    )
    Wide.largest = 0
    return workload, inputs, targets


def test_a_model_with_many_outputs_is_evaluated_in_parts_of_as_many_values(wide):
    workload, inputs, targets = wide
    loss, score = evaluate(workload, Wide(), inputs, targets)
    assert loss == score == pytest.approx(0.5)
    assert 1 < Wide.largest <= CHUNK_VALUES // WIDE


def test_an_ensemble_of_a_model_with_many_outputs_is_evaluated_in_parts(wide):
    workload, inputs, targets = wide
    ensemble = Ensemble(workload, [0, 1], 0.1)
    Wide.largest = 0
    values = ensemble.losses_and_scores(inputs, targets, pass_values=CHUNK_VALUES)
    assert values.shape == (2, 2, EXAMPLES)
    assert 1 < Wide.largest <= CHUNK_VALUES // WIDE // 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mean_of_half_precision_losses_is_that_of_double(dtype):
    """Their sum is above 65,504, the largest number of float16, and bfloat16 has three digits."""
    losses = torch.linspace(50, 150, EXAMPLES).to(dtype)
    workload = tiny(loss=lambda _, targets: targets, score=lambda _, targets: -targets)
    loss, score = evaluate(workload, workload.initial_model(0), torch.zeros(EXAMPLES, 4), losses)
    assert loss == -score == pytest.approx(float(losses.double().mean()), rel=1e-12)
