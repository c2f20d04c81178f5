"""The release gate's summary, as a car reads it."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Targets

from packager.supplychain.statement import sign_statement
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import Digest
from packager.vehicle.trust.summary import (
    CHAIN_LEVEL,
    MAX_SUMMARY_BYTES,
    PREDICATE_TYPE,
    RESOURCE_PREFIX,
    Gate,
    read_gate,
    verify_summary,
)
from tests.repository_simulator import under_another_id

PATH = "summary/body.1.json"
IMAGES = {"BDC/2.0/image": Digest.of(b"image"), "LCM/2.0/image": Digest.of(b"other")}
GATE, SECOND, MALLORY = (CryptoSigner.generate_ed25519() for _ in range(3))
ONE = Gate((GATE.public_key,), 1)
TWO = Gate((GATE.public_key, SECOND.public_key), 2)


def predicate(**changes: Any) -> dict[str, Any]:
    said = {"resourceUri": RESOURCE_PREFIX + PATH, "verificationResult": "PASSED", "verifiedLevels": [CHAIN_LEVEL]}
    return said | changes


def summary(*signers: CryptoSigner, kind: str = PREDICATE_TYPE, **changes: Any) -> bytes:
    return sign_statement(IMAGES, kind, predicate(**changes), signers or (GATE,))


def with_gate(gate: object) -> Targets:
    return Targets(unrecognized_fields={"gate": gate})


def entry(key: Key) -> dict[str, Any]:
    return {**key.to_dict(), "keyid": key.keyid}


def test_a_summary_gives_the_images_it_vouches_for() -> None:
    assert verify_summary(summary(), PATH, ONE) == IMAGES


def test_every_one_of_a_threshold_must_sign() -> None:
    assert verify_summary(summary(GATE, SECOND), PATH, TWO) == IMAGES
    with pytest.raises(UntrustedError, match="signed by 1 different keys of the release gate, expected 2"):
        verify_summary(summary(GATE), PATH, TWO)
    with pytest.raises(UntrustedError, match="signed by 1 different keys"):
        verify_summary(summary(GATE, under_another_id(GATE)), PATH, TWO)


def test_another_key_does_not_vouch_under_the_gates_id() -> None:
    with pytest.raises(UntrustedError, match="signed by 0 different keys"):
        verify_summary(summary(MALLORY), PATH, ONE)
    with pytest.raises(UntrustedError, match="signed by 0 different keys"):
        verify_summary(summary(under_another_id(MALLORY, GATE.public_key.keyid)), PATH, ONE)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"verificationResult": "FAILED"}, "says 'FAILED'"),
        ({"verifiedLevels": ["SLSA_BUILD_LEVEL_3"]}, "with levels"),
        ({"verifiedLevels": CHAIN_LEVEL}, "with levels"),
        ({"resourceUri": RESOURCE_PREFIX + "summary/body.2.json"}, "of 'urn:delta-packager:summary/body.2.json'"),
        ({"kind": "https://slsa.dev/provenance/v1"}, "expected https://slsa.dev/verification_summary"),
    ],
)
def test_a_summary_that_says_something_else_is_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UntrustedError, match=found):
        verify_summary(summary(**changes), PATH, ONE)


def _payload(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A summary whose signed statement was changed before it was signed."""
    statement = json.loads(base64.b64decode(json.loads(summary())["payload"]))
    change(statement)
    envelope = Envelope(json.dumps(statement).encode(), "application/vnd.in-toto+json", {})
    envelope.sign(GATE)
    return json.dumps(envelope.to_dict()).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("subject"),
        lambda s: s["subject"].append(s["subject"][0]),
        lambda s: s["subject"][0].update(name=3),
        lambda s: s["subject"][0]["digest"].update(md5="00"),
        lambda s: s["subject"][0]["digest"].update(sha256="00"),
        lambda s: s["subject"][0]["digest"].update(sha256=5),
        lambda s: s.update(predicate=[]),
        lambda s: s.update(subject=7),
    ],
    ids=range(8),
)
def test_signed_nonsense_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(UntrustedError, match=PATH):
        verify_summary(_payload(change), PATH, ONE)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update(payloadType="application/json"),
        lambda e: e.update(payloadType=None),
        lambda e: e.update(payload="????"),
        lambda e: e.update(payload=7),
        lambda e: e.update(signatures=None),
        lambda e: e.update(signatures=[1]),
        lambda e: e["signatures"][0].update(sig=e["signatures"][0]["sig"][:-4]),
        lambda e: e["signatures"][0].pop("keyid"),
        lambda e: e.pop("payload"),
    ],
    ids=range(9),
)
def test_an_envelope_of_another_form_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    envelope = json.loads(summary())
    change(envelope)
    with pytest.raises(UntrustedError, match=PATH):
        verify_summary(json.dumps(envelope).encode(), PATH, ONE)


def test_only_strict_json_is_read() -> None:
    for data in (b"[]", b"1", b"{", summary().replace(b'"payload"', b'"payload":"","payload"', 1)):
        with pytest.raises(UntrustedError, match=PATH):
            verify_summary(data, PATH, ONE)


def test_a_summary_is_bounded() -> None:
    data = summary()
    longest = data + b" " * (MAX_SUMMARY_BYTES - len(data))
    assert verify_summary(longest, PATH, ONE) == IMAGES
    with pytest.raises(UntrustedError, match=f"found {MAX_SUMMARY_BYTES + 1} bytes"):
        verify_summary(longest + b" ", PATH, ONE)


def test_the_gate_stands_in_the_top_level_targets() -> None:
    assert read_gate(Targets()) is None
    keys = [entry(GATE.public_key), entry(SECOND.public_key)]
    found = read_gate(with_gate({"keys": keys, "threshold": 2}))
    assert found is not None
    assert ([key.keyid for key in found.keys], found.threshold) == ([key["keyid"] for key in keys], 2)


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        ({"keys": [entry(GATE.public_key)], "threshold": 0}, "threshold 0 of 1"),
        ({"keys": [entry(GATE.public_key)], "threshold": 2}, "threshold 2 of 1"),
        ({"keys": [entry(GATE.public_key)], "threshold": True}, "threshold True"),
        ({"keys": [entry(GATE.public_key), entry(under_another_id(GATE).public_key)], "threshold": 2}, "different"),
        ({"keys": [], "threshold": 1}, "threshold 1 of 0"),
        (
            {"keys": [entry(CryptoSigner.generate_ed25519().public_key) for _ in range(17)], "threshold": 1},
            "at most 16",
        ),
        ({"keys": [{"keyid": "1"}], "threshold": 1}, "expected keys and threshold"),
        ({"keys": [{**entry(GATE.public_key), "keyval": {"public": "zz"}}], "threshold": 1}, "well-formed"),
        ({"threshold": 1}, "expected keys and threshold"),
        ([], "expected keys and threshold"),
    ],
    ids=range(10),
)
def test_a_malformed_gate_is_refused(gate: object, problem: str) -> None:
    with pytest.raises(UntrustedError, match=f"gate.*{problem}"):
        read_gate(with_gate(gate))
