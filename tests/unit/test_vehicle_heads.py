"""Heads that are kept beside the state: an update that goes on does not download them again, and never trusts what lies there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from packager.vehicle.errors import CorruptError, ResourceError, TemporaryError
from packager.vehicle.installation.heads import KeptHeads
from packager.vehicle.installation.install import check
from packager.vehicle.installation.preflight import Forecast
from packager.vehicle.storage import DirectoryStorage
from tests.repository_simulator import BLOCK_BYTES, NOW, MadeBundle, make_bundle
from tests.vehicle_car import IN_PLACE, SPARE, Car, damage, edited, image, repository_with

BLOCKS = 8
OLD = image(1, BLOCKS * BLOCK_BYTES)
NEW = edited(OLD)
NEWER = edited(NEW, 3)
SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda head: b"",
    "one byte short": lambda head: head[:-1],
    "one byte long": lambda head: head + b"\0",
    "first bit": lambda head: bytes((head[0] ^ 1,)) + head[1:],
    "last bit": lambda head: head[:-1] + bytes((head[-1] ^ 0x80,)),
    "zeros": lambda head: bytes(len(head)),
    "of another bundle": lambda head: _bundle(None).data[: _bundle(None).head_bytes],
}


def _bundle(old: bytes | None, new: bytes = NEW) -> MadeBundle:
    return make_bundle("bdc", "2", 2, old, new)


class World:
    """A repository with one release, and a car whose update broke off in the middle of it."""

    def __init__(self, root: Path, installed: bytes = OLD, *, has_spare: bool = True) -> None:
        self.profile = SPARE if has_spare else IN_PLACE
        self.repository = repository_with("bdc")
        self.repository.release("bdc", "bdc", "2", 2, NEW, OLD, profile=self.profile, max_repair_bytes=len(NEW))
        self.repository.publish()
        self.delta, self.full = (make_bundle("bdc", "2", 2, old, NEW, profile=self.profile) for old in (OLD, None))
        self.repository.chunk_bytes = 16
        self.car = Car(root, self.repository, {"BDC": ("bdc", has_spare)})
        self.car.put("BDC", installed)
        self.head = root / "state/BDC.head"
        self.repair_head = root / "state/BDC.repair-head"
        self.break_off()

    def break_off(self) -> None:
        head_bytes = self.delta.head_bytes
        self.repository.cut_stream_at = head_bytes + (len(self.delta.data) - head_bytes) // 2
        with pytest.raises(TemporaryError, match="broke off"):
            self.car.update()
        self.repository.cut_stream_at = None
        self.repository.streams.clear()
        self.repository.reads.clear()

    def forecast(self) -> Forecast:
        found = check(self.car.home, self.repository, self.repository, NOW).ecus[0]
        self.repository.reads.clear()
        return found

    def head_reads(self) -> list[str]:
        return [path for path, start, _ in self.repository.reads if start == 0]


@pytest.fixture(params=[True, False], ids=["spare slot", "in place"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    return World(tmp_path, has_spare=request.param)


def test_it_is_kept_read_from_the_disk_and_removed(world: World) -> None:
    assert world.head.read_bytes() == world.delta.data[: world.delta.head_bytes]
    predicted = world.forecast()
    entry = world.car.update().ecus[0]
    assert entry.downloaded_bytes == predicted.download_bytes < len(world.delta.data) - world.delta.head_bytes
    assert not world.repository.reads
    assert all(offset > world.delta.head_bytes for _, offset in world.repository.streams)
    assert world.car.active("BDC") == NEW
    assert not world.head.exists()


@pytest.mark.parametrize("how", [*SPOILT, "gone"])
def test_a_spoilt_one_is_fetched_again(world: World, how: str) -> None:
    """Never trusted: as if it were not there."""
    kept = world.head.read_bytes()
    if how == "gone":
        world.head.unlink()
    else:
        world.head.write_bytes(SPOILT[how](kept))
    predicted = world.forecast()
    entry = world.car.update().ecus[0]
    assert world.head_reads() == [world.delta.target.path]
    assert entry.downloaded_bytes == predicted.download_bytes
    assert world.car.active("BDC") == NEW
    assert not world.head.exists()


def test_the_bytes_of_a_check_are_right_after_every_stop(tmp_path: Path) -> None:
    """Also where blocks were repaired: those that lie in the slot are not fetched again, nor is the full bundle's head."""
    world = World(tmp_path, damage(OLD, 1, 2, 6))
    assert world.repair_head.read_bytes() == world.full.data[: world.full.head_bytes]
    predicted = world.forecast()
    entry = world.car.update().ecus[0]
    assert not world.head_reads()
    assert entry.downloaded_bytes == predicted.download_bytes
    assert predicted.survey_bytes == 0
    assert entry.repaired_blocks == len(predicted.damaged) == 1
    assert world.car.active("BDC") == NEW
    assert not world.repair_head.exists()


def test_a_newer_release_takes_its_place(tmp_path: Path) -> None:
    world = World(tmp_path, damage(OLD, 1))
    assert world.repair_head.exists()
    world.repository.release("bdc", "bdc", "3", 3, NEWER, OLD, max_repair_bytes=None)
    world.repository.publish()
    world.car.put("BDC", OLD)
    newer = make_bundle("bdc", "3", 3, OLD, NEWER)
    world.repository.cut_stream_at = newer.head_bytes + 16
    with pytest.raises(TemporaryError):
        world.car.update()
    assert world.head.read_bytes() == newer.data[: newer.head_bytes]
    assert not world.repair_head.exists()


def test_a_release_that_is_gone_leaves_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository.delegated["bdc"].targets.clear()
    world.repository.publish()
    world.car.update()
    assert not world.head.exists()


def test_what_was_begun_and_is_served_as_another_file_gives_way_to_the_full_bundle(tmp_path: Path) -> None:
    world = World(tmp_path, has_spare=False)
    assert world.car.state("BDC").begun is not None
    path = world.delta.target.path
    world.repository.contents[path] = bytes(len(world.delta.data))
    entry = world.car.update().ecus[0]
    assert entry.bundle == world.full.target
    assert world.car.slot("BDC") == NEW


def test_a_damaged_blob_of_what_was_begun_is_no_reason_for_the_full_bundle(tmp_path: Path) -> None:
    world = World(tmp_path, has_spare=False)
    path = world.delta.target.path
    world.repository.contents[path] = world.delta.data[:-1] + bytes((world.delta.data[-1] ^ 1,))
    with pytest.raises(CorruptError, match="is not the signed one"):
        world.car.update()
    world.repository.contents[path] = world.delta.data
    assert world.car.update().ecus[0].bundle == world.delta.target


@pytest.fixture
def heads(tmp_path: Path) -> KeptHeads:
    return KeptHeads(DirectoryStorage(tmp_path), "a", "b")


def test_one_that_lies_there_is_not_written_again(heads: KeptHeads, tmp_path: Path) -> None:
    full = _bundle(None)
    heads.keep(full.target, full.data[: full.head_bytes])
    before = (tmp_path / "a").stat().st_ino
    heads.keep(full.target, full.data[: full.head_bytes])
    heads.keep_repair(full.target, full.data[: full.head_bytes])
    assert (tmp_path / "a").stat().st_ino == before
    assert not (tmp_path / "b").exists()


def test_an_unreadable_one_counts_as_none(heads: KeptHeads, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert heads.find(_bundle(None).target) is None
    with pytest.raises(ResourceError):
        heads.keep(_bundle(None).target, b"")
