"""The committed catalogue and release files, and how a wrong catalogue is reported."""

from pathlib import Path

import pytest

import sample_images
from packager.config.release import read_release
from packager.model.errors import ConfigError
from sample_images.catalogue import CATALOGUE, read_catalogue

HERE = Path(sample_images.__file__).parent
DOMAINS = {"powertrain", "chassis-safety", "body", "infotainment", "telematics"}


def test_has_at_least_four_real_kinds_with_three_successive_versions_each() -> None:
    kinds: dict[str, list[str]] = {}
    for image in read_catalogue():
        if image.real:
            kinds.setdefault(image.kind, []).append(image.version)
            assert image.real.package.source.startswith("https://")
            assert image.real.package.licence
    assert len(kinds) >= 4
    assert min(map(len, kinds.values())) >= 3


def test_every_image_of_the_releases_is_in_the_catalogue_and_fits_its_ecu() -> None:
    images = {HERE / "images" / image.name: image for image in read_catalogue()}
    for name in ("os7.toml", "small.toml"):
        release, _ = read_release(HERE / name)
        for ecu in release.ecus:
            assert len(ecu.old) >= 2
            assert ecu.domain in DOMAINS
            for source in (ecu.new, *ecu.old):
                image = images[source.path]
                length = max(image.firmware.flash_bytes, image.real.image_bytes if image.real else 0)
                assert length <= ecu.profile.flash_bytes, (ecu.name, source.version)
        assert sum(ecu.byte_share_percent for ecu in release.ecus) == 100
        assert sum(ecu.time_share_percent for ecu in release.ecus) == 100


def test_the_release_has_the_usual_ecus_in_every_domain() -> None:
    release, _ = read_release(HERE / "os7.toml")
    assert len(release.ecus) >= 10
    assert {ecu.domain for ecu in release.ecus} == DOMAINS
    roles = {ecu.name for ecu in release.ecus}
    assert roles >= {"DME", "EGS", "ACSM", "DSC", "BDC", "ZGW", "KOMBI", "HU", "TCB", "NAV"}


def test_the_small_release_needs_no_registry() -> None:
    release, _ = read_release(HERE / "small.toml")
    generated = {HERE / "images" / image.name for image in read_catalogue() if image.real is None}
    assert {source.path for ecu in release.ecus for source in (ecu.new, *ecu.old)} <= generated


def test_lists_all_problems_at_once(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(
        '[[generated]]\nkind = "a"\ntitle = "A"\nisa = "z80"\nflash_kib = 15\nseed = 1\ncolour = "red"\n'
        'version = [{ version = "1", step = 0 }]\n'
        '[[real]]\nkind = "b"\ndistribution = "egg"\n'
    )
    with pytest.raises(ConfigError) as caught:
        read_catalogue(path)
    text = "\n".join(caught.value.problems)
    for expected in ("'z80', expected one of thumb2, aarch64", "15360, expected 16384", "colour is unknown", "'egg'"):
        assert expected in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('sha256 = "5f3b', 'sha256 = "5F3b', "expected 64 lower-case"),
        ('file = "uflash-1.0.3', 'file = "../uflash-1.0.3', "expected the file name of a .whl or .tar.gz"),
        ('version = "1.1.0"\nfile', 'version = "1.0.3"\nfile', "cortex-m0/1.0.3.bin is listed twice"),
    ],
)
def test_refuses_a_catalogue_with_one_fault(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = CATALOGUE.read_text()
    assert old in text
    path = tmp_path / "catalogue.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=expected):
        read_catalogue(path)


def test_says_when_the_catalogue_is_missing_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        read_catalogue(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(ConfigError, match="can't be read"):
        read_catalogue(tmp_path / "bad.toml")
