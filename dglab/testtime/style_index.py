"""Exact nearest-neighbour search among styles: bounds on Eq. 10 by matrix products, the candidates rescored."""

import torch
from torch import Tensor

from dglab.testtime.style import Style, style_distance


class StyleIndex:
    """The styles of up to Q images, in slots 0 to Q - 1, and a search for those nearest to a given one.

    Written out, C times Eq. 10 is positive - cross - C, where over the channels c, with v = sigma^2,

        positive = sum (v_a + mu_a^2) / (2 v_b) + mu_b^2 / (2 v_b) + (the same with a and b exchanged)
        cross    = sum mu_a (mu_b / v_b) + (mu_a / v_a) mu_b

    Both are matrix products of a vector of the query and a stored vector of each entry. Subtracting them loses digits
    where styles are close. This error is bounded, and every entry that could be among the nearest within the bound is
    scored again by :func:`style_distance`, so that the result is that of a direct search.

    Args:
        capacity: Q.
        channels: C.
        device: where the buffers are.
    """

    def __init__(self, capacity: int, channels: int, device: torch.device | str = "cpu") -> None:
        self.styles = Style(*(torch.zeros(capacity, channels, device=device) for _ in range(2)))  # Q x C each
        self.center: Tensor | None = None  # subtracted from all means: Eq. 10 stays the same, with less rounding
        self._positive = torch.zeros(capacity, 2 * channels, device=device)
        self._cross = torch.zeros(capacity, 2 * channels, device=device)
        self._own = torch.zeros(capacity, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(t.nbytes for t in (*self.styles, self._positive, self._cross, self._own))

    def put(self, slots: Tensor, styles: Style) -> None:
        """Write styles, N x C, into slots, N, over what was there."""
        if self.center is None:
            self.center = styles.mean[0].clone()
        for ring, new in zip(self.styles, styles, strict=True):
            ring[slots] = new
        mean, variance, own = self._parts(styles)
        self._positive[slots] = torch.cat([1 / (2 * variance), (variance + mean.square()) / 2], dim=1)  # N x 2C
        self._cross[slots] = torch.cat([mean / variance, mean], dim=1)  # N x 2C
        self._own[slots] = own

    def _parts(self, styles: Style) -> tuple[Tensor, Tensor, Tensor]:
        """Centred means and variances, N x C, and sum mu^2 / (2 v), N."""
        mean, variance = styles.mean - self.center, styles.deviation.square()
        return mean, variance, (mean.square() / (2 * variance)).sum(1)

    def bounds(self, queries: Style) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds, N x Q each, on the distances from queries (N x C) to all slots."""
        mean, variance, own = self._parts(queries)
        with torch.autocast(mean.device.type, enabled=False):  # in half precision the bounds would not hold
            positive = torch.cat([variance + mean.square(), 1 / variance], dim=1) @ self._positive.T
            positive += own[:, None] + self._own  # N x Q
            cross = torch.cat([mean, mean / variance], dim=1) @ self._cross.T
        channels = mean.shape[1]
        # |cross| <= positive, and a sum of n products is off by at most n + 2 roundings, in any order
        roundings = 2 * (2 * channels + 8) * _unit_roundoff()
        distance, error = (positive - cross) / channels - 1, roundings * positive / channels
        return (distance - error).nan_to_num_(nan=-torch.inf), (distance + error).nan_to_num_(nan=torch.inf)

    def nearest(self, queries: Style, among: Tensor, count: int) -> list[tuple[list[int], list[float]]]:
        """The nearest entries, exactly those that a direct search finds.

        Args:
            queries: styles N x C.
            among: the slots to choose from, oldest first; of equal distances the older comes first.
            count: how many, at most.

        Returns:
            For each query its slots and their distances (Eq. 10), nearest first.
        """
        count = min(count, len(among))
        if count == 0:
            return [([], []) for _ in queries.mean]
        lower, upper = (bound[:, among] for bound in self.bounds(queries))  # N x slots
        # the count-th smallest; kthvalue is not deterministic on GPUs in some versions of torch
        limit = upper.topk(count, dim=1, largest=False).values[:, -1:]
        found = []
        for i, possible in enumerate((lower <= limit).cpu()):
            slots = among[possible]  # still oldest first
            distances = self.distances(Style(queries.mean[i], queries.deviation[i]), slots)
            order = distances.argsort(stable=True)[:count]
            found.append((slots[order].tolist(), distances[order].tolist()))
        return found

    def distances(self, query: Style, slots: Tensor) -> Tensor:
        """Eq. 10 from one style (C) to those in ``slots``, computed directly; returned on the CPU: they are few."""
        return style_distance(query, Style(*(ring[slots] for ring in self.styles))).cpu()


def _unit_roundoff() -> float:
    """The unit roundoff of a float32 matrix product, which torch may compute from bfloat16 or TF32 parts."""
    try:
        highest = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set for each backend by torch's newer interface: assume the coarsest
        highest = False
    return 2.0**-24 if highest else 2.0**-8
