"""Attacks 30 to 35: names that leave their directory, bodies that never end, files that change in between."""

import json
import os
import time
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import zstandard

from packager.bundle.forms import Means, Place, raw_form
from packager.bundle.writer import CodedBlock
from packager.vehicle.core.manifest import Op
from packager.vehicle.errors import CorruptError, TemporaryError, UntrustedError, VehicleError
from packager.vehicle.identity import Digest
from packager.vehicle.installation.inventory import status
from packager.vehicle.profile import Coder
from packager.vehicle.trust.metadata_store import NotFoundError
from packager.vehicle.trust.workflow import MAX_ROOT_BYTES
from tests.attacks.hostile_server import honest, serving
from tests.attacks.scene import (
    DELEGATED,
    EVIL,
    HEAD,
    JOURNAL,
    LENGTH,
    NEW,
    NEW_DSC,
    NEWEST,
    OLD,
    OLD_DSC,
    SLOT,
    Scene,
    edit,
    sign,
)
from tests.loopback import PATIENCE_S
from tests.repository_simulator import BLOCK_BYTES, RepositorySimulator
from tests.sample_bundles import Sample, make
from tests.vehicle_car import Car

PREPARING = [*DELEGATED, SLOT, JOURNAL, HEAD]
DELTA = f"bdc/2/{Digest.of(OLD).hex}.bundle"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# Names


@pytest.mark.parametrize(
    "name",
    [
        "../body",
        "../../body",
        "a/../../body",
        "/tmp/body",
        "..",
        ".",
        ".hidden",
        "a\\b",
        "c:body",
        "a\0b",
        "a\nb",
        "a%2fb",
        "a b",
        "bödy",
        "\u202eydob",
        "x" * 65,
        "../state/active",
    ],
)
def test_attack_30_a_role_name_that_is_a_path(scene: Scene, name: str) -> None:
    """CVE-2021-41131 (GHSA-wjw6-2cqr-j4qr): role names became file names."""
    repository = scene.repository
    repository.delegate(name, ["bdc/*/*"])
    assert repository.targets.delegations is not None
    roles = repository.targets.delegations.roles
    assert roles is not None
    repository.targets.delegations.roles = {name: roles.pop(name), **roles}
    repository.publish()
    scene.refused(UntrustedError, "delegates to .*, expected a name that is safe as a path", may_change=DELEGATED)
    del repository.targets.delegations.roles[name], repository.delegated[name]
    repository.rotate("snapshot")  # the listed name has been seen
    scene.recovers()


@pytest.mark.parametrize("name", ["root", "timestamp", "snapshot", "targets"])
def test_attack_30_a_delegated_role_with_the_name_of_a_top_level_one(scene: Scene, name: str) -> None:
    """Its file would take the place of the top-level role's."""
    targets = scene.next_version("targets")
    targets["delegations"]["roles"][0]["name"] = name
    scene.replace("targets", sign(targets, scene.repository.signers["targets"]))
    scene.refused(UntrustedError, "not targets metadata")
    scene.recovers()


@pytest.mark.parametrize(
    "path", ["bdc/../image", "bdc/../../x/image", "bdc/.x/image", "bdc/a\\b/image", "bdc/a\0b/image", "bdc/2/../image"]
)
def test_attack_30_a_target_name_that_is_a_path(scene: Scene, path: str) -> None:
    """CVE-2021-41149, CVE-2026-6968: signed by the domain's own key. Nothing of a target's name becomes a file name here; it is refused
    all the same, or not seen at all as it names no image."""
    before = scene.files()
    scene.repository.add_target("body", path, EVIL, {"release_counter": 9, "hardware_ids": ["bdc"]})
    scene.repository.publish()
    if path.count("/") == 2:
        scene.refused(UntrustedError, "expected <hardware id>/<version>/image or .bundle", may_change=DELEGATED)
    else:
        scene.accepted(NEW)
    assert {*scene.files()} - {*before} <= {*DELEGATED, SLOT, "state/active.json", "state/clock.json"}
    scene.recovers()


# Lengths


