"""The network of `mnist` on its first 10,000 images: an exhaustive search takes minutes instead of hours."""

from suite.workloads import Data, Workload, mnist

TRAIN_EXAMPLES, TEST_EXAMPLES = 10_000, 1_000


def load() -> Data:
    """The first 10,000 training images and the first 1,000 test images of `suite.workloads.mnist`."""
    data = mnist.load()
    return Data(
        data.train_inputs[:TRAIN_EXAMPLES].clone(),
        data.train_targets[:TRAIN_EXAMPLES].clone(),
        data.test_inputs[:TEST_EXAMPLES].clone(),
        data.test_targets[:TEST_EXAMPLES].clone(),
    )


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
