"""A convolutional network on 2,000 images of CIFAR-10, to be searched exhaustively in hours, not weeks."""

from suite.workloads import Data, Workload, cifar10

EXAMPLES, TESTED = 2000, 200


def load() -> Data:
    """The first 2,000 training images of `suite.workloads.cifar10`, and the first 200 test images."""
    data = cifar10.load()
    few = slice(0, EXAMPLES), slice(0, EXAMPLES), slice(0, TESTED), slice(0, TESTED)
    tensors = (data.train_inputs, data.train_targets, data.test_inputs, data.test_targets)
    return Data(*(tensor[some].clone() for tensor, some in zip(tensors, few, strict=True)))


workload = Workload(
    name="cifar10_2000",
    about="2,000 + 200 colour images of ten classes, 32 x 32 pixels; a network of three convolutions; cross-entropy.",
    load=load,
    model=cifar10.model,
    batch_sizes=(1, 8, 64, 512, 2000),
    small=8,
    large=512,
    learning_rate=0.1,
    learning_rates=(0.1,),
    epochs=10,
    target_loss=1.6,
    max_updates=30_000,
)
