"""Identities of images."""

import hashlib
import io

import pytest

from packager.vehicle.identity import Digest, ImageId


def test_a_digest_travels_with_its_algorithm() -> None:
    digest = Digest.of(b"abc")
    assert digest.hex == hashlib.sha256(b"abc").hexdigest()
    assert str(digest) == f"sha256:{digest.hex}"
    assert Digest.from_hex(digest.hex) == digest


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_digest_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="expected sha256 of 32 bytes"):
        Digest(bytes(length))


def test_no_other_algorithm() -> None:
    with pytest.raises(ValueError, match="sha512"):
        Digest(bytes(32), "sha512")


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, " " * 64, "00 " * 21 + "0", "\u0660" * 64, "-" + "0" * 63]
)
def test_only_64_lower_case_hexadecimal_digits(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message differs, the type is the promise
        Digest.from_hex(text)


def test_an_image_is_its_length_and_digest() -> None:
    data = bytes(3 << 20)
    told: list[int] = []
    stream = io.BytesIO(b"skipped" + data)
    stream.seek(7)
    assert ImageId.of_stream(stream, told.append) == ImageId.of(data)
    assert sum(told) == len(data)
    assert max(told) <= 1 << 20
    assert str(ImageId.of(b"ab")).startswith("2 bytes, sha256:")
