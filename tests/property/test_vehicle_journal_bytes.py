"""Whatever a journal's file holds, also behind a checksum that fits: it opens, and the next entry comes back."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.vehicle.core.journal import JOURNAL_BYTES, MAGIC, MAX_FAILURES, SLOT_BYTES, Binding, Journal
from packager.vehicle.errors import ResourceError
from packager.vehicle.identity import Digest
from tests.faulty_storage import MemoryFile

BINDING = Binding(Digest.of(b"bundle"), Digest.of(b"ecu"), Digest.of(b"plan"))
BOUND = b"".join(digest.value for digest in (BINDING.bundle, BINDING.ecu, BINDING.plan))
NUMBERS = st.one_of(st.integers(0, 12), st.sampled_from([2**31, 2**32 - 1, 2**63 - 2, 2**63 - 1, 2**63, 2**64 - 1]))


def slot(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


@st.composite
def sealed_slots(draw: st.DrawFn) -> bytes:
    """A slot whose checksum fits, with numbers that follow no rule."""
    binding = draw(st.sampled_from([BOUND, BOUND[:-1] + b"!", bytes(len(BOUND))]))
    numbers = [draw(NUMBERS) & (1 << 8 * width) - 1 for width in (8, 4, 4, 1)]
    sequence, position, intent, failures = (
        number.to_bytes(width, "little") for number, width in zip(numbers, (8, 4, 4, 1), strict=True)
    )
    return slot(draw(st.sampled_from([MAGIC, b"\x89OTX"])) + sequence + binding + position + intent + failures)


def goes_on(*slots: bytes) -> None:
    content = b"".join(slot.ljust(SLOT_BYTES, b"\0") for slot in slots)
    file = MemoryFile(JOURNAL_BYTES, content=content)
    journal = Journal(file, BINDING)
    before = journal.entry
    if before.failures >= MAX_FAILURES:
        with pytest.raises(ResourceError, match="starts failed"):
            journal.start()
        return
    journal.start()
    assert journal.entry.failures == before.failures + 1
    assert Journal(MemoryFile(JOURNAL_BYTES, content=bytes(file.content)), BINDING).entry == journal.entry


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_any_bytes(first: bytes, second: bytes) -> None:
    goes_on(first, second)


def test_the_highest_number_starts_again_and_still_counts() -> None:
    number, rest = (2**63 - 1).to_bytes(8, "little"), bytes(4) + b"\xff" * 4 + b"\0"
    for slots in ((slot(MAGIC + number + BOUND + rest), b""), (b"", slot(MAGIC + number + BOUND + rest))):
        goes_on(*slots)


@given(sealed_slots(), sealed_slots())
def test_any_numbers_behind_a_checksum_that_fits(first: bytes, second: bytes) -> None:
    goes_on(first, second)
