"""The network of `mnist` on its first 10,000 images, to be searched exhaustively in minutes, not hours."""

from suite.workloads import Data, Workload, mnist

EXAMPLES, TESTED = 10_000, 1_000


def load() -> Data:
    """The first 10,000 training images of `suite.workloads.mnist`, and the first 1,000 test images."""
    data = mnist.load()
    few = slice(0, EXAMPLES), slice(0, EXAMPLES), slice(0, TESTED), slice(0, TESTED)
    tensors = (data.train_inputs, data.train_targets, data.test_inputs, data.test_targets)
    return Data(*(tensor[some].clone() for tensor, some in zip(tensors, few, strict=True)))


workload = Workload(
    name="mnist_10000",
    about="10,000 + 1,000 images of handwritten digits, 28 x 28 pixels; a ReLU network 784-128-10; cross-entropy.",
    load=load,
    model=mnist.model,
    batch_sizes=(1, 10, 100, 1000, 10000),
    small=10,
    large=1000,
    learning_rate=0.1,
    learning_rates=(0.1,),
    epochs=5,
    target_loss=0.2,
    max_updates=20_000,
)
