"""Cuts between the scenes of a video, where the guard starts anew."""

from collections.abc import Sequence

import numpy as np

BINS = 16  # of each colour
CHANGED = 0.25  # a cut moves at least this share of the pixels to another bin,
TIMES = 4  # and at least so many times as many as the median over successive frames


def colours(image: np.ndarray) -> np.ndarray:
    """The colour histogram of an image H x W x 3 in uint8: the share of pixels in each bin of each colour, 3 x 16.

    Every fourth row and column is counted, which is enough.
    """
    few = image[::4, ::4].reshape(-1, 3) // (256 // BINS)
    return np.stack([np.bincount(channel, minlength=BINS) for channel in few.T]) / len(few)


def find_scenes(frames: Sequence[np.ndarray]) -> list[list[int]]:
    """The frames of each scene, by index, in order.

    A cut is between two frames whose histograms differ much, and much more than successive frames of this video do (the
    median). Photographs of many places, which all differ from each other, are therefore one scene.

    Source: differences of histograms are those of Zhang, Kankanhalli and Smoliar, "Automatic partitioning of
    full-motion video", Multimedia Systems 1993; both thresholds are ours, and round.

    Args:
        frames: the histogram of each frame, see :func:`colours`.
    """
    changes = [np.abs(after - before).sum() / 6 for before, after in zip(frames, frames[1:], strict=False)]
    least = max(CHANGED, TIMES * float(np.median(changes))) if changes else 1.0
    scenes: list[list[int]] = [[]]
    for index in range(len(frames)):
        if index and changes[index - 1] > least:
            scenes.append([])
        scenes[-1].append(index)
    return scenes
