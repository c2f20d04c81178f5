from collections.abc import Sequence

NAME: str

def apply_delta(
    out: bytearray | memoryview,
    source: bytes | bytearray | memoryview,
    pieces: Sequence[int],
    literals: bytes | memoryview,
    controls: bytes | memoryview,
    values: bytes | memoryview,
    /,
) -> None: ...
