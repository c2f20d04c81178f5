"""Repair and pre-flight: exactly the damaged blocks are fetched, within the signed limit, and both are known beforehand."""

from dataclasses import replace
from pathlib import Path

import pytest

from packager.vehicle.core.journal import MAX_FAILURES
from packager.vehicle.errors import CorruptError, IncompatibleError, ResourceError, TemporaryError, VehicleError
from packager.vehicle.identity import ImageId
from packager.vehicle.installation.home import VehicleHome
from packager.vehicle.installation.install import check
from packager.vehicle.installation.preflight import Forecast
from packager.vehicle.installation.state import EcuState
from tests.repository_simulator import BLOCK_BYTES, NOW, make_bundle
from tests.vehicle_car import IN_PLACE, SPARE, Car, damage, edited, image, repository_with

BLOCKS = 12
OLD = image(1, BLOCKS * BLOCK_BYTES)
NEW = edited(OLD)
LIMIT = 5 * BLOCK_BYTES
pytestmark = pytest.mark.parametrize("has_spare", [True, False], ids=["spare slot", "in place"])


class World:
    """A repository with one release and a car in it."""

    def __init__(self, root: Path, has_spare: bool, limit: int | None = LIMIT) -> None:
        self.repository = repository_with("bdc")
        self.profile = SPARE if has_spare else IN_PLACE
        self.repository.release("bdc", "bdc", "2", 2, NEW, OLD, profile=self.profile, max_repair_bytes=limit)
        self.repository.publish()
        self.delta, self.full = (
            make_bundle("bdc", "2", 2, old, NEW, profile=self.profile).target for old in (OLD, None)
        )
        self.car = Car(root, self.repository, {"BDC": ("bdc", has_spare)})

    def reads_of_full(self) -> list[tuple[int, int]]:
        return [(start, end) for path, start, end in self.repository.reads if path == self.full.path]

    def blob_ranges(self, *blocks: int) -> list[tuple[int, int]]:
        """Return where the blobs of these blocks lie in the full bundle; they are raw, so all have a block's length."""
        starts = [self.full.head.length_bytes + block * BLOCK_BYTES for block in blocks]
        return [(start, start + BLOCK_BYTES) for start in starts]

    def forecast(self) -> Forecast:
        before = self.car.files(), self.car.slot("BDC")
        found = check(self.car.home, self.repository, self.repository, NOW).ecus[0]
        after = [
            name for name in self.car.files() if not name.startswith(("metadata/", "state/lock", "state/clock.json"))
        ]
        assert after == [
            name for name in before[0] if not name.startswith(("metadata/", "state/lock", "state/clock.json"))
        ]
        assert self.car.slot("BDC") == before[1]
        return found

    def refused(self, kind: type[VehicleError], wrong: str) -> None:
        before = self.car.slot("BDC")
        with pytest.raises(kind, match=wrong):
            self.car.update()
        assert self.car.slot("BDC") == before
        assert self.car.state("BDC").begun is None


@pytest.mark.parametrize("blocks", [(0,), (7,), (2, 3, 11)])
@pytest.mark.parametrize("recorded", [True, False])
def test_exactly_the_damaged_blocks_are_fetched(
    tmp_path: Path, has_spare: bool, blocks: tuple[int, ...], recorded: bool
) -> None:
    world = World(tmp_path, has_spare)
    if recorded:
        world.car.home.write_state({"BDC": EcuState("a", 1, ImageId.of(OLD))})
    world.car.put("BDC", damage(OLD, *blocks))
    predicted = world.forecast()
    assert (predicted.bundle, predicted.damaged) == (world.delta, blocks)
    assert predicted.repair_bytes == len(blocks) * BLOCK_BYTES
    world.repository.reads.clear()
    entry = world.car.update().ecus[0]
    assert world.car.active("BDC") == NEW
    assert entry.repaired_blocks == len(blocks)
    head = (0, world.full.head.length_bytes)
    assert sorted(set(world.reads_of_full())) == sorted([head, *world.blob_ranges(*blocks)])
    assert len(world.reads_of_full()) == 1 + len(blocks), "the head for the plan and the repair, every blob once"
    heads_bytes = world.delta.head.length_bytes + world.full.head.length_bytes
    assert predicted.survey_bytes == heads_bytes
    assert predicted.bundle_bytes == world.delta.length_bytes - world.delta.head.length_bytes
    assert entry.downloaded_bytes == predicted.download_bytes
    assert f"{len(blocks)} blocks from the full bundle" in entry.note
    assert world.car.state("BDC").installed == ImageId.of(NEW)


