"""Kinds of keys: which signature schemes are accepted, and that a public key is what it says, under the id that follows from it.

Knows keys in memory, not where they lie.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import Key, SSlibKey

from packager.model.policy import KEY_SCHEMES

MIN_RSA_BITS: Final = 3072
"""128 bits of security (NIST SP 800-57 part 1, table 2); a car reads these signatures for fifteen years."""

_MIN_RSA_EXPONENT: Final = 65537

PrivateKey = (
    Ed25519PrivateKey
    | ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)


def _generate_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(_MIN_RSA_EXPONENT, MIN_RSA_BITS)


_GENERATORS: Final[Mapping[str, Callable[[], PrivateKey]]] = {
    "ed25519": Ed25519PrivateKey.generate,
    "ecdsa-sha2-nistp256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-sha2-nistp384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsassa-pss-sha256": _generate_rsa,
    "rsassa-pss-sha384": _generate_rsa,
    "rsassa-pss-sha512": _generate_rsa,
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}


def generate(scheme: str) -> PrivateKey:
    """Make a new private key.

    Args:
        scheme: One of `KEY_SCHEMES`.
    """
    return _GENERATORS[scheme]()


def public_half(private: PrivateKey, scheme: str | None = None) -> SSlibKey:
    """Return the public half of a private key.

    Args:
        private: The key.
        scheme: One of `KEY_SCHEMES`; None takes the usual one of this kind of key.

    Raises:
        ValueError: The key is weak, of a kind that is not accepted, or not for this scheme.
    """
    return check_public(SSlibKey.from_crypto(private.public_key(), scheme=_tuf_scheme(scheme) if scheme else None))


def scheme_of(key: Key) -> str:
    """Return which of `KEY_SCHEMES` a key is for; another scheme is returned as it is."""
    return key.scheme.removesuffix("/1") if key.scheme.startswith("ml-dsa-") else key.scheme


def fingerprint(key: SSlibKey) -> str:
    """Return the SHA-256 of the key as every other tool writes it (DER SubjectPublicKeyInfo): what a holder reads out to compare.

    Raises:
        ValueError: The key is malformed.
    """
    return sha256(_parse(key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def pem(key: SSlibKey) -> str:
    """Return the key as every other tool reads it: PEM SubjectPublicKeyInfo.

    Raises:
        ValueError: The key is malformed.
    """
    return _parse(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def canonical(key: SSlibKey) -> SSlibKey:
    """Return a key in the form, and under the id, that `check_public` expects: services write PEM in their own ways.

    Raises:
        ValueError: The key is malformed.
    """
    return SSlibKey.from_crypto(_parse(key), scheme=key.scheme)


def check_public(key: Key) -> SSlibKey:
    """Return a public key if it is of an accepted kind, strong enough, in canonical form and under the id that follows from it.

    A free choice of key ids would let one key count twice towards a threshold (TAP 12).

    Raises:
        ValueError: It is not.
    """
    if not isinstance(key, SSlibKey) or scheme_of(key) not in KEY_SCHEMES:
        raise ValueError(f"found the scheme {key.scheme!r}, expected one of {', '.join(KEY_SCHEMES)}")
    public = _parse(key)
    genuine = SSlibKey.from_crypto(public, scheme=key.scheme)
    usual = SSlibKey.from_crypto(public).scheme
    if key.scheme != usual and not (isinstance(public, rsa.RSAPublicKey) and key.scheme.startswith("rsassa-pss-")):
        raise ValueError(f"found a key for {usual!r}, expected one for {key.scheme!r}")
    if isinstance(public, rsa.RSAPublicKey):
        _check_rsa(public)
    if (key.keytype, key.keyval) != (genuine.keytype, genuine.keyval):
        raise ValueError(f"found a key in another form, expected exactly {genuine.to_dict()}")
    if key.keyid != genuine.keyid:
        raise ValueError(f"found key id {key.keyid!r}, expected {genuine.keyid!r}, which follows from the key")
    return key


def _tuf_scheme(scheme: str) -> str:
    return f"{scheme}/1" if scheme.startswith("ml-dsa-") else scheme  # version 1 of its payload (TAP 21)


def _check_rsa(public: rsa.RSAPublicKey) -> None:
    if public.key_size < MIN_RSA_BITS:
        raise ValueError(f"found an RSA key of {public.key_size} bits, expected at least {MIN_RSA_BITS}")
    exponent = public.public_numbers().e
    if exponent < _MIN_RSA_EXPONENT:
        raise ValueError(f"found the RSA exponent {exponent}, expected at least {_MIN_RSA_EXPONENT}")


def _parse(key: SSlibKey) -> PublicKeyTypes:
    text = key.keyval["public"]
    try:
        if key.scheme == "ed25519":
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
        return load_pem_public_key(text.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
