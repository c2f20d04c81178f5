"""Deterministic pseudo-random choices from names: the same on every machine, Python version and hash seed."""

import hashlib


def digest(length_bytes: int, *parts: str | int) -> bytes:
    """Return pseudo-random bytes that depend on `parts` alone."""
    return hashlib.shake_128("/".join(map(str, parts)).encode()).digest(length_bytes)


class ChoiceStream:
    """An endless sequence of choices that depends on the given parts alone.

    Args:
        parts: What names the stream, for example seed, instruction set and module.
    """

    def __init__(self, *parts: str | int) -> None:
        self._parts = parts
        self._counter = 0
        self._bytes = b""
        self._used = 0

    def below(self, limit: int) -> int:
        """Return an integer from 0 to `limit` - 1, for limits up to 2^24 (bias under 2^-8)."""
        if self._used + 4 > len(self._bytes):
            self._bytes = digest(4096, *self._parts, self._counter)
            self._counter += 1
            self._used = 0
        value = int.from_bytes(self._bytes[self._used : self._used + 4], "little")
        self._used += 4
        return value % limit
