"""From distribution to flat image, with nothing executed."""

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from packager.model.errors import ImageError
from sample_images.conversion import TABLE_MAGIC, Conversion, convert, find_text, join_files

HEX = ":03000000616263D7\n:00000001FF"


def make_wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return path


def make_sdist(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_takes_a_member_of_a_wheel(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "a.whl", {"a/lib.so": b"code"})
    assert convert(wheel, Conversion("member", "a/lib.so")) == b"code"


def test_takes_hex_out_of_a_module_without_running_it(tmp_path: Path) -> None:
    source = f'raise SystemExit("must not run")\n_RUNTIME = """{HEX}"""\n'.encode()
    sdist = make_sdist(tmp_path / "a.tar.gz", {"a/module.py": source})
    assert convert(sdist, Conversion("hex-in-python", "a/module.py", "_RUNTIME")) == b"abc"


@pytest.mark.parametrize(
    ("source", "expected"),
    [(b"a = 1", "assigns no text to _RUNTIME"), (b"_RUNTIME = 5", "assigns no text"), (b"def", "not a Python module")],
)
def test_says_what_the_module_lacks(source: bytes, expected: str) -> None:
    with pytest.raises(ImageError, match=expected):
        find_text(source, "_RUNTIME")


def test_joins_members_sorted_by_name_whatever_their_order_in_the_archive(tmp_path: Path) -> None:
    files = {"tz/zones/B": b"bb", "tz/zones/A/x": b"a", "tz/zones/__init__.py": b"", "tz/other": b"no"}
    wheel = make_wheel(tmp_path / "a.whl", files)
    turned = make_wheel(tmp_path / "b.whl", dict(reversed(files.items())))
    conversion = Conversion("joined-members", "tz/zones/")
    image = convert(wheel, conversion)
    assert image == convert(turned, conversion) == join_files([("A/x", b"a"), ("B", b"bb")])
    table = struct.pack("<HI", 3, 1) + b"A/x" + struct.pack("<HI", 1, 2) + b"B"
    assert image == TABLE_MAGIC + struct.pack("<I", 2) + table + b"abb"


@pytest.mark.parametrize("method", ["member", "hex-in-python"])
def test_says_which_member_is_missing(tmp_path: Path, method: str) -> None:
    for distribution in (make_wheel(tmp_path / "a.whl", {"b": b""}), make_sdist(tmp_path / "a.tar.gz", {"b": b""})):
        with pytest.raises(ImageError, match=r"has no a/lib\.so; correct `member`"):
            convert(distribution, Conversion(method, "a/lib.so", "X"))


def test_says_when_no_member_is_below_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="has no files below tz/"):
        convert(make_wheel(tmp_path / "a.whl", {"b": b""}), Conversion("joined-members", "tz/"))


@pytest.mark.parametrize("name", ["a.whl", "a.tar.gz"])
def test_a_damaged_archive_is_an_image_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"not an archive")
    with pytest.raises(ImageError, match="can't be unpacked"):
        convert(path, Conversion("member", "a"))
    path.unlink()
    with pytest.raises(ImageError, match="can't be unpacked"):
        convert(path, Conversion("member", "a"))
