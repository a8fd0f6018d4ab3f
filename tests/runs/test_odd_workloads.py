"""Workloads that are unusual and right: they are measured, and the page says what cannot be said of them."""

from pathlib import Path

import pandas as pd
import pytest

from tests.command import call_here

LIKELIHOOD = '''
import torch
from torch import nn

from suite.workloads import Data, Workload


def load():
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(80, 4, generator=draw)
    targets = inputs.sum(dim=1) + 0.05 * torch.randn(80, generator=draw)
    return Data(inputs[:64], targets[:64], inputs[64:], targets[64:])


class Model(nn.Module):
    """Mean and log standard deviation, [B, 2]."""

    def __init__(self):
        super().__init__()
        self.mean, self.log_sigma = nn.Linear(4, 1), nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        mean = self.mean(inputs)
        return torch.cat([mean, self.log_sigma.expand_as(mean)], dim=1)


def loss(outputs, targets):
    mean, log_sigma = outputs.unbind(dim=1)
    return 0.5 * ((targets - mean) / log_sigma.exp()).square() + log_sigma


workload = Workload(
    name="likelihood",
    about="A linear mean and one standard deviation, by maximum likelihood.",
    load=load,
    model=Model,
    loss=loss,
    score=lambda outputs, targets: -(outputs[:, 0] - targets).abs(),
    score_name="minus absolute error",
    batch_sizes=(1, 4, 16, 64),
    small=4,
    large=64,
    learning_rate=0.02,
    learning_rates=(0.01, 0.02),
    epochs=20,
    target_loss=0.5,
    max_updates=2000,
)
'''


def table_of(source: str, folder: Path, *names: str) -> pd.DataFrame:
    """The first row of each claim, run and reported."""
    path = folder / "workload.py"
    path.write_text(source)
    claims = [word for claim in names for word in ("--claim", claim)]
    options = ("--preset", "quick", "--seeds", 2, "--workers", 1)
    done = call_here("run", path, *options, *claims, "--results", folder / "results")
    assert done.returncode == 0, done.stderr
    done = call_here("report", "--results", folder / "results")
    assert (done.returncode, done.stderr) == (0, "")
    rows = pd.read_csv(folder / "results" / "report" / "table.csv")
    return rows.drop_duplicates("claim").set_index("claim")


@pytest.fixture(scope="module")
def likelihood(tmp_path_factory):
    folder = tmp_path_factory.mktemp("likelihood")
    return table_of(LIKELIHOOD, folder, "gradient", "optimization", "generalization", "sharpness")


@pytest.mark.xdist_group("likelihood")
def test_losses_of_both_signs_have_no_ratio(likelihood):
    """At the optimum the loss is 0.5 + log(0.05) = -2.5: Small ends below zero."""
    assert likelihood.loc["optimization", "status"] == "loss_not_positive"
    assert "at batch size 4: loss not positive" in likelihood.loc["optimization", "flags"]
    assert pd.isna(likelihood.loc["optimization", "effect"])


@pytest.mark.xdist_group("likelihood")
def test_rows_that_need_no_ratio_of_losses_of_both_signs_have_a_value(likelihood):
    assert (likelihood.loc[["gradient", "generalization", "sharpness"], "status"] == "ok").all()
    assert likelihood.loc["generalization", ["value_small", "value_large"]].between(-1, 0).all()


def test_one_full_batch_beside_another_batch_size_has_no_noise_to_compare(tmp_path):
    source = LIKELIHOOD.replace("batch_sizes=(1, 4, 16, 64)", "batch_sizes=(4, 64)")
    row = table_of(source, tmp_path, "gradient").loc["gradient"]
    assert (row["status"], row["flags"]) == (
        "unavailable",
        "fewer than two batch sizes below the full batch have a value",
    )
