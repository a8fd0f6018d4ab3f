"""A convolutional network on 2,000 images of CIFAR-10: an exhaustive search takes hours instead of weeks."""

from suite.workloads import Data, Workload, cifar10

TRAIN_EXAMPLES, TEST_EXAMPLES = 2000, 200


def load() -> Data:
    """The first 2,000 training images and the first 200 test images of `suite.workloads.cifar10`."""
    data = cifar10.load()
    return Data(
        data.train_inputs[:TRAIN_EXAMPLES].clone(),
        data.train_targets[:TRAIN_EXAMPLES].clone(),
        data.test_inputs[:TEST_EXAMPLES].clone(),
        data.test_targets[:TEST_EXAMPLES].clone(),
    )


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