@pytest.mark.parametrize("role", ["2.root", "timestamp", "1.snapshot", "1.targets", "1.body"])
def test_attack_31_metadata_that_never_ends(scene: Scene, role: str) -> None:
    if role == "2.root":
        scene.replace("root", b" ")
    with serving(scene.repository) as (server, metadata, targets):
        server.answers[f"{role}.json"] = server.endless(scene.repository.files[f"{role}.json"])
        may_change = DELEGATED if role == "1.body" else ()
        scene.refused(UntrustedError, "longer than", may_change=may_change, metadata=metadata, bundles=targets)
        assert server.received_bytes < MAX_ROOT_BYTES + 100_000, "the longest limit, and what was honest"
    scene.recovers()


def test_attack_31_a_bundle_that_never_ends(scene: Scene) -> None:
    """Not a byte more than was signed is taken."""
    with serving(scene.repository) as (server, metadata, targets):
        server.answers[DELTA] = server.endless(scene.repository.contents[DELTA])
        scene.update(metadata=metadata, bundles=targets)
        assert server.received_bytes < len(scene.repository.contents[DELTA]) + 100_000
    assert scene.car.active("BDC") == NEW


@pytest.mark.parametrize("lie", [-10, 10])
@pytest.mark.parametrize("path", ["timestamp.json", DELTA])
def test_attack_31_the_stated_length_is_a_lie(scene: Scene, path: str, lie: int) -> None:
    def answer(request: BaseHTTPRequestHandler, data: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data) + lie))
        request.end_headers()
        request.wfile.write(data)

    with serving(scene.repository) as (server, metadata, targets):
        server.answers[path] = answer
        if path == "timestamp.json":
            kind = UntrustedError if lie < 0 else TemporaryError
            scene.refused(kind, "timestamp.json", metadata=metadata, bundles=targets)
        else:
            _fails_or_resumes(scene, metadata, targets)
    scene.recovers()


