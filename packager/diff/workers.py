"""The threads that share the work on one pair of images."""

from concurrent.futures import Executor
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workers:
    """Two pools, because a thread that waits for another of the same pool could wait for ever.

    Attributes:
        steps: For what waits for nothing: parts of an alignment, counting.
        rounds: For what waits for steps.
    """

    steps: Executor
    rounds: Executor
