import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from suite.errors import last_line
from suite.workloads import fingerprint
from suite.workloads.data import Data
from suite.workloads.fingerprint import data_fingerprint
from suite.workloads.workload import accuracy, cross_entropy
from tests.conftest import blobs, network, tiny


def test_loss_and_score_have_one_value_per_example():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    targets = torch.tensor([0, 0])
    expected = [torch.log1p(torch.exp(torch.tensor(-2.0))), torch.log1p(torch.exp(torch.tensor(1.0)))]
    torch.testing.assert_close(cross_entropy(logits, targets), torch.stack(expected))
    assert accuracy(logits, targets).tolist() == [1, 0]


def test_each_replica_has_its_own_reproducible_split_of_the_same_examples():
    data = blobs()
    first, repeated, different = data.resplit(1), data.resplit(1), data.resplit(2)
    assert torch.equal(first.train_inputs, repeated.train_inputs)
    assert not torch.equal(first.train_inputs, different.train_inputs)
    assert len(first.train_inputs) == 40
    pooled = torch.cat([first.train_inputs, first.test_inputs])
    original = torch.cat([data.train_inputs, data.test_inputs])
    assert sorted(pooled.tolist()) == sorted(original.tolist())


def test_a_workload_with_a_fixed_split_keeps_it():
    data = blobs()
    assert tiny(resplit=False).replica_data(data, 3) is data


def test_constructing_a_model_leaves_torchs_generator_unchanged():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    tiny().initial_model(0)
    assert torch.equal(torch.rand(2), expected)


def test_replicas_have_different_and_reproducible_parameters():
    first, repeated, different = (tiny().initial_model(replica)[0].weight for replica in (0, 0, 1))
    assert torch.equal(first, repeated)
    assert not torch.equal(first, different)


def test_each_base_seed_has_its_own_parameters_splits_and_streams():
    def of(base_seed: int) -> list[torch.Tensor]:
        workload = tiny(base_seed=base_seed)
        split = workload.replica_data(blobs(), 2)
        stream = torch.rand(3, generator=workload.generator("shuffle", 4, 2))
        return [workload.initial_model(2)[0].weight.detach(), split.train_inputs, split.test_targets, stream]

    first, repeated, different = of(1), of(1), of(2)
    assert all(map(torch.equal, first, repeated))
    assert not any(map(torch.equal, first, different))
    assert all(map(torch.equal, of(0), _of_no_base_seed()))


def _of_no_base_seed() -> list[torch.Tensor]:
    split, stream = blobs().resplit(2), torch.rand(3, generator=tiny().generator("shuffle", 4, 2))
    return [tiny().initial_model(2)[0].weight.detach(), split.train_inputs, split.test_targets, stream]


def test_a_fixed_split_is_the_same_for_every_base_seed():
    data = blobs()
    assert tiny(resplit=False, base_seed=1).replica_data(data, 3) is data


def changed_data() -> Data:
    data = blobs()
    data.train_inputs[3, 2] += 1e-3
    return data


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"resplit": False},
        {"model": lambda: torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3))},
        {"loss": lambda outputs, targets: 2 * cross_entropy(outputs, targets)},
        {"score": lambda outputs, targets: 1 - accuracy(outputs, targets)},
    ],
)
def test_the_fingerprint_changes_with_the_computation(change):
    assert fingerprint(tiny(**change), blobs()) != fingerprint(tiny(), blobs())


def test_the_fingerprint_changes_with_a_single_value_of_the_data():
    assert fingerprint(tiny(), changed_data()) != fingerprint(tiny(), blobs())


def test_the_fingerprint_changes_with_the_shape_and_the_type_of_the_same_bytes():
    zeros = torch.zeros(4, 2)
    same_bytes = [zeros, zeros.view(2, 4), zeros.int()]
    assert len({data_fingerprint(Data(inputs, zeros, zeros, zeros)) for inputs in same_bytes}) == 3


def test_the_fingerprint_changes_with_layers_that_act_only_in_training():
    def dropping(share: float):
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(share), nn.Linear(8, 3))

    def partly_frozen():
        model = network()
        model[0].requires_grad_(False)
        return model

    models = [network, partly_frozen, lambda: dropping(0.1), lambda: dropping(0.5)]
    assert len({fingerprint(tiny(model=model), blobs()) for model in models}) == 4


class FailsInTraining(nn.Linear):
    def __init__(self, error: Exception):
        super().__init__(4, 3)
        self.error = error

    def forward(self, inputs):
        if self.training:
            raise self.error
        return super().forward(inputs)


