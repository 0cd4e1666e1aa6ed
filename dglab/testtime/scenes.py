"""Where the scenes of a film cut: there the evidence of a stream begins anew."""

from collections.abc import Sequence

import numpy as np

BINS = 16  # of each colour
CHANGED = 0.25  # a cut changes the bin of this share of the pixels at least,
TIMES = 4  # and so many times as many as frames of this film usually do


def colours(image: np.ndarray) -> np.ndarray:
    """The shares of pixels in each bin of each colour, 3 x 16, of an image H x W x 3 in uint8; every fourth row and
    column is enough."""
    few = image[::4, ::4].reshape(-1, 3) // (256 // BINS)
    return np.stack([np.bincount(channel, minlength=BINS) for channel in few.T]) / len(few)


def find_scenes(frames: Sequence[np.ndarray]) -> list[list[int]]:
    """The frames of each scene, by index, in order.

    A cut lies between two frames whose histograms differ much, and much more than those of successive frames usually
    do (their median). So it is found in a film; photographs of many places, which all differ, are one stream.

    Source: differences of histograms are those of Zhang, Kankanhalli and Smoliar, "Automatic partitioning of
    full-motion video", Multimedia Systems 1993; both thresholds are ours, and round.

    Args:
        frames: of each frame, what :func:`colours` gives.
    """
    changes = [np.abs(after - before).sum() / 6 for before, after in zip(frames, frames[1:], strict=False)]
    least = max(CHANGED, TIMES * float(np.median(changes))) if changes else 1.0
    scenes: list[list[int]] = [[]]
    for index in range(len(frames)):
        if index and changes[index - 1] > least:
            scenes.append([])
        scenes[-1].append(index)
    return scenes
