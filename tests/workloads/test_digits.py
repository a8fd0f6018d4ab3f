from suite.workloads import find
from suite.workloads.check import load_checked


def test_digits_are_1797_images_split_1437_to_360():
    data = load_checked(find("digits"))
    assert data.train_inputs.shape == (1437, 64)
    assert data.test_inputs.shape == (360, 64)
    assert (data.train_inputs.min(), data.train_inputs.max()) == (0, 1)
    assert sorted(data.train_targets.unique().tolist()) == list(range(10))


def test_the_network_has_4810_parameters():
    assert sum(parameter.numel() for parameter in find("digits").initial_model(0).parameters()) == 4810