def test_an_undamaged_image_reads_nothing_of_the_full_bundle(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    world.car.put("BDC", OLD)
    predicted = world.forecast()
    assert (predicted.damaged, predicted.repair_bytes, predicted.bundle) == ((), 0, world.delta)
    world.repository.reads.clear()
    assert world.car.update().ecus[0].downloaded_bytes == predicted.download_bytes == world.delta.length_bytes
    assert not world.repository.reads


def test_a_delta_beyond_the_profile_is_in_the_forecast(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    wide = make_bundle("bdc", "2", 2, OLD, NEW, profile=replace(world.profile, block_bytes=8192))
    world.repository.add_bundle("bdc", wide)
    world.repository.publish()
    world.car.put("BDC", OLD)
    predicted = world.forecast()
    assert (predicted.bundle, predicted.survey_bytes) == (world.full, wide.target.head.length_bytes)
    assert "blocks of 8192 bytes" in predicted.note
    entry = world.car.update().ecus[0]
    assert entry.bundle == world.full
    assert 0 <= entry.downloaded_bytes - predicted.download_bytes < world.repository.chunk_bytes


def test_the_limit_from_both_sides(tmp_path: Path, has_spare: bool) -> None:
    needed = 3 * BLOCK_BYTES + World(tmp_path / "x", has_spare).full.head.length_bytes
    world = World(tmp_path / "a", has_spare, needed - 1)
    world.car.put("BDC", damage(OLD, 1, 5, 6))
    wrong = f"damaged in 3 blocks; repairing them takes {needed} bytes of the full bundle, the signed policy allows {needed - 1}"
    assert wrong in world.forecast().problem
    world.refused(IncompatibleError, wrong)
    assert not world.repository.streams, "nothing but heads was read"
    world = World(tmp_path / "b", has_spare, needed)
    world.car.put("BDC", damage(OLD, 1, 5, 6))
    world.car.update()
    assert world.car.active("BDC") == NEW


def test_a_limit_of_zero_is_never(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare, 0)
    world.car.put("BDC", damage(OLD, 1))
    world.refused(IncompatibleError, "the signed policy allows 0")


def test_a_wholly_unknown_image_gets_the_full_bundle_and_it_is_told(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    world.car.put("BDC", image(9, len(OLD)))
    predicted = world.forecast()
    assert (predicted.bundle, predicted.damaged) == (world.full, ())
    entry = world.car.update().ecus[0]
    assert entry.bundle == world.full
    assert "no bundle from the installed image" in entry.note
    assert "nothing of it is of a known image" in entry.note
    assert world.car.active("BDC") == NEW


def test_without_a_policy_the_full_bundle_remains_the_way_out(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare, None)
    world.car.put("BDC", damage(OLD, 1))
    assert world.car.update().ecus[0].bundle == world.full
    assert world.car.active("BDC") == NEW


def test_an_image_that_only_grew_a_tail_needs_no_repair(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    world.car.put("BDC", OLD + bytes(1000))
    entry = world.car.update().ecus[0]
    assert (entry.bundle, entry.repaired_blocks) == (world.delta, 0)
    assert world.car.active("BDC") == NEW


def test_a_truncated_image_is_repaired_too(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    world.car.put("BDC", OLD[: -2 * BLOCK_BYTES + 10])
    entry = world.car.update().ecus[0]
    assert (entry.bundle, entry.repaired_blocks) == (world.delta, 2)
    assert world.car.active("BDC") == NEW


def test_the_bundle_that_needs_the_fewest_bytes_is_found(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    older = edited(image(5, 4 * BLOCK_BYTES) + OLD[4 * BLOCK_BYTES :], 7)
    world.repository.add_bundle("bdc", make_bundle("bdc", "2", 2, older, NEW, profile=world.profile))
    world.repository.publish()
    world.car.put("BDC", damage(OLD, 3))
    entry = world.car.update().ecus[0]
    assert (entry.bundle, entry.repaired_blocks) == (world.delta, 1)


def test_the_record_of_what_was_installed_is_only_a_hint(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    other = image(5, len(OLD))
    world.repository.add_bundle("bdc", make_bundle("bdc", "2", 2, other, NEW, profile=world.profile))
    world.repository.publish()
    world.car.home.write_state({"BDC": EcuState("a", 1, ImageId.of(other))})
    world.car.put("BDC", damage(OLD, 3))
    entry = world.car.update().ecus[0]
    assert (entry.bundle, entry.repaired_blocks) == (world.delta, 1)


@pytest.mark.parametrize(
    ("what", "wrong"), [("head", "head: found"), ("blob", "block 4: its blob of 4096 bytes is not the signed")]
)
def test_a_damaged_full_bundle_repairs_nothing(tmp_path: Path, has_spare: bool, what: str, wrong: str) -> None:
    world = World(tmp_path, has_spare)
    data = bytearray(world.repository.contents[world.full.path])
    data[30 if what == "head" else world.blob_ranges(4)[0][0] + 9] ^= 1
    world.repository.contents[world.full.path] = bytes(data)
    world.car.put("BDC", damage(OLD, 4))
    with pytest.raises(CorruptError, match=wrong):
        world.car.update()
    assert world.car.active("BDC") != NEW


def test_without_a_full_bundle_there_is_no_repair(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    del world.repository.delegated["bdc"].targets[world.full.path]
    world.repository.publish()
    world.car.put("BDC", damage(OLD, 4))
    world.refused(IncompatibleError, "no bundle from .* and no full bundle|there is no full bundle")


def test_a_full_bundle_in_another_grid_repairs_nothing(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    wide = make_bundle("bdc", "2", 2, None, NEW, profile=replace(SPARE, block_bytes=8192))
    world.repository.add_bundle("bdc", wide)
    world.repository.publish()
    world.car.put("BDC", damage(OLD, 4))
    with pytest.raises(IncompatibleError, match="blocks of 8192 bytes"):
        world.car.update()
    assert world.car.active("BDC") != NEW


def test_damage_that_comes_during_the_update_is_repaired_within_the_limit(
    tmp_path: Path, has_spare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = World(tmp_path / "x", has_spare).full.head.length_bytes + 2 * BLOCK_BYTES
    for limit, is_enough in ((needed, True), (needed - 1, False)):
        world = World(tmp_path / str(limit), has_spare, limit)
        world.car.put("BDC", damage(OLD, 4, 5))
        with monkeypatch.context() as patch:
            patch.setattr(VehicleHome, "identify", lambda *_: ImageId.of(OLD))  # it was whole when it was looked at
            patch.setattr("packager.vehicle.installation.preparation.holds_image", lambda *_: False)
            if is_enough:
                assert world.car.update().ecus[0].repaired_blocks == 2
            else:
                with pytest.raises(
                    IncompatibleError, match=f"at least {needed} bytes, the signed policy allows {limit}"
                ):
                    world.car.update()
        if is_enough:
            assert world.car.active("BDC") == NEW


def test_after_ten_failures_a_wider_policy_starts_anew(
    tmp_path: Path, has_spare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = World(tmp_path / "x", has_spare).full.head.length_bytes + BLOCK_BYTES
    world = World(tmp_path / "car", has_spare, needed - 1)
    world.car.put("BDC", damage(OLD, 4))
    with monkeypatch.context() as patch:  # it was whole when it was looked at
        patch.setattr(VehicleHome, "identify", lambda *_: ImageId.of(OLD))
        patch.setattr("packager.vehicle.installation.preparation.holds_image", lambda *_: False)
        for _ in range(MAX_FAILURES + 1):  # the first one makes progress
            with pytest.raises(IncompatibleError, match="the signed policy allows"):
                world.car.update()
        with pytest.raises(ResourceError, match="10 starts failed at the same block"):
            world.car.update()
        world.repository.add_image("bdc", "bdc", "2", 2, NEW, max_repair_bytes=needed)
        world.repository.publish()
        world.car.update()
    assert world.car.active("BDC") == NEW


def test_repair_goes_on_after_the_server_failed(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    data = world.repository.contents[world.full.path]
    world.repository.contents[world.full.path] = data[: world.blob_ranges(4)[0][0] + 5]
    world.car.put("BDC", damage(OLD, 1, 4))
    with pytest.raises(TemporaryError):
        world.car.update()
    world.repository.contents[world.full.path] = data
    world.car.update()
    assert world.car.active("BDC") == NEW


def test_workers_share_one_limit(tmp_path: Path, has_spare: bool) -> None:
    world = World(tmp_path, has_spare)
    world.car.put("BDC", damage(OLD, *range(4)))
    assert world.car.update(workers=3).ecus[0].repaired_blocks == 4
    assert world.car.active("BDC") == NEW
