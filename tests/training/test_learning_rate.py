"""Adam's hyperparameters as functions of the batch size."""

import math

import pytest
import torch

from suite.optimizers import adam, adamw
from suite.training.learning_rate import LEAST_BETA2, AdamSde, ConstantHalfLife
from tests.conftest import network

REFERENCE = 64
SDE, HALF_LIFE = AdamSde(REFERENCE), ConstantHalfLife(REFERENCE)
RULES = (SDE, HALF_LIFE)
TOKENS = 1024
"""Tokens of a sequence."""


def half_life(beta2: float, batch_size: int) -> float:
    """Examples after which the weight of a squared gradient in Adam's average has halved."""
    return batch_size * math.log(1 / 2) / math.log(beta2)


@pytest.mark.parametrize("k", [1 / 16, 1 / 4, 1, 2, 4])
def test_the_sde_rule_scales_by_powers_of_the_batch_size(k):
    """Malladi et al. 2022, definition 5.2."""
    batch_size = round(k * REFERENCE)
    scaled = SDE.optimizer(adam(betas=(0.9, 0.99), eps=1e-6), batch_size)
    beta1, beta2 = scaled.get("betas")
    assert SDE.rate(0.01, batch_size, updates=7, updates_per_epoch=3) == pytest.approx(math.sqrt(k) * 0.01)
    assert 1 - beta1 == pytest.approx(k * (1 - 0.9))
    assert 1 - beta2 == pytest.approx(k * (1 - 0.99))
    assert scaled.get("eps") == pytest.approx(1e-6 / math.sqrt(k))


def test_the_sde_rule_for_four_times_the_batch_size():
    assert SDE.rate(0.01, 4 * REFERENCE, updates=0, updates_per_epoch=1) == pytest.approx(0.02)
    scaled = SDE.optimizer(adamw(), 4 * REFERENCE)
    assert scaled.get("betas") == pytest.approx((0.6, 0.996))
    assert scaled.get("eps") == pytest.approx(5e-9)


@pytest.mark.parametrize(("k", "beta1"), [(9, 0.1), (10, 0.0), (11, 0.0), (64, 0.0)])
def test_beta1_stops_at_zero(k, beta1):
    scaled = SDE.optimizer(adam(), k * REFERENCE)
    assert scaled.get("betas")[0] == pytest.approx(beta1, abs=1e-12)
    assert scaled.get("betas")[0] >= 0


@pytest.mark.parametrize(("k", "beta2"), [(4, 0.92), (5, LEAST_BETA2), (6, LEAST_BETA2), (64, LEAST_BETA2)])
def test_the_sde_rule_lowers_beta2_to_its_minimum_at_most(k, beta2):
    assert SDE.optimizer(adam(betas=(0.9, 0.98)), k * REFERENCE).get("betas")[1] == pytest.approx(beta2)


@pytest.mark.parametrize("batch_size", [1, 2, 16, 64, 128, 256])
def test_the_half_life_of_beta2_is_the_same_number_of_examples(batch_size):
    optimizer = adamw(betas=(0.9, 0.98))
    scaled = HALF_LIFE.optimizer(optimizer, batch_size)
    beta1, beta2 = scaled.get("betas")
    assert half_life(beta2, batch_size) == pytest.approx(half_life(0.98, REFERENCE))
    assert (beta1, scaled.get("eps")) == (0.9, optimizer.get("eps"))
    assert HALF_LIFE.rate(0.01, batch_size, updates=7, updates_per_epoch=3) == 0.01


def test_the_published_beta2_of_one_sequence():
    """Marek et al. 2025: 0.95 for batches of 512 sequences and 0.9999 for batches of one, to four digits. Both are a
    half-life of 7.1 million tokens: 7.085 million exactly, 7.097 million of the rounded 0.9999."""
    beta2 = ConstantHalfLife(512).optimizer(adamw(betas=(0.9, 0.95)), 1).get("betas")[1]
    assert round(beta2, 4) == 0.9999
    assert TOKENS * half_life(0.95, 512) == pytest.approx(7.085e6, abs=1e3)
    assert TOKENS * half_life(0.9999, 1) == pytest.approx(7.097e6, abs=1e3)
    assert half_life(beta2, 1) == pytest.approx(half_life(0.95, 512))


