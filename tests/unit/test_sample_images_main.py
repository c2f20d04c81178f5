"""The command line of the sample input: results on stdout, the rest on stderr, exit codes, JSON."""

import json
from pathlib import Path

import pytest

import sample_images
from sample_images.__main__ import main

SMALL = Path(sample_images.__file__).with_name("small.toml")
CATALOGUE = """
[[real]]
kind = "things"
title = "Things"
package = "sample-thing"
licence = "MIT"
source = "https://example.org"
distribution = "wheel"
conversion = "member"
stand_in = { isa = "thumb2", flash_kib = 16, seed = 1 }
[[real.version]]
version = "1"
file = "thing-1.whl"
sha256 = "SHA"
member = "data"
image_sha256 = "SHA"
image_bytes = 4
[[generated]]
kind = "made"
title = "Made"
isa = "aarch64"
flash_kib = 16
seed = 2
version = [{ version = "1", step = 0 }]
""".replace("SHA", "ab" * 32)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """Options that keep everything in a directory of the test."""
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(CATALOGUE)
    return [
        "obtain", "--offline", "--catalogue", str(catalogue), "--images", str(tmp_path / "images"),
        "--cache", str(tmp_path / "cache"),
    ]  # fmt: skip


def test_offline_says_clearly_what_is_a_stand_in(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 0
    out, err = capsys.readouterr()
    assert "things: GENERATED stand-ins instead of real images (1 versions)" in err
    assert "1 images are GENERATED stand-ins" in err
    first, second, summary = out.splitlines()
    assert (first.split()[0], first.split()[2:]) == ("things/1.bin", ["generated", "stand-in"])
    assert (second.split()[0], second.split()[2:]) == ("made/1.bin", ["generated"])
    assert summary == "2 images: 0 real, 2 generated"


def test_json_is_one_object_per_line_with_the_summary_last(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["message_type"] for line in lines] == ["image", "image", "summary"]
    assert (lines[0]["origin"], lines[0]["is_stand_in"], lines[1]["is_stand_in"]) == ("generated", True, False)
    assert lines[2] == {"message_type": "summary", "images": 2, "real": 0, "generated": 2, "stand_ins": 1}


def test_one_kind_alone(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--kind", "made"]) == 0
    assert [path.name for path in (tmp_path / "images").iterdir() if path.is_dir()] == ["made"]
    assert "stand-in" not in capsys.readouterr().err
    assert main([*options, "--kind", "nothing"]) == 2
    assert "found nothing, expected some of made, things" in capsys.readouterr().err


def test_a_wrong_catalogue_is_a_configuration_error(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(options[3]).write_text("[[generated]]\n")
    assert main(options) == 2
    assert "kind is missing" in capsys.readouterr().err
    assert main([*options, "--json"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    error = json.loads(line)
    assert (error["message_type"], error["code"]) == ("exit_error", 2)


@pytest.mark.parametrize("blocked", ["images", "images/made"])
def test_a_directory_that_can_not_be_written_is_a_resource_error(
    options: list[str], tmp_path: Path, blocked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / blocked
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"a file")
    assert main([*options, "--kind", "made"]) == 62
    assert "error: " in capsys.readouterr().err


def test_interruption_has_its_own_code(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sample_images.__main__.obtain", interrupt)
    assert main(options) == 130


def test_car_from_the_small_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    release = tmp_path / "small.toml"
    release.write_text(SMALL.read_text())
    kinds = [f"--kind=small-{name}" for name in ("engine", "gateway", "airbag")]
    assert main(["obtain", "--offline", "--images", str(images), "--cache", str(tmp_path / "cache"), *kinds]) == 0
    capsys.readouterr()
    home = tmp_path / "car"
    assert main(["car", str(release), "--age", "1", "--home", str(home), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(line["ecu"], line["version"]) for line in lines[:-1]} == {
        ("ACSM", "1.0.0"),
        ("DME", "1.0.0"),
        ("ZGW", "1.0.0"),
    }
    assert lines[-1] == {"message_type": "summary", "home": str(home), "vin": "WBA00000000000001", "ecus": 3}
    assert (home / "slots/DME/a").read_bytes() == (images / "small-engine/1.0.0.bin").read_bytes()
    assert main(["car", str(release), "--home", str(home)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_car_without_images_says_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release = tmp_path / "small.toml"
    release.write_text(SMALL.read_text())
    assert main(["car", str(release), "--home", str(tmp_path / "car")]) == 10
    assert "hint: make the images first: python -m sample_images obtain" in capsys.readouterr().err
    assert not (tmp_path / "car").exists()


@pytest.mark.parametrize("arguments", [[], ["car", "release.toml"], ["obtain", "--colour"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
