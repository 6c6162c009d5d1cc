"""Order statistics of latency samples."""

import math
from typing import List, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Percentile by linear interpolation, the default of numpy; ``share`` in 0..1."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median_confidence(values: Sequence[float]) -> float:
    """Relative half width of the 95 % confidence interval of the median, from order statistics; inf below 6 values."""
    count = len(values)
    if count < 6:
        return float("inf")
    ordered = sorted(values)
    reach = 0.98 * math.sqrt(count)
    low = max(0, math.floor(count / 2.0 - reach))
    high = min(count - 1, math.ceil(count / 2.0 + reach))
    return (ordered[high] - ordered[low]) / 2 / percentile(ordered, 0.5)


def half_drift(blocks: Sequence[Sequence[float]]) -> float:
    """Relative change of the median between the first and the second half of the blocks; 0 for a single block."""
    if len(blocks) < 2:
        return 0.0
    half = (len(blocks) + 1) // 2
    first, second = ([value for block in part for value in block] for part in (blocks[:half], blocks[-half:]))
    early, late = percentile(first, 0.5), percentile(second, 0.5)
    return abs(late - early) / min(late, early)


def thin_out(values: Sequence[float], keep: int) -> List[float]:
    """Subsample to at most ``keep`` evenly spaced values, in order."""
    if len(values) <= keep:
        return list(values)
    return [values[index * len(values) // keep] for index in range(keep)]
