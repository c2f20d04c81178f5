"""Section 4 of a head and the blob of a predicted block: each rule from both sides."""

import subprocess
import sys
from array import array
from dataclasses import replace

import pytest

from packager.diff.prediction import Mode
from packager.vehicle._pure_adaptive import write_adaptive
from packager.vehicle._pure_predict import label_block, label_source
from packager.vehicle._pure_stretch import Context, Kind
from packager.vehicle.core.codec import CodecLimits
from packager.vehicle.core.head import SignedHead, read_head, required_memory_bytes
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.predicted import OldPart, make_predicted
from packager.vehicle.core.predictors import address_map, page_count, parse_predictors
from packager.vehicle.core.segments import Segment, SegmentMap
from packager.vehicle.errors import CorruptError, IncompatibleError
from packager.vehicle.identity import Digest
from packager.vehicle.instructions import Group, InstructionSet
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint, zigzag
from tests.c.core import ROOT
from tests.predicted_bundles import RAW_AND_ZSTD, arm32, behind_an_insertion, predicted, predicted_samples, thumb2
from tests.sample_bundles import PROFILE, Sample, column, copy_one_block, noise
from tests.spec_reader import sha

LIMITS = CodecLimits(RAW_AND_ZSTD, 1 << 20)
WITH_ADAPTIVE = RAW_AND_ZSTD | {Coder.ADAPTIVE}
THUMB_CALLS = bytes((InstructionSet.THUMB2, Group.CALLS))
BASE = encode_varint(zigzag(0x08000000))


def parse(
    section: bytes,
    *,
    new_bytes: int = 10_000,
    segments: tuple[Segment, ...] = (Segment(0, 0, 1),),
    values: tuple[int, int] = (0, 0),
) -> Context:
    return parse_predictors(
        memoryview(section), segments, old_bytes=9000, new_bytes=new_bytes, values=values, limits=LIMITS
    )


def section(*modes: bytes, version: int = 1, count: int | None = None, rest: bytes = b"") -> bytes:
    return bytes((version, len(modes) if count is None else count)) + b"".join(mode + BASE for mode in modes) + rest


def test_one_mode_needs_no_pages() -> None:
    context = parse(section(THUMB_CALLS))
    assert (context.sets, context.groups, list(context.bases)) == (b"\1", b"\1", [0x08000000])
    assert context.pages == bytes(3)


@pytest.mark.parametrize(("new_bytes", "pages"), [(1, 1), (4096, 1), (4097, 2), (10_000, 3)])
def test_the_last_page_may_be_short(new_bytes: int, pages: int) -> None:
    assert page_count(new_bytes) == pages
    parse(section(THUMB_CALLS, b"\0\0", rest=column(bytes(pages))), new_bytes=new_bytes)
    for wrong in (pages - 1, pages + 1):
        with pytest.raises(CorruptError, match=r"pages|column of"):
            parse(section(THUMB_CALLS, b"\0\0", rest=column(bytes(wrong))), new_bytes=new_bytes)


