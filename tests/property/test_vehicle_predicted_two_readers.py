"""Predicted blocks of any rules over any bytes: the vehicle's reader and the one written from the specification make the same image."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from packager.diff.prediction import Mode
from packager.vehicle.core.predicted import ADAPTIVE, LITERALS_KNOW_OLD, LITERALS_KNOW_SOURCE, WITHOUT_PIECES
from packager.vehicle.core.predictors import page_count
from packager.vehicle.core.segments import Segment
from packager.vehicle.instructions import ALL_GROUPS, Group, InstructionSet
from tests import spec_reader
from tests.predicted_bundles import predicted
from tests.predicted_cases import code
from tests.property.test_vehicle_two_readers import apply, both
from tests.sample_bundles import Sample


@st.composite
def bundles(draw: st.DrawFn) -> Sample:
    """A bundle of one or two blocks whose pages take turns with up to three modes."""
    sets = draw(st.lists(st.sampled_from(InstructionSet), min_size=1, max_size=3))
    seed = draw(st.integers(0, 1 << 30))
    old = b"".join(code(seed + n, kind, draw(st.integers(40, 2500))) for n, kind in enumerate(sets))
    segments, at = [], 0
    for _ in range(draw(st.integers(0, 12))):
        at += draw(st.integers(0, 9))
        length = draw(st.integers(1, min(900, len(old))))
        segments.append(Segment(at, draw(st.integers(0, len(old) - length)), length))
        at += length
    new = bytearray(code(seed + 9, sets[0], at + draw(st.integers(1, 9))))
    for new_offset, old_offset, length in segments:
        if draw(st.booleans()):
            new[new_offset : new_offset + length] = old[old_offset : old_offset + length]
    groups = st.one_of(st.just(int(ALL_GROUPS)), st.integers(0, int(ALL_GROUPS)))
    base = st.sampled_from((0, 1, 0x08000000, (1 << 62) - 1, (1 << 64) - (1 << 62)))
    modes = [Mode(kind, Group(draw(groups)), draw(base)) for kind in sets]
    pages = bytes(draw(st.integers(0, len(modes) - 1)) for _ in range(page_count(len(new))))
    one_block = len(new) <= 1 << 14 and draw(st.booleans())
    known = st.sampled_from([0, LITERALS_KNOW_SOURCE, *([LITERALS_KNOW_OLD] if one_block else [])])
    flags = [
        draw(st.sampled_from((0, 1, 2, 1 | ADAPTIVE))) | draw(known) | draw(st.sampled_from([0, 0, WITHOUT_PIECES]))
        for _ in range(2)
    ]
    words = sorted({int.from_bytes(old[4 * n :][:4], "little") for n in range(len(old) // 4)})
    known_words = words[:: draw(st.integers(1, 9))] if draw(st.booleans()) else []
    values = (array("I", known_words), array("I", (word + seed & 0xFFFFFFFF for word in known_words)))
    block_log2 = 14 if one_block else 12
    return predicted("", old, bytes(new), modes, segments, flags, pages=pages, block_log2=block_log2, values=values)


@settings(max_examples=60, deadline=None)
@given(bundles())
def test_both_readers_make_the_image(sample: Sample) -> None:
    assert apply(sample.data, sample.old, sample.signed) == sample.new
    assert spec_reader.decode(sample.data, sample.old, sample.head_bytes, sample.signed.digest.value) == sample.new


@settings(max_examples=60, deadline=None)
@given(bundles(), st.data())
def test_both_readers_say_the_same_of_a_changed_section(sample: Sample, data: st.DataObject) -> None:
    """A byte of section 4 is another one, with hashes that fit."""
    count = int.from_bytes(sample.data[6:8], "little")
    lengths = [int.from_bytes(sample.data[16 + 6 * n + 2 :][:4], "little") for n in range(count)]
    ids = [sample.data[16 + 6 * n] for n in range(count)]
    start = 16 + 6 * count + sum(lengths[: ids.index(4)])
    changed = bytearray(sample.data[: sample.head_bytes])
    changed[start + data.draw(st.integers(0, lengths[ids.index(4)] - 1))] = data.draw(st.integers(0, 255))
    changed[-32:] = spec_reader.sha(changed[:-32])
    first, second = both(bytes(changed) + sample.blobs, sample.old, sample.head_bytes)
    assert first == second
