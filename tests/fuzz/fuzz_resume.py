"""Fuzz target of what an update reads back after a cut: the journal, the slot, and the state of a vehicle's ECUs.

The first byte of an input says which, see `TARGETS`. `python -m tests.fuzz.fuzz_resume [libFuzzer's options] [DIRECTORY]` runs it with
atheris; `take_input` alone needs nothing but the package.
"""

import contextlib
import hashlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Final

from packager.vehicle.core.applier import Applier
from packager.vehicle.core.head import Head
from packager.vehicle.core.journal import JOURNAL_BYTES, MAGIC, MAX_FAILURES, SLOT_BYTES, Binding, Journal
from packager.vehicle.errors import ResourceError, UntrustedError
from packager.vehicle.identity import Digest
from packager.vehicle.installation.state import encode_state, parse_state
from tests.faulty_storage import MemoryFile
from tests.sample_bundles import Sample, full_mixed

BINDING: Final = Binding(Digest.of(b"bundle"), Digest.of(b"ecu"), Digest.of(b"plan"))
BOUND: Final = b"".join(digest.value for digest in (BINDING.bundle, BINDING.ecu, BINDING.plan))
NUMBERS_BYTES: Final = 8 + 4 + 4 + 1


def journal_of(data: bytes) -> bytes:
    """Return a journal's content: any bytes, half for each slot."""
    middle = len(data) // 2
    return data[:middle].ljust(SLOT_BYTES, b"\0")[:SLOT_BYTES] + data[middle:].ljust(SLOT_BYTES, b"\0")[:SLOT_BYTES]


def sealed(data: bytes) -> bytes:
    """Return a journal's content whose checksums fit: numbers of the input, sequence first, for each slot."""
    slots = []
    for at in (0, NUMBERS_BYTES):
        numbers = data[at : at + NUMBERS_BYTES].ljust(NUMBERS_BYTES, b"\0")
        body = MAGIC + numbers[:8] + BOUND + numbers[8:]
        slots.append((body + hashlib.sha256(body).digest()).ljust(SLOT_BYTES, b"\0"))
    return b"".join(slots)


def read_journal(content: bytes) -> None:
    """Open a journal and write to it; what was written must come back."""
    file = MemoryFile(JOURNAL_BYTES, content=content)
    journal = Journal(file, BINDING)
    before = journal.entry
    if before.failures >= MAX_FAILURES:
        with contextlib.suppress(ResourceError):
            journal.start()
            raise AssertionError("started after ten failures")
    else:
        journal.start()
        assert journal.entry.failures == before.failures + 1
    journal.finished(before.position)
    journal.intend(before.position)
    assert Journal(MemoryFile(JOURNAL_BYTES, content=bytes(file.content)), BINDING).entry == journal.entry


def resume(data: bytes) -> None:
    """Go on with any journal from a slot where any blocks survived; the new image must come out, of the missing bytes alone."""
    sample, head = _sample()
    content = bytearray(sample.new)
    survivors = data[0] if data else 0
    missing_bytes = 0
    for position in range(len(head.index)):
        start, _ = head.manifest.block_range(position)
        if not survivors >> position & 1:
            content[start] ^= 0xFF
            missing_bytes += head.index[position].blob_bytes
    slot = MemoryFile(0, content=bytes(content))
    journal = Journal(
        MemoryFile(JOURNAL_BYTES, content=(sealed if survivors & 0x80 else journal_of)(data[1:])), BINDING
    )
    if journal.entry.failures >= MAX_FAILURES and journal.entry.position >= content_end(survivors, len(head.index)):
        return
    with Applier(head, None, slot, journal=journal) as applier:
        ranges = applier.missing_ranges(gap_bytes=0)
        assert sum(end - start for start, end in ranges) == missing_bytes
        for start, end in ranges:
            applier.feed(sample.data[start:end], start)
        assert applier.finish().image == head.manifest.new
    assert slot.content == sample.new


def content_end(survivors: int, count: int) -> int:
    """Return the position of the first block that did not survive."""
    return next((position for position in range(count) if not survivors >> position & 1), count)


def read_state(data: bytes) -> None:
    """Read a vehicle's state; what is accepted must come back from what is written of it."""
    try:
        found = parse_state(data)
    except UntrustedError:
        return
    assert parse_state(encode_state(found)) == found


TARGETS: Final[tuple[Callable[[bytes], None], ...]] = (
    lambda data: read_journal(journal_of(data)),
    lambda data: read_journal(sealed(data)),
    resume,
    read_state,
)


def take_input(data: bytes) -> None:
    """Take one input; raises what must not happen."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


@cache
def _sample() -> tuple[Sample, Head]:
    sample = full_mixed()
    return sample, sample.head


def main() -> None:
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, take_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