def test_sixteen_modes_are_the_most() -> None:
    pages = column(b"\0\x0f\0")
    parse(section(*[THUMB_CALLS] * 16, rest=pages))
    for modes, count in (([THUMB_CALLS] * 17, 17), ([], 0)):
        with pytest.raises(CorruptError, match=f"{count} modes, expected 1 to 16"):
            parse(section(*modes, rest=pages))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (section(THUMB_CALLS, version=2), IncompatibleError, "version 2, expected 1"),
        (section(THUMB_CALLS, version=0), IncompatibleError, "version 0, expected 1"),
        (section(b"\x09\x01"), IncompatibleError, "newer reader"),
        (section(THUMB_CALLS, rest=b"\0"), CorruptError, "left over"),
        (section(THUMB_CALLS, count=2), CorruptError, "predictors"),
        (section(THUMB_CALLS)[:-1], CorruptError, "predictors"),
        (section(THUMB_CALLS, THUMB_CALLS, rest=column(b"\0\1\2")), CorruptError, "the highest 2"),
        (section(THUMB_CALLS, THUMB_CALLS, rest=column(b"\0\1\1") + b"\0"), CorruptError, "left over"),
        (section(THUMB_CALLS, THUMB_CALLS, rest=bytes((3 << 2 | 2, 1, 0))), CorruptError, "LZMA"),
        (b"", CorruptError, "predictors"),
    ],
)
def test_broken_sections(content: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse(content)


@pytest.mark.parametrize("known", [b"\x05\x01", b"\x01\xff", b"\x00\x00"])
def test_known_sets_and_groups(known: bytes) -> None:
    parse(section(known))


def value_section(gaps: list[int], changes: list[int], rest: bytes = b"") -> bytes:
    """Return a section whose only mode looks for values."""
    columns = [b"".join(map(encode_varint, gaps)), b"".join(encode_varint(zigzag(change)) for change in changes)]
    return section(bytes((0, Group.VALUES)), rest=b"".join(map(column, columns)) + rest)


def test_a_value_map_has_ascending_numbers_and_what_they_become() -> None:
    context = parse(value_section([0, 0, 5], [3, -4, 0]), values=(3, 100))
    assert list(context.old_values) == [0, 1, 7]
    assert list(context.new_values) == [3, 0, 6]
    assert context.value(7) == 6
    assert context.value(6) is None


@pytest.mark.parametrize(
    ("content", "values", "message"),
    [
        (value_section([1 << 32], [0]), (1, 100), "number 4294967296, expected at most"),
        (value_section([(1 << 32) - 1, 0], [0, 0]), (2, 100), "number 4294967296, expected at most"),
        (value_section([1, 2], [0, 0]), (1, 100), "left over"),
        (value_section([1, 2], [0, 0]), (3, 100), "cut short|ends|expected"),
        (value_section([1, 2], [0, 0], b"\0"), (2, 100), "left over"),
        (value_section([1, 2], [0, 0]), (2, 3), "column of 2 bytes, expected at most 1"),
        (value_section([1, 2], [0, 0]), (0, 100), "left over"),
    ],
)
def test_broken_value_maps(content: bytes, values: tuple[int, int], message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        parse(content, values=values)


def test_the_largest_number_is_known() -> None:
    context = parse(value_section([(1 << 32) - 1], [3]), values=(1, 100))
    assert context.value((1 << 32) - 1) == 2


@pytest.mark.parametrize("base", [-(1 << 62), -(1 << 47), 0, (1 << 62) - 1])
def test_a_base_is_a_signed_address(base: int) -> None:
    context = parse(bytes((1, 1)) + THUMB_CALLS + encode_varint(zigzag(base)))
    assert list(context.bases) == [base % (1 << 64)]


def test_the_address_map_gives_old_bytes_to_the_first_that_has_them() -> None:
    segments = [Segment(0, 100, 50), Segment(50, 100, 200), Segment(300, 250, 100), Segment(500, 120, 10)]
    starts, shifts = address_map(segments)
    assert (list(starts), list(shifts)) == ([100, 300], [-50, 50])
    assert [list(part) for part in address_map([])] == [[], []]
    same = [Segment(40, 0, 10), Segment(7, 0, 10)]
    assert list(address_map(same)[1]) == [7]


def head_with(sample: Sample, content: bytes | None) -> tuple[bytes, SignedHead]:
    """Return the head of a bundle without names, with `content` as section 4 (None: without one), its memory and hash made right."""
    head = sample.data[: sample.head_bytes]
    count = int.from_bytes(head[6:8], "little")
    sections, at = {}, 16 + 6 * count
    for place in range(16, 16 + 6 * count, 6):
        length = int.from_bytes(head[place + 2 : place + 6], "little")
        sections[head[place]] = head[at : at + length]
        at += length
    sections[4] = content or b""
    if content is None:
        del sections[4]
    more = 6 * (len(sections) - count) + sum(map(len, sections.values())) - (at - 16 - 6 * count)
    behind = 3 if sections[1][4] >> Op.PREDICTED & 1 else 2  # empty version, no names, no values
    memory = int.from_bytes(sections[1][-behind - 4 : -behind], "little") + more
    sections[1] = sections[1][: -behind - 4] + memory.to_bytes(4, "little") + sections[1][-behind:]
    made = head[:6] + len(sections).to_bytes(2, "little") + head[8:16]
    made += b"".join(bytes((n, 1)) + len(sections[n]).to_bytes(4, "little") for n in sorted(sections))
    made += b"".join(sections[n] for n in sorted(sections))
    made += sha(made)
    return made, SignedHead(len(made), Digest.of(made))


def test_the_section_is_there_if_and_only_if_blocks_need_it() -> None:
    one_mode = section(THUMB_CALLS)
    assert read_head(*head_with(thumb2(), one_mode), PROFILE).predictors is not None
    with pytest.raises(CorruptError, match="missing with them"):
        read_head(*head_with(thumb2(), None), PROFILE)
    assert read_head(*head_with(copy_one_block(), None), PROFILE).predictors is None
    with pytest.raises(CorruptError, match="present without predicted blocks"):
        read_head(*head_with(copy_one_block(), one_mode), PROFILE)


def test_the_vehicle_needs_predictors() -> None:
    sample = thumb2()
    assert read_head(sample.data[: sample.head_bytes], sample.signed, PROFILE).predictors is not None
    with pytest.raises(IncompatibleError, match="needs predictors"):
        read_head(sample.data[: sample.head_bytes], sample.signed, replace(PROFILE, predictors=False))


@pytest.mark.parametrize("sample", predicted_samples(), ids=lambda sample: sample.name)
def test_memory_counts_the_maps_the_pages_and_the_whole_old_image(sample: Sample) -> None:
    head = sample.head
    manifest = head.manifest
    plain = head.length_bytes + 20 * manifest.segment_count + manifest.max_blob_bytes + manifest.max_decoded_bytes
    plain += manifest.max_source_bytes + manifest.max_output_bytes
    plain += (192 << 10) * (Coder.ZSTD in manifest.coders)
    if Coder.LZMA in manifest.coders:
        plain += (64 << 10) + max(manifest.max_output_bytes, manifest.max_decoded_bytes) + manifest.max_source_bytes
    if Coder.ADAPTIVE in manifest.coders:
        plain += (12 << 10) + (4 << 12)
    more = 16 * manifest.segment_count + 8 * manifest.value_count + page_count(manifest.new.length_bytes)
    more += manifest.max_source_bytes if manifest.block_count == 1 else 0
    assert required_memory_bytes(manifest, head.length_bytes) == manifest.memory_bytes == plain + more
    with pytest.raises(IncompatibleError, match="bytes of memory, the ECU has"):
        read_head(
            sample.data[: sample.head_bytes],
            sample.signed,
            replace(PROFILE, ram_bytes=manifest.memory_bytes - 1),
        )


def make(
    blob: bytes,
    *,
    whole: bytes = b"",
    max_decoded_bytes: int = 100,
    length_bytes: int = 12,
    coders: frozenset[Coder] = RAW_AND_ZSTD,
) -> bytes:
    """Decode a block at byte 0 whose bytes 2 to 10 follow 8 old ones; nothing is predicted in it."""
    context = parse(section(b"\0\0"))
    out = bytearray(length_bytes)
    old = OldPart(memoryview(bytearray(b"abcdefgh")), memoryview(bytearray(whole)))
    pieces = SegmentMap.of([Segment(2, 50, 8)]).cut(0, length_bytes)
    make_predicted(
        context,  # type: ignore[arg-type]
        memoryview(blob),
        "block 0",
        pieces,
        old,
        memoryview(out),
        0,
        max_decoded_bytes,
        replace(LIMITS, coders=coders),
    )
    return bytes(out)


def blob(flags: int, literals: bytes = b"<<>>", gaps: bytes = b"", values: bytes = b"") -> bytes:
    return bytes((flags,)) + column(literals) + column(gaps) + column(values)


@pytest.mark.parametrize(
    ("flags", "gaps", "values", "made"),
    [
        (0, b"", b"", b"<<abcdefgh>>"),
        (0, b"\0\1", b"\1\2", b"<<bbedefgh>>"),
        (0, b"\7", b"\1", b"<<abcdefgi>>"),
        (1, b"\0\2", b"\1\1\0\1", b"<<bcdefgh".replace(b"bcdefgh", b"bccdefgi") + b">>"),
        (2, b"\0", b"\1\0\0\1", b"=<ac" + b"defgh>>".replace(b"defgh", b"cdefgh")),
        (2, b"\2", b"\0\0\0\1", b"<<abcdefgh>?"),
    ],
)
def test_values_are_added_to_units_counted_from_the_start_of_the_block(
    flags: int, gaps: bytes, values: bytes, made: bytes
) -> None:
    assert make(blob(flags, gaps=gaps, values=values)) == made


def test_a_short_last_unit_drops_the_rest_of_its_value() -> None:
    assert make(blob(2, b"<<>", b"\2", b"\0\0\1\7"), length_bytes=11) == b"<<abcdefgh?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (blob(3), "flags 0x3"),
        (blob(64), "flags 0x40"),
        (blob(128), "flags 0x80"),
        (blob(12), "flags 0xc"),
        (blob(8), "whole old image"),
        (blob(0) + b"\0", "left over"),
        (blob(0, literals=b"<<>"), "block"),
        (blob(0, literals=b"<<>>>"), "block"),
        (blob(0, gaps=b"\0"), "block"),
        (blob(0, values=b"\0"), "block"),
        (blob(0, gaps=b"\x08", values=b"\1"), "block"),
        (blob(0, gaps=b"\x80", values=b"\1"), "block|varint"),
        (blob(0, gaps=b"\x80\0", values=b"\1"), "block|varint"),
        (blob(2, gaps=b"\0", values=b"\1\2\3"), "block"),
        (blob(16), "block"),
        (b"", "block"),
    ],
)
def test_broken_blobs(content: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        make(content)


def adaptive(stream: bytes, flags: int = 33) -> bytes:
    return bytes((flags,)) + column(b"<<>>") + stream


def test_adaptive_residuals_take_the_rest_of_the_blob() -> None:
    made, wanted = b"<<abcdefgh>>", b"<<abcdefgx>>"
    stream = write_adaptive(made, wanted, (2, 8))
    assert make(adaptive(write_adaptive(made, made, (2, 8))), coders=WITH_ADAPTIVE) == made
    assert make(adaptive(stream), coders=WITH_ADAPTIVE) == wanted
    with pytest.raises(CorruptError, match="left over"):
        make(adaptive(stream + bytes(8)), coders=WITH_ADAPTIVE)


@pytest.mark.parametrize("flags", [32, 34])
def test_adaptive_residuals_have_units_of_two_bytes(flags: int) -> None:
    with pytest.raises(CorruptError, match="expected 2"):
        make(adaptive(b"", flags), coders=WITH_ADAPTIVE)


def test_adaptive_residuals_are_declared() -> None:
    with pytest.raises(CorruptError, match="needs coder ADAPTIVE, which the manifest does not declare"):
        make(adaptive(b""))


def test_without_pieces_all_is_literals() -> None:
    assert make(blob(16, b"twelve bytes")) == b"twelve bytes"
    with pytest.raises(CorruptError):
        make(blob(16, b"twelve bytes", b"\0", b"\1"))


def test_columns_stay_within_the_cap_together() -> None:
    content = blob(0, gaps=b"\0\1", values=b"\1\2")
    assert make(content, max_decoded_bytes=8)
    with pytest.raises(CorruptError, match="column of 2 bytes, expected at most 1"):
        make(content, max_decoded_bytes=7)


def test_the_whole_old_image_is_known_only_where_it_is_the_old_part() -> None:
    assert make(blob(8), whole=b"some") == b"<<abcdefgh>>"
    assert arm32().head.index[0].source_digest is None


def test_no_page_no_rewriting() -> None:
    """The context of a head has all pages; one that has fewer leaves the rest alone."""
    old = noise(1, 100)
    sample = predicted("", old, old, [Mode(InstructionSet.NONE, Group(0), 0)], [Segment(0, 0, 100)], [0])
    assert sample.head.predictors is not None
    assert sample.head.predictors.pages == b"\0"
    assert behind_an_insertion(1000)[1] == Segment(276, 256, 744)
    assert array("Q", sample.head.predictors.starts).tolist() == [0]


def test_the_pure_twin_makes_the_golden_bundles() -> None:
    """`PACKAGER_PURE` chooses it; the compiled kernel is what the other tests run."""
    program = (
        "from packager.vehicle import kernel, _pure_adaptive, _pure_predict\n"
        "from tests.predicted_bundles import predicted_samples\n"
        "from tests.property.test_vehicle_two_readers import apply\n"
        "assert kernel.add_adaptive is _pure_adaptive.add_adaptive\n"
        "assert kernel.label_block is _pure_predict.label_block\n"
        "assert all(apply(s.data, s.old, s.signed) == s.new for s in predicted_samples())\n"
    )
    environment = {"PACKAGER_PURE": "1", "PYTHONPATH": str(ROOT), "PATH": ""}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)


