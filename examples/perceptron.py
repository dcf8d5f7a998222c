"""Images of handwritten digits from scikit-learn, and a small network that classifies them.

This module does not use trialstream: it stands for your own model and data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["TRAINING_IMAGES", "Images", "Perceptron", "load_images", "mini_batches"]

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]

TRAINING_IMAGES = 1440  # of 1797: a multiple of many batch sizes; the others are test images


class Images(NamedTuple):
    """Images with their labels.

    Attributes:
        pixels: One row for each image: 8 x 8 shades from 0 to 1.
        digits: The digit that each image shows.
    """

    pixels: Floats
    digits: Integers

    def take(self, rows: Integers) -> Images:
        """Return the images in the given rows."""
        return Images(self.pixels[rows], self.digits[rows])


def load_images() -> tuple[Images, Images]:
    """Return the training images and the test images; the division is always the same."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 (takes 1.5 s of processor time, which the workers do not need)

    pixels, digits = load_digits(return_X_y=True)
    images = Images((pixels / 16).astype(np.float32), digits)
    order = np.random.default_rng(0).permutation(len(digits))
    return images.take(order[:TRAINING_IMAGES]), images.take(order[TRAINING_IMAGES:])


def mini_batches(images: Images, size: int, rng: np.random.Generator) -> Iterator[Images]:
    """Yield all images once, in random order; `size` must divide their number."""
    for rows in rng.permutation(len(images.digits)).reshape(-1, size):
        yield images.take(rows)


class Perceptron:
    """A classifier with one hidden layer of leaky rectifiers, in single precision."""

    LEAK: Final = np.float32(0.1)  # without it, too large a learning rate stops the learning instead of diverging

    def __init__(self, hidden: int, rng: np.random.Generator) -> None:
        self.inner = rng.normal(0, np.sqrt(2 / 64), (64, hidden)).astype(np.float32)
        self.inner_bias = np.zeros(hidden, np.float32)
        self.outer = rng.normal(0, np.sqrt(2 / hidden), (hidden, 10)).astype(np.float32)
        self.outer_bias = np.zeros(10, np.float32)

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.inner.size + self.inner_bias.size + self.outer.size + self.outer_bias.size

    @np.errstate(over="ignore", invalid="ignore")  # the loss shows a divergence
    def learn(self, images: Images, rate: float) -> tuple[float, float]:
        """Take one step of gradient descent; return the loss (cross entropy) and the accuracy before the step."""
        hidden, scores = self._forward(images.pixels)
        scores -= scores.max(axis=1, keepdims=True)
        log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        truth = np.eye(10, dtype=np.float32)[images.digits]
        loss = -log_probabilities[truth == 1].mean()
        accuracy = (scores.argmax(axis=1) == images.digits).mean()

        outer_error = (np.exp(log_probabilities) - truth) / len(truth)
        inner_error = (outer_error @ self.outer.T) * np.where(hidden > 0, np.float32(1), self.LEAK)
        self.outer -= rate * hidden.T @ outer_error
        self.outer_bias -= rate * outer_error.sum(axis=0)
        self.inner -= rate * images.pixels.T @ inner_error
        self.inner_bias -= rate * inner_error.sum(axis=0)
        return float(loss), float(accuracy)

    def accuracy(self, images: Images) -> float:
        """Return the fraction of the images that are classified correctly."""
        _, scores = self._forward(images.pixels)
        return float((scores.argmax(axis=1) == images.digits).mean())

    def _forward(self, pixels: Floats) -> tuple[Floats, Floats]:
        hidden = pixels @ self.inner + self.inner_bias
        hidden = np.maximum(hidden, self.LEAK * hidden)
        return hidden, hidden @ self.outer + self.outer_bias
