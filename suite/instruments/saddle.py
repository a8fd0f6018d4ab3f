"""The time that gradient descent takes to leave a saddle."""

import math


def updates_to_leave(learning_rate: float, momentum: float, curvature: float, start: float, distance: float) -> float:
    """Updates from rest at `start` along an axis of negative `curvature` h until `distance` from the saddle, by the
    recursion x_(k+1) = (1 + λ − η h) x_k − λ x_(k−1); interpolated in log x between two updates.

    >>> round(updates_to_leave(learning_rate=0.5, momentum=0.0, curvature=-2.0, start=1.0, distance=8.0), 6)
    3.0
    """
    last, position, updates = start, start, 0
    while position < distance:
        last, position = position, (1 + momentum - learning_rate * curvature) * position - momentum * last
        updates += 1
    return updates - math.log(position / distance) / math.log(position / last) if updates else 0.0