def cells_context(groups: int = Group.CALLS, pages: int = 2) -> Context:
    return Context(
        bytes((InstructionSet.BTREE,)),
        bytes((groups,)),
        array("Q", (0,)),
        bytes(pages),
        array("Q"),
        array("q"),
        2 * 4096,
        2 * 4096,
    )


def cells_page(kind: int, places: list[int]) -> bytearray:
    start = 12 if kind in (2, 5) else 8
    page = bytearray(4096)
    page[0] = kind
    page[3:5] = len(places).to_bytes(2, "big")
    page[start : start + 2 * len(places)] = b"".join(place.to_bytes(2, "big") for place in places)
    return page


@pytest.mark.parametrize(("kind", "start"), [(2, 12), (5, 12), (10, 8), (13, 8)])
def test_places_of_cells_become_distances(kind: int, start: int) -> None:
    """Big-endian; the first from the end of the page, the others from the one before, modulo 2**16."""
    page = cells_page(kind, [4000, 3990, 4090])
    label_block(cells_context(), Kind.LABEL, page, 4096)
    assert page[:start] == cells_page(kind, [4000, 3990, 4090])[:start]
    assert page[start : start + 8] == bytes.fromhex("0060 000a ff9c 0000")


@pytest.mark.parametrize(("count", "touched"), [(2044, True), (2045, False)])
def test_a_list_that_is_longer_than_its_page_is_none(count: int, touched: bool) -> None:
    page = cells_page(13, [4000, 3990])
    page[3:5] = count.to_bytes(2, "big")
    before = bytes(page)
    label_block(cells_context(), Kind.LABEL, page, 0)
    assert (page != before) == touched


