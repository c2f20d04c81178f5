"""The commands of a repository's life, killed (SIGKILL) before every single change that they make to the file system, and run again."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from packager.cli import packager
from packager.cli.failure import run
from packager.pipeline.verify import load_repository, verify_evidence
from packager.repo.staged import read_staged
from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.errors import UntrustedError
from sample_images.catalogue import CATALOGUE, read_catalogue
from sample_images.obtaining import obtain
from sample_images.registry import Registry

PROJECT = Path(__file__).parents[2]
AT = "--issued-at=2026-11-20"
LATER = "--issued-at=2026-11-21"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
VERSIONS = ("1.1.0", "1.2.0")
CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

pytestmark = pytest.mark.long


def packager_in_a_child(place: Path, words: str, dies_at: int | None = None) -> tuple[int, int]:
    """Run a command in a process of its own; returns its exit code, -9 if it was killed, and how many changes it made."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            is_writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
            if (is_writing or event in CHANGES) and arguments[0] != os.devnull:
                if count == dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1

        os.chdir(place)
        sys.dont_write_bytecode = True  # the first run would make more changes than the others
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as the child lives
        sys.addaudithook(watch)
        code = run(packager, words.split(), "packager")
        os.write(writer, str(count).encode())
        os._exit(code)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        changes = int(pipe.read() or "-1")
    return os.waitstatus_to_exitcode(status), changes


def do(place: Path, words: str) -> None:
    assert packager_in_a_child(place, words)[0] == 0, words


def sign_all(place: Path) -> None:
    for role, file in read_staged(place / "site").items():
        keys = {"root": ("root-1", "root-2"), "targets": ("targets-1", "targets-2")}.get(role, (role.split(".")[0],))
        for key in keys:
            do(place, f"repo sign site/staged/{file.name} --key {key} --sha256 {file.digest.hex}")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a repository that offers the first of two releases, and the second one, built."""
    place = tmp_path_factory.mktemp("office")
    (place / "keys").mkdir()
    shutil.copy(PROJECT / "keys/policy.toml", place / "keys")
    wanted = [image for image in read_catalogue(CATALOGUE) if image.kind in ("small-engine", "small-gateway")]
    obtain(wanted, place / "images", Registry(place / "cache", None), lambda _: None)
    head, engine, gateway, _ = (PROJECT / "sample_images/small.toml").read_text().split("[[ecu]]")
    ecus = [ecu.partition("[[ecu.old]]")[0] for ecu in (engine, gateway)]
    (place / "2.toml").write_text("[[ecu]]".join((head, *ecus)))
    text = (place / "2.toml").read_text().replace("1.2.0", "1.1.0").replace("07/2020.45", "07/2020.44")
    (place / "1.toml").write_text(text.replace("release_counter = 3", "release_counter = 2"))
    do(place, f"keys create {AT}")
    for number in (1, 2):
        do(place, f"build {number}.toml --unsigned --out release-{number} --jobs 1 --effort 1 {AT}")
    do(place, f"repo init site {AT}")
    do(place, f"repo publish site --allow-demo-keys {AT}")
    do(place, f"chain approve release-1 {AT}")
    do(place, f"repo propose site release-1 {AT}")
    sign_all(place)
    do(place, f"repo publish site --allow-demo-keys {AT}")
    return place


def nothing(_: Path) -> None:
    pass


def approved(place: Path) -> None:
    do(place, f"chain approve release-2 {AT}")


def proposed(place: Path) -> None:
    approved(place)
    do(place, f"repo propose site release-2 {AT}")


def signed(place: Path) -> None:
    proposed(place)
    sign_all(place)


def with_other_online_keys(place: Path) -> None:
    approved(place)
    policy = place / "keys/policy.toml"
    policy.write_text(
        policy.read_text().replace('["snapshot"]', '["snapshot-2"]').replace('["timestamp"]', '["stamp-2"]')
    )
    do(place, "keys create snapshot-2 stamp-2")
    do(place, f"repo propose site release-2 {AT}")
    sign_all(place)


def offered(place: Path) -> set[str]:
    """Return the versions that a car is offered, as far as it sees."""
    root = (place / "keys/public/root.json").read_bytes()
    targets = load_repository(place / "site/repo", root, NOW).delegations.everything()
    return {target.version for target in targets if isinstance(target, ImageTarget)}


CASES: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "approve": (nothing, f"chain approve release-2 {LATER}", 0),
    "propose": (approved, f"repo propose site release-2 {LATER}", 0),
    "sign": (proposed, "repo sign site/staged/2.targets.json --key targets-1 --sha256 {targets}", 0),
    "publish": (signed, f"repo publish site --allow-demo-keys {LATER}", 0),
    "publish and exchange the online keys": (
        with_other_online_keys,
        f"repo publish site --allow-demo-keys {LATER}",
        5,  # between the root and the timestamp that goes with it, temporary files included
    ),
    "refresh": (nothing, f"repo refresh site --warn-days 100 {LATER}", 0),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_before_every_change_and_run_again(case: str, office: Path, tmp_path: Path) -> None:
    prepare, words, blind = CASES[case]
    before = tmp_path / "before"
    shutil.copytree(office, before)
    prepare(before)
    staged = read_staged(before / "site")
    words = words.format(targets=staged["targets"].digest.hex if "targets" in staged else "")
    whole = tmp_path / "whole"
    shutil.copytree(before, whole)
    code, changes = packager_in_a_child(whole, words)
    assert (code, changes > 1) == (0, True)
    refused = 0
    for dies_at in range(changes):
        place = tmp_path / "killed"
        shutil.copytree(before, place)
        assert packager_in_a_child(place, words, dies_at)[0] == -signal.SIGKILL
        try:
            seen = offered(place)
            assert seen <= {*VERSIONS}
            assert len(seen) == 1
        except UntrustedError:
            refused += 1
        is_over = "publish" in case and not list((place / "site/staged").iterdir())
        if not is_over:
            assert packager_in_a_child(place, words)[0] == 0, f"killed before change {dies_at} of {changes}"
        assert offered(place) == offered(whole)
        assert names(place) == names(whole)
        verify_evidence(place / "site", (place / "keys/public/root.json").read_bytes(), NOW)
        shutil.rmtree(place)
    assert refused <= blind


def names(place: Path) -> set[str]:
    """Return what lies there; numbers of snapshots, of which a killed publication may have used one up, apart."""
    found = {str(path.relative_to(place)) for path in place.rglob("*")}
    return {name for name in found if not name.endswith(".snapshot.json")}
