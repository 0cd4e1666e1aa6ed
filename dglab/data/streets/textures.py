"""Two tiling noise pictures from which every surface takes its grain."""

from functools import cache

import numpy as np

from dglab.utils.seeds import derive_seed

SIZE = 512  # pixels; a power of two, so that positions wrap with a bit mask


@cache
def noise(name: str, exponent: float, low: float = 1.0) -> np.ndarray:
    """Smooth noise that tiles, mean 0 and standard deviation 1.

    Args:
        name: names the noise (another name, another noise).
        exponent: the amplitude of a frequency f falls as f ** -exponent (0.5 is grainy, 1.6 is cloudy).
        low: frequencies below this many waves per tile are left out.

    Returns:
        SIZE * SIZE float32, flattened.
    """
    rng = np.random.default_rng(derive_seed("streets", "noise", name))
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]) * SIZE
    gain = np.where(frequency >= low, np.maximum(frequency, 1.0) ** -exponent, 0.0)
    picture = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * gain, s=(SIZE, SIZE))
    picture = (picture - picture.mean()) / picture.std()
    return np.clip(picture, -3.0, 3.0).astype(np.float32).ravel()


def sample(picture: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The noise at (s, t), in pixels of the noise picture, wrapped around; nearest pixel.

    Args:
        picture: from :func:`noise`.
        s, t: arrays of the same shape, any values below 2 ** 30.
    """
    column, row = s.astype(np.int32), t.astype(np.int32)
    column &= SIZE - 1
    row &= SIZE - 1
    row *= SIZE
    row += column
    return picture[row]