def test_other_pages_and_other_groups_are_left() -> None:
    for kind, groups in ((1, 255), (13, 254)):
        page = cells_page(kind, [4000, 3990])
        before = bytes(page)
        label_block(cells_context(groups), Kind.LABEL, page, 0)
        assert page == before


def test_a_list_without_its_header_is_guessed() -> None:
    """It starts with the first number, which stays, and ends with one that does not descend or leads before itself."""
    cut = cells_page(13, [4000, 3990, 3900, 3950, 3000])[10:]
    label_source(cells_context(), cut, array("Q", (10, len(cut), 10)))
    assert cut[:8] == bytes.fromhex("0f96 005a 0f6e 0bb8")


@pytest.mark.parametrize(
    ("found", "made"),
    [("0f00 0104", "0f00 0dfc"), ("0f00 0103", "0f00 0103"), ("0fff 0f00", "0fff 00ff"), ("1000 0f00", "1000 0f00")],
)
def test_what_is_guessed_lies_behind_its_list_and_in_its_page(found: str, made: str) -> None:
    stretch = bytearray.fromhex(found)
    label_source(cells_context(), stretch, array("Q", (0x100, 4, 0x100)))
    assert stretch == bytearray.fromhex(made)


def table_context(mode: tuple[InstructionSet, int, int], pages: bytes = b"\0", image_bytes: int = 1 << 20) -> Context:
    """Return one in which old bytes from 0x8000 on moved by 0x100."""
    instruction_set, groups, base = mode
    return Context(
        bytes((InstructionSet.NONE, instruction_set)),
        bytes((0, groups)),
        array("Q", (0, base)),
        bytes((page + 1) % 256 for page in pages),
        array("Q", (0, 0x8000)),
        array("q", (0, 0x100)),
        image_bytes,
        image_bytes,
    )


