"""``contents.json``: what a build machine hands over to be signed is held against the files beside it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from packager.model.errors import RepositoryError
from packager.repo import contents as module
from packager.repo.contents import CONTENTS_NAME, TARGETS, Chain, Contents, read_contents, write_contents
from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.identity import ImageId
from tests.release_series import make_authority
from tests.repository_simulator import MadeBundle, make_bundle

OLD, NEW = b"old" * 100, b"new" * 100
BUNDLES = [make_bundle("bdc", "2", 5, old, NEW) for old in (OLD, None)]
IMAGE = ImageTarget("bdc", "2", ImageId.of(NEW), 5, ("bdc",), 100)
CONTENTS = Contents(
    "07-2020.45",
    {"body": ["bdc"], "powertrain": []},
    {"body": [IMAGE, *(made.target for made in BUNDLES)]},
    Chain({"root.layout": b"layout", "diff.01.link": b"link"}, [make_authority().keys["owner"]]),
)


def write(directory: Path, contents: Contents = CONTENTS, bundles: list[MadeBundle] = BUNDLES) -> Path:
    for path, data in (
        *((TARGETS / made.target.path, made.data) for made in bundles),
        *((Path("chain") / contents.release / name, data) for name, data in contents.chain.files.items()),
        (Path(CONTENTS_NAME), write_contents(contents)),
    ):
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return directory


def edit(directory: Path, *where: Any, to: object) -> None:
    path = directory / CONTENTS_NAME
    document = json.loads(path.read_text())
    place = document
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = to
    path.write_text(json.dumps(document))


def test_contents_come_back(tmp_path: Path) -> None:
    found = read_contents(write(tmp_path))
    assert found == replace(
        CONTENTS, targets={"body": sorted(CONTENTS.targets["body"], key=lambda target: target.path)}
    )


def test_same_release_same_bytes_in_any_order() -> None:
    shuffled = Contents(
        CONTENTS.release,
        dict(reversed(CONTENTS.hardware.items())),
        {"body": CONTENTS.targets["body"][::-1]},
        Chain(dict(reversed(CONTENTS.chain.files.items())), CONTENTS.chain.layout_keys),
    )
    assert write_contents(shuffled) == write_contents(CONTENTS)


@pytest.mark.parametrize("path", [made.target.path for made in BUNDLES])
def test_a_bundle_that_is_missing_or_changed_is_not_signed(tmp_path: Path, path: str) -> None:
    file = write(tmp_path) / TARGETS / path
    good = file.read_bytes()
    for position in range(0, len(good), 7):
        file.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(RepositoryError, match=r"contents\.json says") as caught:
            read_contents(tmp_path)
    assert caught.value.hint.endswith("or build the release again")
    file.unlink()
    with pytest.raises(RepositoryError, match="can't be read: No such file"):
        read_contents(tmp_path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (replace(IMAGE, release_counter=6), "release counter 5, expected 6"),
        (replace(IMAGE, image=ImageId.of(OLD)), "new image 300 bytes"),
        (replace(IMAGE, version="3"), r"its image bdc/2/image is not in contents\.json"),
    ],
)
def test_a_manifest_that_disagrees_is_not_signed(tmp_path: Path, image: ImageTarget, message: str) -> None:
    write(tmp_path, replace(CONTENTS, targets={"body": [image, BUNDLES[0].target]}))
    with pytest.raises(RepositoryError, match=message):
        read_contents(tmp_path)


def test_a_bundle_from_another_old_image_than_its_path_says_is_not_signed(tmp_path: Path) -> None:
    forged = MadeBundle(BUNDLES[1].data, 0, replace(BUNDLES[1].target, old=ImageId.of(OLD).digest))
    write(tmp_path, replace(CONTENTS, targets={"body": [IMAGE, forged.target]}), [forged])
    with pytest.raises(RepositoryError, match="old image None, expected"):
        read_contents(tmp_path)


@pytest.mark.parametrize("name", ["root.layout", "diff.01.link"])
def test_another_chain_is_not_signed(tmp_path: Path, name: str) -> None:
    file = write(tmp_path) / "chain" / CONTENTS.release / name
    file.write_bytes(b"other")
    with pytest.raises(RepositoryError, match=f"{name}: found .*says"):
        read_contents(tmp_path)
    file.unlink()
    with pytest.raises(RepositoryError, match="can't be read"):
        read_contents(tmp_path)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("format",), 2),
        (("format",), True),
        (("release",), "../x"),
        (("release",), 5),
        (("hardware",), []),
        (("hardware", "body"), 5),
        (("targets",), []),
        (("targets", "body"), [5]),
        (("targets", "body", 0, "path"), "bdc/2/other"),
        (("targets", "body", 0, "length"), "1"),
        (("targets", "body", 0, "sha256"), "0"),
        (("targets", "body", 0, "custom"), {}),
        (("targets", "body", 0, "more"), 1),
        (("chain",), 5),
        (("chain", "layout_keys"), [{}]),
        (("chain", "layout_keys"), [5]),
        (("chain", "files", "root.layout"), "0"),
        (("chain", "files", "../x"), "0" * 64),
    ],
)
def test_what_no_build_writes_is_refused(tmp_path: Path, where: tuple[Any, ...], value: object) -> None:
    edit(write(tmp_path), *where, to=value)
    with pytest.raises(RepositoryError):
        read_contents(tmp_path)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format":1,"format":1}', b"{}", b'{"format":1.0}'])
def test_only_strict_json_is_read(tmp_path: Path, data: bytes) -> None:
    (write(tmp_path) / CONTENTS_NAME).write_bytes(data)
    with pytest.raises(RepositoryError, match=r"contents\.json"):
        read_contents(tmp_path)


def test_nothing_there_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"contents\.json: can't be read.*expected a release of packager build"):
        read_contents(tmp_path)


@pytest.mark.parametrize("limit", ["MAX_CONTENTS_BYTES", "MAX_CHAIN_FILE_BYTES"])
def test_lengths_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    write(tmp_path)
    longest = {
        "MAX_CONTENTS_BYTES": (tmp_path / CONTENTS_NAME).stat().st_size,
        "MAX_CHAIN_FILE_BYTES": len(b"layout"),
    }[limit]
    monkeypatch.setattr(module, limit, longest)
    read_contents(tmp_path)
    monkeypatch.setattr(module, limit, longest - 1)
    with pytest.raises(RepositoryError, match=f"longer than {longest - 1} bytes"):
        read_contents(tmp_path)
