from collections.abc import Sequence

from packager.vehicle._pure_predict import Context

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
def label_source(context: Context, source: bytearray | memoryview, pieces: Sequence[int], /) -> None: ...
def label_block(context: Context, kind: int, block: bytearray | memoryview, new_at: int, /) -> None: ...
def add_units(
    out: bytearray | memoryview,
    pieces: Sequence[int],
    gaps: bytes | memoryview,
    values: bytes | memoryview,
    unit: int,
    /,
) -> None: ...