def distance(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "little")


def test_a_distance_becomes_its_target_in_the_upper_half() -> None:
    rules = table_context((InstructionSet.DISTANCES, Group.CALLS, 0x1000))
    block = bytearray(distance(0x9000) + distance(-0x1000 - 4) + distance(0x9000 - 8))
    label_block(rules, Kind.LABEL, block, 0x10)
    assert block == distance(0x80009010) + distance(-0x1004) + distance(0x80009010)
    label_block(rules, Kind.UNLABEL, block, 0x10)
    assert block == distance(0x9000) + distance(-0x1004) + distance(0x8FF8)
    source = bytearray(distance(0x9000) + distance(0x6000))
    label_source(rules, source, array("Q", (0, 8, 0x10)))
    assert source == distance(0x80009110) + distance(0x80006014)


@pytest.mark.parametrize(
    ("value", "place", "is_distance"),
    [
        (0x1000, 0, True),
        (0xFFF, 0, False),
        (-0x1000, 0x1000, True),
        (-0xFFF, 0x1000, False),
        (-0x1004, 0x1000, False),
        ((1 << 20) - 4, 0, True),
        (1 << 20, 0, False),
    ],
)
def test_only_long_distances_within_the_image_are_labels(value: int, place: int, is_distance: bool) -> None:
    block = bytearray(distance(value))
    label_block(table_context((InstructionSet.DISTANCES, Group.CALLS, 0x1000), bytes(256)), Kind.LABEL, block, place)
    assert (block != distance(value)) == is_distance
    assert block in (distance(value), distance(value + place + (1 << 31)))


