from array import array
from collections.abc import Sequence

from packager.vehicle._pure_stretch import Context

NAME: str
INTERFACE: int

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
def add_adaptive(out: bytearray | memoryview, pieces: Sequence[int], stream: bytes | memoryview, /) -> None: ...
def write_adaptive(
    made: bytes | bytearray | memoryview, wanted: bytes | memoryview, pieces: Sequence[int], /
) -> bytes: ...
def read_segments(
    gaps: bytes | memoryview,
    lengths: bytes | memoryview,
    diagonals: bytes | memoryview,
    count: int,
    old_bytes: int,
    new_bytes: int,
    /,
) -> tuple[array[int], array[int], array[int]]: ...
def read_values(
    gaps: bytes | memoryview, changes: bytes | memoryview, count: int, /
) -> tuple[array[int], array[int]]: ...
def cut_pieces(
    new_offsets: array[int], old_offsets: array[int], lengths: array[int], start: int, end: int, /
) -> tuple[array[int], array[int], int]: ...
def plan_reads(triples: array[int], near_bytes: int, room_bytes: int, /) -> tuple[array[int], array[int]]: ...
def scatter(
    source: bytearray | memoryview,
    buffer: bytes | bytearray | memoryview,
    low: int,
    moves: array[int],
    first: int,
    last: int,
    /,
) -> None: ...
def join_pieces(
    source: bytearray | memoryview, old: bytes | bytearray | memoryview, triples: array[int], /
) -> None: ...
def address_map(
    new_offsets: array[int], old_offsets: array[int], lengths: array[int], /
) -> tuple[array[int], array[int]]: ...
