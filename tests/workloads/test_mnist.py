"""The MNIST data in SUITE_DATA_HOME; tests do not download it."""

import os
import warnings
from pathlib import Path

import pytest
import torch

from suite.workloads import find
from suite.workloads.check import load_checked

HOME = Path(os.environ.get("SUITE_DATA_HOME", "nowhere"))


@pytest.mark.skipif(not (HOME / "mnist").is_dir(), reason="no MNIST in SUITE_DATA_HOME")
def test_the_official_files_are_read_exactly():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of different content
        data = load_checked(find("mnist"))
    assert data.train_inputs.shape == (60_000, 784)
    assert data.test_inputs.shape == (10_000, 784)
    assert torch.bincount(data.train_targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.test_targets).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train_inputs.double().mean().item() == pytest.approx(0.13066, abs=5e-6)
    assert data.test_inputs.double().std().item() == pytest.approx(0.31048, abs=5e-6)