def test_a_model_that_cannot_be_trained_has_a_fingerprint_but_an_error_of_memory_is_raised():
    def fingerprint_with(error: Exception) -> str:
        return fingerprint(tiny(model=lambda: FailsInTraining(error)), blobs())

    assert fingerprint_with(ValueError("no training")) == fingerprint_with(KeyError("none"))
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        with pytest.raises(type(error)):
            fingerprint_with(error)


def test_the_fingerprint_does_not_depend_on_epochs_and_batch_sizes():
    assert fingerprint(tiny(model=network, epochs=7, batch_sizes=(1, 16)), blobs()) == fingerprint(tiny(), blobs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"small": 3}, "small is 3: batch_sizes (1, 4, 16) must contain it"),
        ({"large": 3}, "large is 3: batch_sizes (1, 4, 16) must contain it"),
        ({"learning_rate": 0.5}, "learning_rate is 0.5: learning_rates (0.03, 0.1) must contain it"),
        ({"learning_rate": "0.1"}, "learning_rate is '0.1': it should be a valid number"),
        ({"batch_sizes": (16, 4, 1)}, "batch_sizes are (16, 4, 1): give them in ascending order, each once"),
        ({"batch_sizes": (1, 4, 4, 16)}, "batch_sizes are (1, 4, 4, 16): give them in ascending order, each once"),
        ({"batch_sizes": (0, 1, 16)}, "batch_sizes[0] is 0: it should be greater than or equal to 1"),
        ({"batch_sizes": (1, True, 16)}, "batch_sizes[1] is True: it should be a valid integer"),
        ({"batch_sizes": "1, 16"}, "batch_sizes is '1, 16': it should be a valid tuple"),
        ({"training_batch_sizes": (1, 8)}, "training_batch_sizes contain 8: batch_sizes (1, 4, 16) must, too"),
        ({"small": 16, "large": 1}, "small is 16 and large 1: small must be less"),
        ({"small": 16, "large": 16}, "small is 16 and large 16: small must be less"),
        ({"learning_rates": (0.0, 0.1)}, "learning_rates[0] is 0.0: it should be greater than 0"),
        ({"epochs": 0}, "epochs is 0: it should be greater than or equal to 1"),
        ({"epochs": 2.5}, "epochs is 2.5: it should be a valid integer"),
        ({"target_loss": 0.0}, "target_loss is 0.0: it should be greater than 0"),
        ({"target_loss": float("nan")}, "target_loss is nan: it should be greater than 0"),
        ({"fitted_loss": 1.0}, "fitted_loss is 1: it must be at most target_loss, 0.5"),
        ({"max_updates": -5}, "max_updates is -5: it should be greater than or equal to 1"),
        ({"resplit": "no"}, "resplit is 'no': it should be a valid boolean"),
        ({"load": 3}, "load is 3: it should be callable"),
        ({"score_name": "$"}, "score_name is '$': use 1 to 60 printable characters, and none of $ | ` \\"),
        ({"epoch": 3}, "there is no field 'epoch'"),
    ],
)
def test_a_contradictory_workload_is_rejected(change, message):
    with pytest.raises(ValidationError) as error:
        tiny(**change)
    assert last_line(error.value) == f"Workload: {message}"


@pytest.mark.parametrize(
    "name", ["mlp/64", "../up", "/root", "two\nlines", "", " ", "<b>x</b> | y", "$5", "-x", "a" * 65]
)
def test_a_name_that_cannot_name_a_file_is_rejected_with_the_rule(name):
    with pytest.raises(ValidationError) as error:
        tiny(name=name)
    assert "use 1 to 64 letters, digits, '-', '_' and '.', the first a letter or a digit" in last_line(error.value)


@pytest.mark.parametrize("sequence", [list, np.array, torch.tensor, lambda sizes: range(1, 3)])
def test_numbers_and_sequences_of_any_library_are_pythons(sequence):
    workload = tiny(
        batch_sizes=sequence([1, 2]), small=np.int64(1), large=np.uint8(2), epochs=np.int32(3),
        learning_rate=np.float64(0.1), learning_rates=np.array([0.03, 0.1]), resplit=np.bool_(True),
    )  # fmt: skip
    assert vars(workload) == vars(tiny(batch_sizes=(1, 2), small=1, large=2, resplit=True))
    assert {type(value) for value in (*workload.batch_sizes, workload.small, workload.epochs)} == {int}
    assert {type(value) for value in (workload.learning_rate, *workload.learning_rates)} == {float}


def test_a_sentence_may_be_written_over_several_lines():
    assert tiny(about="Three\n    blobs.").about == "Three blobs."
