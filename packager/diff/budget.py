"""Chooses the effort from a time budget: by lengths and coders alone, never by a clock, so that the same inputs make the same bytes."""

from collections.abc import Collection
from typing import Final

from packager.vehicle.profile import MIB, Coder

S_PER_MIB: Final = {1: 0.3, 2: 0.7, 3: 1.4, 4: 1.5, 5: 1.7, 6: 1.7, 7: 2.0, 8: 2.0, 9: 7.0}
"""Processor seconds per MiB of the longer image by effort, for ECUs with zstd. Most images take half of it, some texts more."""
S_AT_LEAST: Final = 0.1
ADAPTIVE_FACTOR: Final = 1.3
LZMA_FACTOR: Final = 1.8


def expected_s(effort: int, image_bytes: int, coders: Collection[Coder]) -> float:
    """Return about how many processor seconds a bundle takes.

    Args:
        effort: 1 to 9.
        image_bytes: Length of the longer one of its images.
        coders: Of the ECU.
    """
    factor = LZMA_FACTOR if Coder.LZMA in coders else ADAPTIVE_FACTOR if Coder.ADAPTIVE in coders else 1
    return S_AT_LEAST + factor * S_PER_MIB[effort] * image_bytes / MIB


def effort_within(most: int, budget_s: float | None, image_bytes: int, coders: Collection[Coder]) -> int:
    """Return the highest effort up to `most` that is expected to stay within a budget; the least one if none does.

    Args:
        most: 1 to 9.
        budget_s: Processor seconds; None for no limit.
        image_bytes: Length of the longer one of the images.
        coders: Of the ECU.
    """
    if budget_s is None:
        return most
    fitting = [effort for effort in range(1, most + 1) if expected_s(effort, image_bytes, coders) <= budget_s]
    return max(fitting, default=1)
