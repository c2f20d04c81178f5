"""Measures how fast a server delivers, and gives up on one that is kept too slow (Uptane 5.4; attack 33, slow retrieval).

A read timeout alone doesn't notice one byte every three seconds. Only the time spent waiting for the network counts, so that neither a
slow decoder nor a pause of the caller makes a server look slow.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

DEFAULT_MIN_BYTES_PER_SECOND: Final = 1000
"""A tenth of what EDGE gives: below it, no update ends in useful time."""
WINDOW_S: Final = 30.0
"""Time of waiting over which the speed is judged: a train passes a tunnel within it."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured.

    Attributes:
        received_bytes: What came, that which was skipped included.
        waited_s: Seconds spent waiting for it.
        slowest_bytes_per_second: Of all whole windows; None if there was none.
    """

    received_bytes: int = 0
    waited_s: float = 0.0
    slowest_bytes_per_second: int | None = None

    @property
    def bytes_per_second(self) -> int | None:
        """Of everything; None if nothing was measured."""
        return round(self.received_bytes / self.waited_s) if self.waited_s > 0 and self.received_bytes else None

    def __add__(self, other: "Speed") -> "Speed":
        windows = (self.slowest_bytes_per_second, other.slowest_bytes_per_second)
        return Speed(
            self.received_bytes + other.received_bytes,
            self.waited_s + other.waited_s,
            min((speed for speed in windows if speed is not None), default=None),
        )


class SpeedMeter:
    """Measures transfers.

    Args:
        min_bytes_per_second: The least speed over a window; 0 allows any.
        window_s: Seconds of waiting over which it is judged.
        clock_s: A monotonic clock, seconds.
    """

    def __init__(
        self,
        min_bytes_per_second: int = DEFAULT_MIN_BYTES_PER_SECOND,
        *,
        window_s: float = WINDOW_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.min_bytes_per_second = min_bytes_per_second
        self._window_limit_s = window_s
        self._clock_s = clock_s
        self.speed = Speed()
        self._window = Speed()

    def restart(self) -> None:
        """Begin a new window: a new connection was made."""
        self._window = Speed()

    def measure(self, wait: Callable[[], bytes]) -> bytes:
        """Return what `wait` returns, and count its bytes and the time that it took."""
        start_s = self._clock_s()
        data = b""
        try:
            data = wait()
        finally:
            passed = Speed(len(data), self._clock_s() - start_s)
            self.speed += passed
            self._window += passed
        return data

    def too_slow(self) -> int | None:
        """Return the speed over a window that has just ended, in bytes per second, if it was below the least; else None."""
        if self._window.waited_s < self._window_limit_s:
            return None
        found = int(self._window.received_bytes / self._window.waited_s)
        self.speed += Speed(slowest_bytes_per_second=found)
        self.restart()
        return found if found < self.min_bytes_per_second else None