BOMB = zstandard.compress(b"\0" * 50_000_000)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("path", ["timestamp.json", "1.snapshot.json", DELTA])
def test_attack_31_a_compressed_body_is_not_opened(scene: Scene, path: str, coding: str) -> None:
    """A bomb of a few bytes; the decompressor would see what nobody signed."""

    def answer(request: BaseHTTPRequestHandler, data: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Encoding", coding)
        request.send_header("Content-Length", str(len(BOMB)))
        request.end_headers()
        request.wfile.write(BOMB)

    with serving(scene.repository) as (server, metadata, targets):
        server.answers[path] = answer
        may_change = DELEGATED if path == DELTA else ()
        scene.refused(
            TemporaryError, "content is coded with", may_change=may_change, metadata=metadata, bundles=targets
        )
    scene.recovers()


def _bomb(frame: bytes, window_log2: int) -> Sample:
    """Return a bundle whose block is this zstd frame."""

    def form(place: Place, means: Means) -> CodedBlock:
        if place.block:
            return raw_form(place)
        return CodedBlock(0, Op.COMPRESSED, Coder.ZSTD, frame, place.output, window_log2=window_log2)

    identity: dict[str, Any] = {"version": "9", "release_counter": 9, "hardware_ids": ("bdc",)}
    return make("bomb", None, EVIL, [form] * 4, coders=frozenset({Coder.ZSTD}), **identity)


def _frame(data: bytes, **options: Any) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(format=zstandard.FORMAT_ZSTD1_MAGICLESS, **options)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


@pytest.mark.parametrize(
    ("frame", "window_log2", "wrong"),
    [
        (_frame(b"\0" * (64 << 20)), 12, "zstd frame declares 67108864 bytes"),
        (_frame(b"\0" * (64 << 20), write_content_size=False), 12, "zstd frame declares"),
        (_frame(EVIL[:BLOCK_BYTES], window_log=27, write_content_size=False), 12, "zstd frame declares"),
        (_frame(EVIL[: BLOCK_BYTES - 1]), 12, "zstd frame declares 4095 bytes"),
        (_frame(EVIL[:BLOCK_BYTES]) + b"\0", 12, "malformed zstd frame"),
        (_frame(EVIL[:BLOCK_BYTES]) * 2, 12, "malformed zstd frame"),
        (_frame(EVIL[:BLOCK_BYTES], write_checksum=True), 12, "checksum True"),
        (_frame(EVIL[:BLOCK_BYTES])[:-1], 12, "malformed zstd frame"),
    ],
    ids=["1:10^6", "unstated", "window", "short", "trailing", "two frames", "checksum", "truncated"],
)
def test_attack_31_a_signed_zstd_bomb(scene: Scene, frame: bytes, window_log2: int, wrong: str) -> None:
    """The builder himself is hostile: hashes hold, the signed caps and exact lengths do not. Nothing is allocated for it."""
    sample = _bomb(frame, window_log2)
    scene.offer_bundle(sample)
    scene.refused(CorruptError, wrong, may_change=PREPARING)
    assert scene.car.active("BDC") == OLD
    scene.recovers()


# Content


@pytest.mark.parametrize("cut", ["nothing", "head", "last byte"])
def test_attack_32_a_bundle_is_cut_short(scene: Scene, cut: str) -> None:
    data = scene.repository.contents[DELTA]
    scene.repository.contents[DELTA] = {"nothing": b"", "head": data[:100], "last byte": data[:-1]}[cut]
    scene.refused(TemporaryError, r"ended at byte \d+, expected", may_change=PREPARING)
    assert scene.car.active("BDC") == OLD
    scene.recovers()


def test_attack_32_every_part_of_a_bundle_is_held_to_its_hash(scene: Scene) -> None:
    data = scene.repository.contents[DELTA]
    for at in range(0, len(data), 61):
        scene.repository.contents[DELTA] = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        scene.refused(CorruptError, "fetch it again", may_change=PREPARING)
        assert scene.car.active("BDC") == OLD
    scene.recovers()


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("what", ["image", "bundle"])
def test_attack_32_the_right_hash_with_another_length(scene: Scene, what: str, change: int) -> None:
    for path, target in scene.repository.delegated["body"].targets.items():
        if path.endswith(what):
            target.length += change
    scene.repository.publish()
    wrong = r"new image|length \d+ bytes|length \d+, expected \d+|no bundle from"
    scene.refused_in_any_way(wrong, may_change=PREPARING)
    assert scene.car.active("BDC") == OLD
    scene.recovers()


@pytest.mark.parametrize("second", ["sha512", "md5", "blake2b-256"])
def test_attack_32_a_second_listed_hash_is_wrong(scene: Scene, second: str) -> None:
    """Uptane E9: all listed hashes count. Here one alone may be listed, so that none looks checked that is not."""
    for target in scene.repository.delegated["body"].targets.values():
        target.hashes[second] = "0" * 64
    scene.repository.publish()
    scene.refused(UntrustedError, "expected sha256 alone", may_change=DELEGATED)
    scene.recovers()


# Connections


def _fails_or_resumes(scene: Scene, metadata: Any, targets: Any) -> None:
    """Update; afterwards the image is the old or the new one, never a mixture."""
    try:
        scene.update(metadata=metadata, bundles=targets)
    except VehicleError:
        assert scene.car.active("BDC") == OLD
    else:
        assert scene.car.active("BDC") == NEW


def test_attack_33_a_connection_breaks_off_and_the_rest_is_of_another_file(scene: Scene) -> None:
    """aktualizr pull request 972: what was resumed must be verified with what was there before."""
    full = "bdc/2/full.bundle"
    scene.car.put("BDC", b"unknown")
    scene.repository.release("body", "bdc", "2", 2, NEW)
    scene.repository.publish()
    other = scene.repository.contents[full]
    other = other[:300] + bytes(byte ^ 0xFF for byte in other[300:])

    def answer(request: BaseHTTPRequestHandler, data: bytes) -> None:
        if request.headers["Range"] is not None:
            return honest(request, other)
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.send_header("ETag", '"1"')
        request.end_headers()
        request.wfile.write(data[: 2 * BLOCK_BYTES])
        request.close_connection = True
        return None

    with serving(scene.repository) as (server, metadata, targets):
        server.answers[full] = answer
        scene.refused(CorruptError, r"block \d", may_change=PREPARING, metadata=metadata, bundles=targets)
        assert [asked for path, asked in server.requests if path == full] != [None]
        assert scene.car.active("BDC") == b"unknown"
        del server.answers[full]
        scene.update(metadata=metadata, bundles=targets)
    assert scene.car.active("BDC") == NEW


@pytest.mark.parametrize("path", ["timestamp.json", DELTA])
def test_attack_33_a_server_that_falls_silent(scene: Scene, path: str) -> None:
    def answer(request: BaseHTTPRequestHandler, data: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[:50])
        request.wfile.flush()
        request.rfile.read(1)  # until the car hangs up

    with serving(scene.repository, path, attempts=2) as (server, metadata, targets):
        server.answers[path] = answer
        may_change = () if path == "timestamp.json" else PREPARING
        scene.refused(TemporaryError, "Read timed out", may_change=may_change, metadata=metadata, bundles=targets)
        # The bytes that came start the count of attempts anew, unless they came with the first.
        assert [asked for asked, _ in server.requests].count(path) in ((2,) if path == "timestamp.json" else (2, 3))
    scene.recovers()


OK = b"HTTP/1.1 200 OK\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
ANSWERS = {
    "nothing": b"",
    "zeros": b"\0" * 1000,
    "status": b"HTTP/1.1 99999 x\r\n\r\n",
    "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    "huge chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\nabc",
    "no chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "many headers": OK + b"a: b\r\n" * 200 + b"\r\nx",
    "long header": OK + b"a: " + b"b" * 70_000 + b"\r\n\r\nx",
    "range unasked": b"HTTP/1.1 206 P\r\nContent-Range: bytes 10-20/30\r\n\r\nx",
    "redirect malformed": REDIRECT + b"http://[bad\r\n\r\n",
    "redirect port": REDIRECT + b"http://127.0.0.1:port/\r\n\r\n",
    "redirect file": REDIRECT + b"file:///etc/passwd\r\n\r\n",
    "redirect host": REDIRECT + b"http://127.0.0.2/\r\n\r\n",
    "redirect back": REDIRECT + b"?\r\n\r\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("path", ["timestamp.json", DELTA])
def test_attack_33_an_answer_that_is_no_http(scene: Scene, path: str, answer: bytes) -> None:
    def send(request: BaseHTTPRequestHandler, data: bytes) -> None:
        request.wfile.write(answer)
        request.close_connection = True

    with serving(scene.repository) as (server, metadata, targets):
        server.answers[path] = send
        may_change = () if path == "timestamp.json" else DELEGATED
        scene.refused(TemporaryError, r"http://127.0.0.1", may_change=may_change, metadata=metadata, bundles=targets)
        assert len(server.requests) < 12, "a few attempts"
    scene.recovers()


@pytest.mark.parametrize(
    "drop", [b"HTTP/1.1 100 Continue\r\n\r\n", b"a", b"a: b\r\n"], ids=["continue", "byte", "header"]
)
@pytest.mark.parametrize("path", ["timestamp.json", DELTA])
def test_attack_33_an_answer_that_never_begins(
    scene: Scene, path: str, drop: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow retrieval before the first byte of content: never silent, so that no timeout of a socket notices."""
    monkeypatch.setattr("http.client._MAXHEADERS", 1 << 30)  # on a busy machine many come before the time is over

    def send(request: BaseHTTPRequestHandler, data: bytes) -> None:
        if not drop.startswith(b"HTTP"):
            request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            request.wfile.write(drop)
            request.wfile.flush()
            time.sleep(0.005)

    with serving(scene.repository, path, attempts=1) as (server, metadata, targets):
        server.answers[path] = send
        may_change = () if path == "timestamp.json" else DELEGATED
        scene.refused(TemporaryError, "Read timed out", may_change=may_change, metadata=metadata, bundles=targets)
    scene.recovers()


# Changes in between


def test_attack_34_a_prepared_slot_is_replaced_before_it_is_used(tmp_path: Path) -> None:
    """The BDC is ready, the DSC's bundle is not to be had; until the next start somebody changes what was verified."""
    scene = Scene(tmp_path)
    repository = scene.repository
    repository.release("chassis", "dsc", "2", 2, NEW_DSC, OLD_DSC)
    repository.publish()
    car = Car(tmp_path / "two", repository, {"BDC": ("bdc", True), "DSC": ("dsc", True)})
    car.put("BDC", OLD)
    car.put("DSC", OLD_DSC)
    path = f"dsc/2/{Digest.of(OLD_DSC).hex}.bundle"
    held_back = repository.contents.pop(path)
    with pytest.raises(NotFoundError, match="ECU DSC"):
        car.update()
    assert car.slot("BDC", "b") == NEW
    assert car.active("BDC") == OLD
    car.put("BDC", EVIL, "b")
    repository.contents[path] = held_back
    car.update()
    assert [car.active("BDC"), car.active("DSC")] == [NEW, NEW_DSC]


def test_attack_34_a_file_is_replaced_between_its_head_and_its_blobs(scene: Scene) -> None:
    served = scene.repository.contents[DELTA]

    class Swapping(RepositorySimulator):
        def stream(self, path: str, offset: int, length_bytes: int) -> Generator[bytes, None, None]:
            yield served[: len(served) // 3]
            other = bytes(byte ^ 0x55 for byte in served)
            yield other[len(served) // 3 :]

    scene.refused(CorruptError, r"head|block \d", may_change=PREPARING, bundles=Swapping())
    assert scene.car.active("BDC") == OLD
    scene.recovers()


@pytest.mark.parametrize("name", ["root", "timestamp", "snapshot", "targets", "body"])
def test_attack_34_stored_metadata_is_verified_before_it_is_used(scene: Scene, name: str) -> None:
    """Changed in the car's storage after it was verified: never used unverified; a root can't be replaced by one of another's."""
    scene.accepted()
    thief = Scene(scene.root / "thief")
    thief.offer_evil()
    thief.repository.publish()
    thief.accepted(EVIL)
    stored = scene.car.home.root / "metadata" / f"{name}.json"
    good = stored.read_bytes()
    for bad in (
        (thief.car.home.root / "metadata" / f"{name}.json").read_bytes(),
        edit(good, lambda document: document["signed"].__setitem__("version", 9)),
        good[: len(good) // 2],
        b"",
    ):
        stored.write_bytes(bad)
        status(scene.car.home)
        if name == "root":
            with pytest.raises(UntrustedError):
                scene.update()
            stored.write_bytes(good)
        else:
            scene.accepted(NEW)
            assert stored.read_bytes() == good
    scene.recovers()


# Power


class CutError(BaseException):
    """The power is gone."""


@pytest.mark.parametrize("is_torn", [False, True])
def test_attack_35_the_power_is_cut_while_the_image_is_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, is_torn: bool
) -> None:
    """At every write to the slot; the active slot is the old image until the new one is whole. More in tests/fault."""
    write = os.pwrite
    writes = 0
    for stop_at in range(1, 100):
        writes = 0

        def cutting(descriptor: int, data: Any, offset: int, stop_at: int = stop_at) -> int:
            nonlocal writes
            writes += 1
            if writes == stop_at:
                if is_torn:
                    write(descriptor, memoryview(data)[: len(data) // 2], offset)
                raise CutError
            return write(descriptor, data, offset)

        home = scene.car.home.root
        for name in (SLOT, JOURNAL, HEAD):
            (home / name).unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", cutting)
            try:
                scene.update()
                break
            except CutError:
                pass
        assert scene.car.active("BDC") == OLD
        assert scene.car.state("BDC").slot == "a"
    assert writes >= LENGTH // BLOCK_BYTES
    assert scene.car.active("BDC") == NEW
    scene.recovers()
    assert json.loads((home / "state/active.json").read_bytes())["ecus"]["BDC"]["slot"] == "a"
    assert scene.car.slot("BDC") == NEWEST
