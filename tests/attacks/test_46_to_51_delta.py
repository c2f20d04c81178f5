"""Attacks 46 to 51: what a bundle is applied to, what it may do, and what is left if it fails.

Where it is signed, its builder is hostile."""

import os
import random
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from packager.bundle.forms import Means, Place, delta_form, raw_form
from packager.bundle.writer import CodedBlock, Identity, write_bundle
from packager.vehicle.core.inplace import InPlaceSlot
from packager.vehicle.core.manifest import Op
from packager.vehicle.core.segments import Segment
from packager.vehicle.errors import CorruptError, IncompatibleError, UntrustedError, VehicleError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.installation.inventory import status
from packager.vehicle.profile import Coder
from packager.vehicle.wire import encode_varint
from tests.attacks.scene import DELEGATED, EVIL, HEAD, JOURNAL, LENGTH, NEW, NEWEST, OLD, SLOT, Scene
from tests.repository_simulator import BLOCK_BYTES, RepositorySimulator, make_bundle
from tests.sample_bundles import ALL_CODERS, BLOCK_LOG2, DELTA, Sample, make, reassemble
from tests.vehicle_car import IN_PLACE, Car, damage, repository_with

PREPARING = [*DELEGATED, SLOT, JOURNAL, HEAD]
LABEL: dict[str, Any] = {"version": "9", "release_counter": 9, "hardware_ids": ("bdc",)}
WHOLE = [Segment(0, 0, LENGTH)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def _fails(scene: Scene, kind: type[VehicleError], wrong: str) -> None:
    """Require a refusal that leaves the active slot and the state alone."""
    scene.refused(kind, wrong, may_change=PREPARING)
    assert scene.car.active("BDC") == OLD
    (entry,) = status(scene.car.home)
    assert (entry.installed, entry.is_startable) == (ImageId.of(OLD), True)


# 46: the base, and the verdict on the result


@pytest.mark.parametrize("base", [damage(OLD, 0), damage(OLD, 2), OLD[:-1], OLD + b"\0", b"\0" * LENGTH])
def test_attack_46_a_modified_base_is_told_before_anything_is_applied(scene: Scene, base: bytes) -> None:
    del scene.repository.delegated["body"].targets["bdc/2/full.bundle"]
    scene.repository.publish()
    scene.car.put("BDC", base)
    scene.refused(IncompatibleError, "bdc/2/image: no bundle from .* and no full bundle", may_change=DELEGATED)
    assert not scene.repository.streams
    scene.car.put("BDC", OLD)
    scene.recovers()


def test_attack_46_the_base_changes_while_the_delta_is_applied(scene: Scene) -> None:
    """Hashed whole at first, and every old part once more when it is read."""

    class Changing(RepositorySimulator):
        def stream(self, path: str, offset: int, length_bytes: int) -> Generator[bytes, None, None]:
            scene.car.put("BDC", damage(OLD, 2))
            return scene.repository.stream(path, offset, length_bytes)

    before = scene.car.state("BDC")
    with pytest.raises(IncompatibleError, match="another one or damaged"):
        scene.update(bundles=Changing())
    assert scene.car.state("BDC") == before
    scene.car.put("BDC", OLD)
    scene.recovers()


def _bundle(
    outputs: bytes, new: bytes, old: bytes | None = None, blocks: list[CodedBlock] | None = None, **identity: Any
) -> Sample:
    """Write a bundle that makes `outputs` and says that it makes `new`."""
    made = blocks or [raw_form(_place(number, outputs)) for number in range(-(-len(outputs) // BLOCK_BYTES))]
    said = Identity(ImageId.of(new), None if old is None else ImageId.of(old), BLOCK_LOG2, **{**LABEL, **identity})
    written = write_bundle(said, made, [], ALL_CODERS)
    return Sample("hostile", old, new, written.data, written.head_bytes)


def _place(number: int, image: bytes) -> Place:
    start = number * BLOCK_BYTES
    return Place(number, start, image[start : start + BLOCK_BYTES], None, [])


def test_attack_46_every_block_holds_and_the_image_is_another(scene: Scene) -> None:
    """Uptane deployment practices, table 1: the verdict is on the full image. The head is signed and its hashes fit its blobs."""
    scene.offer_bundle(_bundle(EVIL, NEWEST))
    _fails(scene, CorruptError, "new image: read back .*, expected")
    scene.recovers()


def test_attack_46_the_bundle_makes_another_image_than_signed_metadata_promises(scene: Scene) -> None:
    scene.offer_bundle(_bundle(EVIL, EVIL), image=NEWEST)
    _fails(scene, UntrustedError, "its manifest disagrees with signed metadata: new image")
    scene.recovers()


@pytest.mark.parametrize(
    ("label", "wrong"),
    [
        ({"version": "8"}, "version 8, expected 9"),
        ({"release_counter": 8}, "release counter 8, expected 9"),
        ({"hardware_ids": ("dsc",)}, "hardware dsc, expected bdc"),
        ({"hardware_ids": ()}, "hardware none, expected bdc"),
    ],
)
def test_attack_46_the_bundle_says_something_else_of_itself(scene: Scene, label: dict[str, Any], wrong: str) -> None:
    scene.offer_bundle(_bundle(NEWEST, NEWEST, **label))
    _fails(scene, UntrustedError, f"its manifest disagrees with signed metadata: {wrong}")
    scene.recovers()


# 47: from where to where


def test_attack_47_a_delta_from_another_image(scene: Scene) -> None:
    """From A to B, for a car at C: not even asked for; the full bundle is taken, and without one nothing."""
    scene.car.put("BDC", EVIL)
    report = scene.accepted(NEW)
    assert report.ecus[0].bundle is not None
    assert report.ecus[0].bundle.old is None
    scene.car.put("BDC", EVIL, scene.car.state("BDC").slot)
    scene.publish_alone("3", 3, NEWEST, NEW, full=False)
    scene.refused(IncompatibleError, "no bundle from .* and no full bundle", may_change=DELEGATED)


def test_attack_47_a_delta_under_the_name_of_another_base(scene: Scene) -> None:
    """Its path and signed metadata say that it starts from what is installed; its manifest and its blocks do not."""
    wrong = make_bundle("bdc", "9", 9, EVIL, NEWEST)
    sample = Sample("", OLD, NEWEST, wrong.data, wrong.head_bytes)
    scene.offer_bundle(sample)
    _fails(scene, UntrustedError, "its manifest disagrees with signed metadata: old image")
    scene.recovers()


def test_attack_47_a_chain_without_its_middle(scene: Scene) -> None:
    """From A over B to C, and A to B is gone: deltas are never chained, so B to C helps nobody at A."""
    scene.publish_alone("3", 3, NEWEST, NEW, full=False)
    scene.refused(IncompatibleError, "no bundle from .* and no full bundle", may_change=DELEGATED)
    scene.recovers()


def test_attack_47_a_delta_backwards(scene: Scene) -> None:
    scene.accepted()
    scene.publish_alone("1", 1, OLD, NEW)
    scene.refused(UntrustedError, "release counter 1, but 2 was installed before", may_change=DELEGATED)
    scene.recovers()


# 48: malformed patches, correctly signed


def _delta(blob: bytes, **changes: Any) -> Callable[[Place, Means], CodedBlock]:
    def form(place: Place, means: Means) -> CodedBlock:
        good = delta_form(place, means)
        assert good is not None
        return replace(good, blob=blob or good.blob, **changes) if place.block == 0 else good

    return form


def _dictionary_frame() -> bytes:
    samples = [random.Random(seed).randbytes(30) * 8 for seed in range(100)]
    dictionary = zstandard.train_dictionary(2000, samples)
    parameters = zstandard.ZstdCompressionParameters(format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_dict_id=True)
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(NEWEST[:BLOCK_BYTES])


HUGE = encode_varint(2**62)
BLOBS = {
    "empty": b"\0",
    "noise": random.Random(1).randbytes(500),
    "huge lengths": HUGE * 6,
    "endless number": b"\xff" * 40,
    "zeros": b"\0" * 3000,
    "more than a block": bytes(200) + random.Random(2).randbytes(2 * BLOCK_BYTES),
}


@pytest.mark.parametrize("blob", BLOBS.values(), ids=BLOBS.keys())
def test_attack_48_a_malformed_patch_that_is_signed(scene: Scene, blob: bytes) -> None:
    """CVE-2014-9862 and CVE-2020-15904 among others: lengths that are negative, too large or point elsewhere."""
    scene.offer_bundle(make("", OLD, NEWEST, [_delta(blob)] * 4, WHOLE, **LABEL))
    _fails(scene, CorruptError, "block 0|manifest|index")
    scene.recovers()


@pytest.mark.parametrize(
    "segments",
    [
        [Segment(0, LENGTH - 10, LENGTH)],
        [Segment(0, LENGTH, 100)],
        [Segment(0, 2**40, 100)],
        [Segment(0, 0, LENGTH + 1)],
        [Segment(0, 0, 0)],
        [Segment(LENGTH, 0, 100)],
    ],
    ids=[
        "beyond the old end",
        "at the old end",
        "far beyond",
        "longer than both",
        "empty",
        "no room",
    ],
)
def test_attack_48_copies_that_leave_the_images(scene: Scene, segments: list[Segment]) -> None:
    """The map of what is copied from where is signed, and wrong. Overlaps and steps back can't be written in it."""
    good = make("", OLD, NEWEST, [DELTA] * 4, WHOLE, **LABEL)
    blocks = [
        delta_form(
            Place(n, n * BLOCK_BYTES, NEWEST[n * BLOCK_BYTES :][:BLOCK_BYTES], OLD, []), Means(ALL_CODERS, 1 << 20, 3)
        )
        for n in range(4)
    ]
    assert all(blocks)
    identity = Identity(ImageId.of(NEWEST), ImageId.of(OLD), BLOCK_LOG2, **LABEL)
    written = write_bundle(identity, [b for b in blocks if b], segments, ALL_CODERS)
    assert written.data != good.data
    scene.offer_bundle(Sample("", OLD, NEWEST, written.data, written.head_bytes))
    _fails(scene, CorruptError, "segment")
    scene.recovers()


def test_attack_48_a_frame_that_wants_a_dictionary(scene: Scene) -> None:
    def form(place: Place, means: Means) -> CodedBlock:
        if place.block:
            return raw_form(place)
        return CodedBlock(0, Op.COMPRESSED, Coder.ZSTD, _dictionary_frame(), place.output, window_log2=20)

    scene.offer_bundle(make("", None, NEWEST, [form] * 4, **LABEL))
    _fails(scene, CorruptError, r"dictionary [1-9]\d*")
    scene.recovers()


def test_attack_48_any_changed_byte_of_a_signed_head(scene: Scene) -> None:
    """Whoever signs can write anything: it is refused with a typed error, or makes exactly the image that was promised."""
    good = make("", OLD, NEWEST, [DELTA] * 4, WHOLE, **LABEL)
    head = good.data[: good.head_bytes]
    chooser = random.Random(48)
    state = scene.car.home.root / "state/active.json"
    accepted = tried = 0
    for at in range(4, len(head) - 32, 9):
        changed = bytearray(head)
        changed[at] ^= 1 << chooser.randrange(8)
        changed[-32:] = Digest.of(changed[:-32]).value
        scene.offer_bundle(replace(good, data=bytes(changed) + good.blobs))
        scene.accepted_or_refused()
        tried += 1
        if state.exists():
            assert scene.car.active("BDC") == NEWEST
            accepted += 1
            state.unlink()
        scene.car.put("BDC", b"", "b")
    assert accepted <= tried // 10, "few bytes are without meaning: optional features"
    scene.recovers()


# 49: in place


def test_attack_49_overwriting_is_interrupted_at_every_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again at the same block: nothing is applied twice. Cuts at every write and byte are in tests/fault."""
    repository = repository_with("eps")
    repository.release("eps", "eps", "2", 2, NEW, OLD, profile=IN_PLACE, full=False)
    repository.publish()
    commit = InPlaceSlot.commit
    for stop_at in (1, 2):
        car = Car(tmp_path / str(stop_at), repository, {"EPS": ("eps", False)})
        car.put("EPS", OLD)

        def stop(slot: InPlaceSlot, position: int, output_bytes: int, stop_at: int = stop_at) -> None:
            commit(slot, position, output_bytes)
            if position >= stop_at:
                raise KeyboardInterrupt

        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(InPlaceSlot, "commit", stop)
                with pytest.raises(KeyboardInterrupt):
                    car.update()
            assert [entry.is_startable for entry in status(car.home)] == [False]
        car.update()
        assert car.slot("EPS") == NEW
        assert [entry.is_startable for entry in status(car.home)] == [True]


# 50: the list of blocks


@pytest.mark.parametrize("what", ["swapped", "repeated", "dropped", "last cut", "of another bundle"])
def test_attack_50_blobs_are_rearranged_on_the_server(scene: Scene, what: str) -> None:
    """Nobody signed this: the head lists a hash for every blob."""
    scene.car.put("BDC", EVIL)
    path = "bdc/2/full.bundle"
    data = scene.repository.contents[path]
    head, blobs = data[: len(data) - LENGTH], data[len(data) - LENGTH :]
    parts = [blobs[at : at + BLOCK_BYTES] for at in range(0, LENGTH, BLOCK_BYTES)]
    changed = {
        "swapped": [parts[1], parts[0], *parts[2:]],
        "repeated": [parts[0], parts[0], *parts[2:]],
        "dropped": [*parts[1:], parts[0]],
        "last cut": [*parts[:3], parts[3][:-1] + b"\0"],
        "of another bundle": [EVIL[at : at + BLOCK_BYTES] for at in range(0, LENGTH, BLOCK_BYTES)],
    }[what]
    scene.repository.contents[path] = head + b"".join(changed)
    scene.refused(CorruptError, r"block \d: its blob of \d+ bytes is not the signed one", may_change=PREPARING)
    assert scene.car.active("BDC") == EVIL
    scene.recovers()


def test_attack_50_the_signed_list_of_blocks_is_rearranged(scene: Scene) -> None:
    """Every blob and block fits its record, in the wrong place: the verdict on the full image finds it."""
    swapped = NEWEST[BLOCK_BYTES : 2 * BLOCK_BYTES] + NEWEST[:BLOCK_BYTES] + NEWEST[2 * BLOCK_BYTES :]
    scene.offer_bundle(_bundle(swapped, NEWEST))
    _fails(scene, CorruptError, "new image: read back")
    scene.recovers()


@pytest.mark.parametrize("what", ["dropped", "added", "last short", "first short"])
def test_attack_50_the_signed_list_of_blocks_is_not_the_grid(scene: Scene, what: str) -> None:
    blocks = [raw_form(_place(number, NEWEST)) for number in range(4)]
    if what == "dropped":
        del blocks[-1]
    elif what == "added":
        blocks.append(replace(blocks[-1], block=4))
    else:
        at = 3 if what == "last short" else 0
        blocks[at] = replace(blocks[at], blob=blocks[at].blob[:-1], output=blocks[at].output[:-1])
    scene.offer_bundle(_bundle(NEWEST, NEWEST, blocks=blocks))
    _fails(scene, CorruptError, "index|block|section|head|manifest")
    scene.recovers()


def test_attack_50_the_head_of_another_image(scene: Scene) -> None:
    """Both are signed for this hardware and version; the one's list of blocks is offered as the other's."""
    scene.offer_bundle(_bundle(OLD, OLD), image=NEWEST)
    _fails(scene, UntrustedError, "its manifest disagrees with signed metadata: new image")
    scene.recovers()


def test_attack_50_a_bundle_as_a_blob_of_a_bundle(scene: Scene) -> None:
    """The list of hashes is flat and the head is hashed by length: a blob that looks like a head is only a blob."""
    inner = make("", None, EVIL, [lambda place, _: raw_form(place)] * 4, **LABEL)
    outer = make("", None, inner.data, [lambda place, _: raw_form(place)] * -(-len(inner.data) // BLOCK_BYTES), **LABEL)
    scene.offer_bundle(outer)
    scene.update()
    assert scene.car.active("BDC") == inner.data, "data, not an update to what it holds"
    extra = reassemble(inner.data[: inner.head_bytes], optional=1)
    assert Digest.of(extra) != inner.signed.digest


# 51: early blocks


def test_attack_51_the_last_block_fails(scene: Scene) -> None:
    """Everything before it held and was written, to the slot that is not active; what lies there is no image to anybody."""
    data = scene.repository.contents["bdc/2/full.bundle"]
    scene.car.put("BDC", OLD[:-1])
    scene.repository.contents["bdc/2/full.bundle"] = data[:-1] + bytes((data[-1] ^ 1,))
    scene.refused(CorruptError, "block 3: its blob", may_change=PREPARING)
    assert scene.car.slot("BDC", "b")[: 3 * BLOCK_BYTES] == NEW[: 3 * BLOCK_BYTES]
    assert scene.car.active("BDC") == OLD[:-1]
    assert not (scene.car.home.root / "state/active.json").exists()
    (entry,) = status(scene.car.home)
    assert (entry.installed, entry.is_startable) == (ImageId.of(OLD[:-1]), True)
    scene.recovers()


def test_attack_51_a_half_written_slot_is_no_base(scene: Scene) -> None:
    """Another release follows: it starts from the active image, over whatever the last one left."""
    path = f"bdc/2/{Digest.of(OLD).hex}.bundle"
    data = scene.repository.contents[path]
    scene.repository.contents[path] = data[:-1] + bytes((data[-1] ^ 1,))
    _fails(scene, CorruptError, r"block \d: its blob")
    assert (scene.car.home.root / SLOT).stat().st_size == LENGTH
    scene.publish_alone("3", 3, NEWEST, OLD, full=False)
    scene.accepted(NEWEST)


def test_attack_51_the_read_back_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The medium lies: every block was verified in memory, and something else is read."""
    write = os.pwrite

    def lying(descriptor: int, data: Any, offset: int) -> int:
        if len(memoryview(data)) == BLOCK_BYTES and offset == BLOCK_BYTES:
            data = bytes(data[:-1]) + bytes((data[-1] ^ 1,))
        return write(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lying)
        _fails(scene, CorruptError, "new image: read back")
    scene.recovers()