def test_what_stood_where_a_target_goes_takes_the_place_of_the_distance() -> None:
    rules = table_context((InstructionSet.DISTANCES, Group.CALLS, 0x1000))
    block = bytearray(distance(0x80009010))
    label_block(rules, Kind.LABEL, block, 0x10)
    assert block == distance(0x9000)
    label_block(rules, Kind.UNLABEL, block, 0x10)
    assert block == distance(0x80009010)


@pytest.mark.parametrize(("image_bytes", "labelled"), [(1 << 30, True), ((1 << 30) + 1, False)])
def test_distances_of_longer_images_are_left(image_bytes: int, labelled: bool) -> None:
    rules = table_context((InstructionSet.DISTANCES, Group.CALLS, 0x1000), image_bytes=image_bytes)
    for kind in (Kind.LABEL, Kind.UNLABEL):
        block = bytearray(distance(0x9000))
        label_block(rules, kind, block, 0)
        assert (block != distance(0x9000)) == labelled


def test_records_become_the_differences_from_the_one_before() -> None:
    rules = table_context((InstructionSet.RECORDS, Group.CALLS, 3))
    block = bytearray.fromhex("ff0007 000108 050106")
    label_block(rules, Kind.LABEL, block, 0)
    assert block == bytes.fromhex("ff0007 010001 0500fe")  # 0x080100 - 0x0700ff, 0x060105 - 0x080100
    label_block(rules, Kind.UNLABEL, block, 0)
    assert block == bytes.fromhex("ff0007 000108 050106")


def test_big_endian_records_become_the_differences_from_the_one_behind() -> None:
    rules = table_context((InstructionSet.RECORDS, Group.CONDITIONAL, 3))
    block = bytearray.fromhex("070001 0800ff 090100")
    label_block(rules, Kind.LABEL, block, 0)
    assert block == bytes.fromhex("feff01 feffff 090100")  # one less: the borrow of the record behind
    label_block(rules, Kind.UNLABEL, block, 0)
    assert block == bytes.fromhex("070001 0800ff 090100")


@pytest.mark.parametrize(("length", "touched"), [(0, False), (1, True), (255, True), (256, False)])
def test_records_have_one_to_255_bytes(length: int, touched: bool) -> None:
    block = bytearray(b"\1" * 600)
    label_block(table_context((InstructionSet.RECORDS, Group.CALLS, length)), Kind.LABEL, block, 0)
    assert (block != b"\1" * 600) == touched


@pytest.mark.parametrize("groups", [int(Group.CALLS), int(Group.CONDITIONAL)])
def test_records_go_on_through_the_pages_of_one_mode(groups: int) -> None:
    data = bytes(at % 251 for at in range(3 * 4096))
    whole, cut = bytearray(data), bytearray(data)
    label_block(table_context((InstructionSet.RECORDS, groups, 7), bytes(3)), Kind.LABEL, whole, 0)
    label_block(table_context((InstructionSet.RECORDS, groups, 7), bytes((0, 255, 0))), Kind.LABEL, cut, 0)
    assert whole[5000:5007] != data[5000:5007]
    assert cut[4096:8192] == data[4096:8192]
    one_by_one = [bytearray(data[at : at + 4096]) for at in (0, 8192)]
    for at, page in zip((0, 8192), one_by_one, strict=True):
        label_block(table_context((InstructionSet.RECORDS, groups, 7), bytes(3)), Kind.LABEL, page, at)
    assert [cut[:4096], cut[8192:]] == one_by_one
    assert whole.count(7) > 2 * 4096 or whole.count(248) > 2 * 4096


@pytest.mark.parametrize("instruction_set", [InstructionSet.DISTANCES, InstructionSet.RECORDS])
def test_tables_without_their_group_are_left(instruction_set: InstructionSet) -> None:
    block = bytearray(distance(0x9000) * 4)
    label_block(table_context((instruction_set, 0xFC, 4)), Kind.LABEL, block, 0)
    assert block == distance(0x9000) * 4
