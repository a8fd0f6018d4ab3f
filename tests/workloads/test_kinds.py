"""Workloads other than classifiers of vectors."""

import pytest
import torch
from torch import nn

from suite.experiments.cell import NO_BATCH_SIZE, Cell
from suite.experiments.gradient_noise import GRADIENT_VARIANCE, measure_variance
from suite.experiments.training import TRAINING, measure
from suite.training.budgets import EqualEpochs, TenthOfTraining
from suite.training.protocol import Protocol
from suite.workloads import Data, find
from suite.workloads.check import load_checked
from tests.conftest import tiny

TOKENS, LENGTH = 7, 5


class Transformer(nn.Module):
    """Tokens [B, 5] to logits of the next token at each position [B, 5, 7]."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 8)
        self.layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, TOKENS)

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH, device=tokens.device)
        return self.head(self.layer(self.embedding(tokens), src_mask=mask))


def counting() -> Data:
    """Sequences that count up modulo 7; each target is the next number."""
    start = torch.arange(60)[:, None] * 3
    inputs = (start + torch.arange(LENGTH)) % TOKENS
    return Data(inputs[:40], (inputs[:40] + 1) % TOKENS, inputs[40:], (inputs[40:] + 1) % TOKENS)


def token_loss(outputs, targets):
    return nn.functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(dim=1)


def token_accuracy(outputs, targets):
    return (outputs.argmax(dim=2) == targets).float().mean(dim=1)


SEQUENCES = tiny(name="sequences", load=counting, model=Transformer, loss=token_loss, score=token_accuracy)


@pytest.mark.parametrize("workload", [SEQUENCES, find("twenty")], ids=["transformer", "regression"])
def test_it_can_be_checked_trained_and_its_gradient_variance_measured(workload):
    data = load_checked(workload)
    trained = measure(workload, data, Cell(TRAINING, workload.name, "cpu", 4, 2, Protocol(0.1, EqualEpochs(3))))
    assert set(trained["status"]) == {"ok"}
    last = trained.groupby("seed")["train_loss"].last()
    assert (last < trained.groupby("seed")["train_loss"].first()).all()
    protocol = Protocol(0.1, TenthOfTraining(3, 4))
    noise = measure_variance(workload, data, Cell(GRADIENT_VARIANCE, "w", "cpu", NO_BATCH_SIZE, 1, protocol))
    assert (noise["variance"] > 0).all()