@pytest.mark.parametrize(("k", "beta2"), [(2, 0.95**2), (3, LEAST_BETA2), (64, LEAST_BETA2)])
def test_the_constant_half_life_lowers_beta2_to_its_minimum_at_most(k, beta2):
    assert HALF_LIFE.optimizer(adam(betas=(0.9, 0.95)), k * REFERENCE).get("betas")[1] == pytest.approx(beta2)


@pytest.mark.parametrize("k", [1, 2, 64])
@pytest.mark.parametrize("beta2", [0.0, 0.5, 0.8, LEAST_BETA2])
@pytest.mark.parametrize("rule", RULES)
def test_a_beta2_below_the_minimum_is_never_lowered(rule, beta2, k):
    assert rule.optimizer(adam(betas=(0.9, beta2)), k * REFERENCE).get("betas")[1] == pytest.approx(beta2)


@pytest.mark.parametrize("rule", [AdamSde(REFERENCE, least_beta2=0.8), ConstantHalfLife(REFERENCE, least_beta2=0.8)])
def test_the_minimum_of_beta2_is_a_field_of_the_rule(rule):
    assert rule.optimizer(adam(betas=(0.9, 0.95)), 64 * REFERENCE).get("betas")[1] == pytest.approx(0.8)
    assert rule.key_fields()["least_beta2"] == 0.8


def test_a_beta2_below_the_minimum_is_raised_for_a_smaller_batch():
    optimizer = adam(betas=(0.9, 0.8))
    assert SDE.optimizer(optimizer, REFERENCE // 2).get("betas")[1] == pytest.approx(0.9)
    assert HALF_LIFE.optimizer(optimizer, REFERENCE // 2).get("betas")[1] == pytest.approx(math.sqrt(0.8))


@pytest.mark.parametrize("rule", RULES)
def test_the_optimizer_is_unchanged_at_the_reference_batch_size(rule):
    optimizer = adamw(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    scaled = rule.optimizer(optimizer, REFERENCE)
    assert scaled.get("betas") == pytest.approx(optimizer.get("betas"))
    assert scaled.changed(betas=optimizer.get("betas")) == optimizer


@pytest.mark.parametrize("batch_size", [1, REFERENCE, 100 * REFERENCE])
@pytest.mark.parametrize("rule", RULES)
def test_torch_accepts_the_hyperparameters_of_a_rule(rule, batch_size):
    for optimizer in (adam(), adamw(betas=(0.0, 0.5)), adamw(eps=0.0)):
        torch_optimizer = rule.optimizer(optimizer, batch_size).make(network(), 0.01)
        assert isinstance(torch_optimizer, torch.optim.Adam)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_scales_the_hyperparameters_of_groups_too(rule):
    """As if each group's hyperparameters were those of all parameters."""
    optimizer = adamw(betas=(0.9, 0.99)).group("*.bias", betas=(0.8, 0.98), weight_decay=0.0).group("0.*", eps=1e-6)
    scaled = rule.optimizer(optimizer, 2 * REFERENCE)
    biases, first = scaled.groups
    alone = rule.optimizer(adamw(betas=(0.8, 0.98)), 2 * REFERENCE)
    assert dict(biases.hyperparameters) == {"betas": alone.get("betas"), "weight_decay": 0.0}
    assert dict(first.hyperparameters) == {"eps": rule.optimizer(adamw(eps=1e-6), 2 * REFERENCE).get("eps")}
    assert scaled.get("betas") == rule.optimizer(adamw(betas=(0.9, 0.99)), 2 * REFERENCE).get("betas")
    assert [group.patterns for group in scaled.groups] == [group.patterns for group in optimizer.groups]
