"""Downloads: only the pinned file is kept; a silent registry and a refused file are told apart. With the real pip, without a network."""

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from packager.model.errors import SupplyChainError
from sample_images.catalogue import Package, RealImage
from sample_images.conversion import Conversion
from sample_images.registry import Registry, UnreachableError

PACKAGE = Package("sample-thing", "MIT", "https://example.org", is_wheel=True, abi="", platforms=())
FILE = "sample_thing-1.0-py3-none-any.whl"


def image(sha256: str) -> RealImage:
    return RealImage(PACKAGE, "1.0", FILE, sha256, Conversion("member", "thing/data"), "0" * 64, 1)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local directory takes the registry's place."""
    directory = tmp_path / "registry"
    directory.mkdir()
    path = directory / FILE
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing/data", "x")
        archive.writestr(
            "sample_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sample-thing\nVersion: 1.0\n"
        )
        archive.writestr(
            "sample_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("sample_thing-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_keeps_the_pinned_file_and_does_not_download_it_twice(tmp_path: Path, wheel: Path) -> None:
    registry = Registry(tmp_path / "cache")
    path = registry.fetch(image(sha256(wheel)))
    assert path.read_bytes() == wheel.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == [FILE]
    broken_pip = Registry(tmp_path / "cache", [sys.executable, "-c", "raise SystemExit(9)"])
    assert broken_pip.fetch(image(sha256(wheel))) == path


def test_a_file_with_another_hash_is_refused_by_pip_and_not_kept(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(SupplyChainError, match="the registry answers, but pip did not deliver") as caught:
        Registry(tmp_path / "cache").fetch(image("ab" * 32))
    assert caught.value.exit_code == 50
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_registry_without_an_answer_is_unreachable(tmp_path: Path, wheel: Path) -> None:
    pinned = image(sha256(wheel))
    wheel.unlink()
    with pytest.raises(UnreachableError, match="does not answer"):
        Registry(tmp_path / "cache").fetch(pinned)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_file_in_the_cache_is_replaced(tmp_path: Path, wheel: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / FILE).write_bytes(b"damaged")
    assert Registry(cache, None).cached(image(sha256(wheel))) is None
    assert not (cache / FILE).exists()


def test_a_pip_that_does_not_check_hashes_is_not_believed(tmp_path: Path) -> None:
    script = tmp_path / "pip.py"
    script.write_text(
        "import pathlib, sys\n"
        "arrived = pathlib.Path(sys.argv[sys.argv.index('-d') + 1])\n"
        f"arrived.mkdir()\n(arrived / {FILE!r}).write_bytes(b'other')\n"
    )
    with pytest.raises(SupplyChainError, match="expected " + "ab" * 32):
        Registry(tmp_path / "cache", [sys.executable, str(script)]).fetch(image("ab" * 32))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_pip_that_succeeds_without_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SupplyChainError, match="did not deliver"):
        Registry(tmp_path / "cache", [sys.executable, "-c", ""]).fetch(image("ab" * 32))


def test_a_pip_that_hangs_is_given_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(UnreachableError):
        Registry(tmp_path / "cache", command, timeout_s=0.3).fetch(image("ab" * 32))


def test_without_pip_only_the_cache_is_used(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="the registry is not asked"):
        Registry(tmp_path / "cache", None).fetch(image("ab" * 32))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (PACKAGE, ["--only-binary", ":all:"]),
        (
            Package("p", "MIT", "https://example.org", is_wheel=True, abi="abi3", platforms=("x_aarch64", "y_aarch64")),
            ["--only-binary", ":all:", "--abi", "abi3", "--platform", "x_aarch64", "y_aarch64"],
        ),
        (
            Package("p", "MIT", "https://example.org", is_wheel=False, abi="", platforms=()),
            ["--no-binary", "p", "--no-build-isolation"],
        ),
    ],
)
def test_asks_pip_for_one_pinned_file_with_hash_checking(tmp_path: Path, package: Package, expected: list[str]) -> None:
    log = tmp_path / "log"
    script = tmp_path / "pip.py"
    script.write_text(
        "import pathlib, sys\n"
        "requirements = pathlib.Path(sys.argv[sys.argv.index('-r') + 1]).read_text()\n"
        f"pathlib.Path({str(log)!r}).write_text(' '.join(sys.argv[1:]) + '|' + requirements)\n"
    )
    wanted = RealImage(package, "1.0", FILE, "ab" * 32, Conversion("member", "m"), "0" * 64, 1)
    with pytest.raises(SupplyChainError):
        Registry(tmp_path / "cache", [sys.executable, str(script)]).fetch(wanted)
    command, _, requirements = log.read_text().partition("|")
    assert {"download", "--no-deps", "--require-hashes", *expected} <= set(command.split())
    assert requirements == f"{package.name}==1.0 --hash=sha256:{'ab' * 32}\n"
