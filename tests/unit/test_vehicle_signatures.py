"""Kinds of keys: a threshold over any of them counts, and a key counts once in whatever form it is listed."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.metadata import Metadata, Role, Root

from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust import workflow
from packager.vehicle.trust.signatures import key_identity

SCHEMES = (
    "ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "rsassa-pss-sha256",
    "ml-dsa-44/1",
    "ml-dsa-65/1",
    "ml-dsa-87/1",
)


@cache
def signer_of(scheme: str, number: int = 0) -> CryptoSigner:
    if scheme == "ed25519":
        return CryptoSigner.generate_ed25519()
    if scheme.startswith("ecdsa"):
        return CryptoSigner.generate_ecdsa(scheme=scheme)
    if scheme.startswith("ml-dsa"):
        return CryptoSigner.generate_mldsa(scheme=scheme)
    return CryptoSigner.generate_rsa(scheme=scheme)


def root_of(keys: Mapping[str, Key], threshold: int, version: int = 1) -> Root:
    role = Role(list(keys), threshold)
    other = signer_of("ed25519", 99).public_key
    return Root(
        version,
        expires=datetime(2030, 1, 1, tzinfo=UTC),
        keys={**keys, other.keyid: other},
        roles={"root": role, **{name: Role([other.keyid], 1) for name in ("targets", "snapshot", "timestamp")}},
        consistent_snapshot=True,
    )


def signed(root: Root, *signers: CryptoSigner) -> bytes:
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def keys_of(*signers: CryptoSigner) -> dict[str, Key]:
    return {signer.public_key.keyid: signer.public_key for signer in signers}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_kind_of_key_counts(scheme: str) -> None:
    signer = signer_of(scheme)
    root = root_of(keys_of(signer), 1)
    assert workflow.read_root(signed(root, signer)).version == 1
    metadata = Metadata(root)
    signature = metadata.sign(signer)
    last = signature.signature[-2:]
    signature.signature = signature.signature[:-2] + f"{int(last, 16) ^ 1:02x}"
    with pytest.raises(UntrustedError, match="signed by 0 different keys"):
        workflow.read_root(metadata.to_bytes())


def test_all_kinds_together_are_as_many_keys() -> None:
    signers = [signer_of(scheme) for scheme in SCHEMES]
    root = root_of(keys_of(*signers), len(SCHEMES))
    assert workflow.read_root(signed(root, *signers)).version == 1
    with pytest.raises(UntrustedError, match=f"signed by {len(SCHEMES) - 1} different keys"):
        workflow.read_root(signed(root, *signers[1:]))
    assert len({key_identity(signer.public_key) for signer in signers}) == len(SCHEMES)


def under(key: Key, **change: Any) -> SSlibKey:
    """Lists a key once more, in another form under another id."""
    return SSlibKey.from_dict("ab" * 32, {**key.to_dict(), **change})


def other_forms(scheme: str) -> list[SSlibKey]:
    key = signer_of(scheme).public_key
    text = key.keyval["public"]
    forms = [under(key), under(key, note="x")]
    if scheme == "ed25519":
        return [
            *forms,
            under(key, keyval={"public": text.upper()}),
            under(key, keyval={"public": " ".join((text[:8], text[8:]))}),
        ]
    forms += [under(key, keyval={"public": text.replace("\n", "\r\n")}), under(key, keyval={"public": f"{text}\n\n"})]
    content = load_pem_public_key(text.encode())
    if isinstance(content, ec.EllipticCurvePublicKey):
        point = content.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        again = ec.EllipticCurvePublicKey.from_encoded_point(content.curve, point)
        pem = again.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        forms.append(under(key, keyval={"public": pem}))
    if isinstance(content, rsa.RSAPublicKey):
        pem = content.public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
        forms += [under(key, keyval={"public": pem}), under(key, scheme="rsassa-pss-sha512")]
    return forms


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_key_in_two_forms_counts_once(scheme: str) -> None:
    signer = signer_of(scheme)
    for form in other_forms(scheme):
        assert key_identity(form) == key_identity(signer.public_key) is not None
        root = root_of({signer.public_key.keyid: signer.public_key, form.keyid: form}, 2)
        twice = CryptoSigner(signer._private_key, form)
        with pytest.raises(UntrustedError, match="signed by 1 different keys"):
            workflow.read_root(signed(root, signer, twice))


CLASSICAL, CURVE, LATTICE = signer_of("ed25519", 1), signer_of("ecdsa-sha2-nistp384", 1), signer_of("ml-dsa-65/1", 1)


@pytest.mark.parametrize("missing", [CLASSICAL, CURVE, LATTICE])
def test_hybrid_root_needs_both_kinds_if_its_threshold_does(missing: CryptoSigner) -> None:
    """A threshold of three over three: neither a break of elliptic curves alone nor one of lattices alone makes a root."""
    signers = [CLASSICAL, CURVE, LATTICE]
    first = root_of(keys_of(*signers), 3)
    trusted = workflow.read_root(signed(first, *signers))
    second = root_of(keys_of(*signers), 3, version=2)
    assert workflow.read_next_root(signed(second, *signers), trusted).version == 2
    rest = [signer for signer in signers if signer is not missing]
    with pytest.raises(UntrustedError, match="signed by 2 different keys"):
        workflow.read_root(signed(first, *rest))
    with pytest.raises(UntrustedError, match="signed by 2 different keys that root version 1 trusts"):
        workflow.read_next_root(signed(second, *rest), trusted)


def test_classical_root_becomes_hybrid_and_then_lattice_only() -> None:
    more = signer_of("ml-dsa-87/1", 1)
    first = workflow.read_root(signed(root_of(keys_of(CLASSICAL, CURVE), 2), CLASSICAL, CURVE))
    second = root_of(keys_of(CLASSICAL, CURVE, LATTICE, more), 3, version=2)
    with pytest.raises(UntrustedError, match="signed by 2 different keys that it trusts"):
        workflow.read_next_root(signed(second, CLASSICAL, CURVE), first)  # the new threshold needs a lattice key, too
    hybrid = workflow.read_next_root(signed(second, CLASSICAL, CURVE, LATTICE), first)
    third = root_of(keys_of(LATTICE, more), 2, version=3)
    with pytest.raises(UntrustedError, match="signed by 2 different keys that root version 2 trusts"):
        workflow.read_next_root(signed(third, LATTICE, more), hybrid)
    assert workflow.read_next_root(signed(third, LATTICE, more, CURVE), hybrid).version == 3


@pytest.mark.parametrize(("count", "accepted"), [(4, False), (5, True), (8, True)])
def test_five_of_eight_of_the_largest_keys_fit(count: int, accepted: bool) -> None:
    signers = [signer_of("ml-dsa-87/1", number) for number in range(8)]
    data = signed(root_of(keys_of(*signers), 5), *signers[:count])
    assert len(data) < workflow.MAX_ROOT_BYTES // 4
    if accepted:
        assert workflow.read_root(data).version == 1
    else:
        with pytest.raises(UntrustedError, match="signed by 4 different keys"):
            workflow.read_root(data)


@pytest.mark.parametrize(
    "spell",
    [str.upper, lambda text: f" {text}", lambda text: f"{text}\n", lambda text: f"{text[:2]} {text[2:]}", lambda _: ""],
    ids=["upper", "space", "newline", "spaced", "empty"],
)
def test_a_signature_has_one_spelling(spell: Callable[[str], str]) -> None:
    """Python reads all of these as the same bytes (or none), other readers don't: two cars would see two repositories."""
    signer, other = signer_of("ed25519"), signer_of("ed25519", 1)
    data = signed(root_of(keys_of(signer, other), 2), signer, other)
    assert workflow.read_root(data).version == 1
    document = json.loads(data)
    entry = next(entry for entry in document["signatures"] if entry["keyid"] == signer.public_key.keyid)
    entry["sig"] = spell(entry["sig"])
    with pytest.raises(UntrustedError, match="signed by 1 different keys"):
        workflow.read_root(json.dumps(document).encode())
