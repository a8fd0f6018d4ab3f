"""Hashes that tell one computation from another."""

import hashlib
import re

import torch

from suite import seeds
from suite.devices import out_of_memory
from suite.workloads.data import Data
from suite.workloads.workload import Workload


def data_fingerprint(data: Data) -> str:
    """Hash of all examples: content, shape and dtype."""
    digest = hashlib.sha256()
    for tensor in (data.train_inputs, data.train_targets, data.test_inputs, data.test_targets):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _training_losses(workload: Workload, data: Data) -> str:
    """Mean loss of a few examples in training mode, where dropout and similar layers are active, as text.

    For an optimizer without a stacked form, whose updates are known only by its name, also the losses after each of
    three updates. Empty where the model cannot be trained on these examples: a training reports that. An error of
    memory is raised, since it is not a property of the model.
    """
    inputs, targets = data.train_inputs[:8], data.train_targets[:8]
    model = workload.initial_model(0).train()
    try:
        with seeds.torch_seeded("fingerprint"):
            losses = [workload.loss(model(inputs), targets).mean()]
            if workload.optimizer.form is None:
                optimizer = workload.optimizer.make(model, workload.learning_rate)
                for _ in range(3):
                    optimizer.zero_grad()
                    losses[-1].backward()
                    optimizer.step()
                    losses.append(workload.loss(model(inputs), targets).mean())
    except Exception as error:
        if out_of_memory(error):
            raise
        return ""
    return " ".join(f"{loss.item():.5g}" for loss in losses)


def fingerprint(workload: Workload, data: Data) -> str:
    """Hash of the computation of a workload: its data, the losses and scores of replica 0 on a few examples, the
    structure of its model, the names of the trained parameters, and a loss in training mode.

    Losses enter with five significant digits, so that rounding on another processor does not matter.
    """
    few = slice(0, 8)
    model = workload.initial_model(0).eval()
    with torch.no_grad():
        outputs = model(data.train_inputs[few])
        losses = workload.loss(outputs, data.train_targets[few])
        scores = workload.score(outputs, data.train_targets[few])
    values = " ".join(f"{value:.5g}" for value in torch.cat([losses, scores]).tolist())
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    structure = re.sub("0x[0-9a-f]+", "", str(model))  # without memory addresses
    about = f"{structure} {trained} {_training_losses(workload, data)}"
    text = f"{workload.name} {workload.resplit} {data_fingerprint(data)} {values} {about}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
