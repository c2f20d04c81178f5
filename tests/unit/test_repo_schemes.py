"""Public keys: the kinds that are accepted, each in one form only and under the one id that follows from it."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import Key, SSlibKey

from packager.model.policy import KEY_SCHEMES
from packager.repo.key_files import encode_private
from packager.repo.schemes import MIN_RSA_BITS, canonical, check_public, fingerprint, generate, public_half, scheme_of
from tests import needs


@cache
def public_of(scheme: str) -> SSlibKey:
    return public_half(generate(scheme), scheme)


def changed(of: str, **change: Any) -> Key:
    """A public key with fields changed, under the same id unless another is given."""
    return Key.from_dict(change.pop("keyid", public_of(of).keyid), {**public_of(of).to_dict(), **change})


@pytest.mark.parametrize("scheme", KEY_SCHEMES)
def test_every_scheme_is_accepted_under_its_own_id_alone(scheme: str) -> None:
    key = public_of(scheme)
    assert scheme_of(key) == scheme
    assert check_public(Key.from_dict(key.keyid, {**key.to_dict(), "x-packager-demo": True}))
    with pytest.raises(ValueError, match="which follows from the key"):
        check_public(changed(scheme, keyid="ab" * 32))


@pytest.mark.parametrize("scheme", KEY_SCHEMES)
def test_every_scheme_has_one_form(scheme: str) -> None:
    public = public_of(scheme).keyval["public"]
    other = public.upper() if scheme == "ed25519" else public.replace("\n", "\r\n")
    for keyval in ({"public": other}, {"public": public, "private": ""}):
        found = changed(scheme, keyval=keyval)
        with pytest.raises(ValueError, match="found a key in another form"):
            check_public(found)
        assert isinstance(found, SSlibKey)
        assert check_public(canonical(found)) == public_of(scheme)


@pytest.mark.parametrize(
    ("scheme", "keytype", "other"),
    [
        ("ecdsa-sha2-nistp256", "ecdsa", "ecdsa-sha2-nistp384"),
        ("ecdsa-sha2-nistp384", "ecdsa", "ecdsa-sha2-nistp256"),
        ("ml-dsa-44", "ml-dsa", "ml-dsa-65/1"),
        ("ml-dsa-87", "ml-dsa", "ml-dsa-44/1"),
        ("ecdsa-sha2-nistp256", "rsa", "rsassa-pss-sha256"),
        ("rsassa-pss-sha256", "ecdsa", "ecdsa-sha2-nistp256"),
    ],
)
def test_key_must_be_for_its_scheme(scheme: str, keytype: str, other: str) -> None:
    with pytest.raises(ValueError, match="found a key for"):
        check_public(changed(scheme, keytype=keytype, scheme=other))


@pytest.mark.parametrize(
    ("scheme", "change"),
    [
        ("rsassa-pss-sha256", {"scheme": "rsa-pkcs1v15-sha256"}),
        ("ecdsa-sha2-nistp256", {"scheme": "ecdsa-sha2-nistp521"}),
    ],
)
def test_other_schemes_of_the_library_are_refused(scheme: str, change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected one of ed25519"):
        check_public(changed(scheme, **change))


def test_deprecated_key_type_is_refused() -> None:
    with pytest.raises(ValueError, match="another form"):
        check_public(changed("ecdsa-sha2-nistp256", keytype="ecdsa-sha2-nistp256"))


@pytest.mark.parametrize(("bits", "exponent"), [(MIN_RSA_BITS - 8, 65537), (MIN_RSA_BITS, 3), (MIN_RSA_BITS, 65537)])
def test_weak_rsa_is_refused(bits: int, exponent: int) -> None:
    key = SSlibKey.from_crypto(rsa.generate_private_key(exponent, bits).public_key())
    if (bits, exponent) == (MIN_RSA_BITS, 65537):
        assert check_public(key) == key
    else:
        with pytest.raises(ValueError, match=r"found (an RSA key of 3064 bits|the RSA exponent 3), expected at least"):
            check_public(key)


def test_compressed_point_is_the_same_key() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    key = public_half(private)
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    again = SSlibKey.from_crypto(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
    assert (again, fingerprint(again)) == (key, fingerprint(key))


@needs.commands("openssl")
@pytest.mark.parametrize("scheme", ["ed25519", "ecdsa-sha2-nistp384", "rsassa-pss-sha256"])
def test_fingerprint_is_what_openssl_computes(tmp_path: Path, scheme: str) -> None:
    private = generate(scheme)
    (tmp_path / "a.pem").write_bytes(encode_private(private, None))
    der, digest = tmp_path / "a.der", ("openssl", "dgst", "-sha256", "-r", "a.der")
    subprocess.run(
        ("openssl", "pkey", "-in", "a.pem", "-pubout", "-outform", "DER", "-out", der), cwd=tmp_path, check=True
    )
    shown = subprocess.run(digest, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert shown.split()[0] == fingerprint(public_half(private))
