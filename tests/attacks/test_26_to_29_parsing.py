"""Attacks 26 to 29: bytes that parsers crash on, or read differently from each other."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical

from packager.vehicle.errors import UntrustedError
from tests.attacks.scene import NEW, Scene, edit, sign

ROLES = ("root", "timestamp", "snapshot", "targets", "body")
DELEGATED = ["metadata/timestamp.json", "metadata/snapshot.json", "metadata/targets.json"]
"""Top-level metadata holds by itself and may be kept if a delegated role fails."""

BYTES = [
    b"",
    b"\0",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"5",
    b"NaN",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b"{" * 15_000,
    b"[" * 15_000,
    b'{"a":' * 3_000,
    b"9" * 15_000,
    b'{"signed":{},"signatures":[]}',
    b'{"signed":null,"signatures":null}',
    b'{"signed":[],"signatures":{}}',
    b'{"signed":{"_type":"root"},"signatures":[]}',
    b'{"signed":{"_type":["timestamp"]},"signatures":[]}',
    b'{"signed":{"_type":{"a":1},"version":1},"signatures":[null]}',
    b'{"signed":"\\ud800","signatures":[]}',
    b'{"signed":{"_type":"timestamp","spec_version":"1.0.31","version":1,"expires":"","meta":{}},"signatures":[]}',
    b'{"signed":{"_type":"' + b"x" * 15_000 + b'"},"signatures":[]}',
]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("role", ROLES)
def test_attack_26_no_bytes_crash_the_parser_before_signatures_are_checked(scene: Scene, role: str) -> None:
    """CVE-2026-23991, stack exhaustion, huge numbers: each with the length and hash that the level above lists."""
    for data in BYTES:
        scene.next_version(role)
        scene.replace(role, data)
        _refused(scene, role, f"{role}.json")
    scene.recovers()


def _shaped(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value within JSON."""
    inner: list[tuple[str | int, ...]] = [path] if path else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in pairs:
        inner += _shaped(entry, (*path, key))
    return inner


@pytest.mark.parametrize("role", ROLES)
def test_attack_26_no_field_of_another_shape_crashes_the_parser(scene: Scene, role: str) -> None:
    """Signed by the right keys, so that nothing but the parser stands in the way; what is refused is so for a reason it gives."""
    signed = scene.next_version(role)
    paths = _shaped(signed)
    for number, path in enumerate(paths):
        changed = json.loads(json.dumps(signed))
        place = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = (None, [], {"a": {}}, -1, "\0", [[["x"]]], 2**63 - 1)[number % 7]
        scene.replace(role, sign(changed, scene.repository.signers[role]))
        scene.accepted_or_refused()
    scene.repository.rotate("snapshot")
    scene.repository.rotate("timestamp")
    scene.recovers()


AMBIGUOUS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("duplicate key", lambda d: d.replace(b'"version": ', b'"version": 9, "version": ', 1), "names one key twice"),
    (
        "duplicate signed",
        lambda d: d.replace(b'{"signatures"', b'{"signed": {}, "signatures"', 1),
        "names one key twice",
    ),
    ("float", lambda d: d.replace(b'"version": 2', b'"version": 2.0', 1), "expected integers only"),
    ("exponent", lambda d: d.replace(b'"version": 2', b'"version": 2e0', 1), "expected integers only"),
    ("NaN", lambda d: d.replace(b'"version": 2', b'"version": NaN', 1), "expected integers only"),
    ("truth", lambda d: d.replace(b'"version": 2', b'"version": true', 1), "metadata: "),
    ("text", lambda d: d.replace(b'"version": 2', b'"version": "2"', 1), "metadata: "),
    ("two documents", lambda d: d + b"{}", "not JSON"),
    ("comment", lambda d: d + b"// fine", "not JSON"),
    ("comma", lambda d: d[:-1] + b",}", "not JSON"),
    ("more beside signed", lambda d: d[:-1] + b', "unsigned": {}}', "exactly 'signed' and 'signatures'"),
]


@pytest.mark.parametrize(("change", "wrong"), [pytest.param(c, w, id=i) for i, c, w in AMBIGUOUS])
@pytest.mark.parametrize("role", ROLES)
def test_attack_27_json_with_two_readings(
    scene: Scene, role: str, change: Callable[[bytes], bytes], wrong: str
) -> None:
    """The last of two keys counts here, the first there; 2.0 and true are integers for some."""
    good = sign(scene.next_version(role), scene.repository.signers[role])
    bad = change(good)
    assert bad != good
    scene.replace(role, bad)
    _refused(scene, role, f"{role}.json.*{wrong}")
    scene.replace(role, good)
    scene.recovers()


COMPOSED, DECOMPOSED = "é", unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize(
    "field",
    [
        {"note": DECOMPOSED},
        {DECOMPOSED: 1},
        {"note": {"a": [DECOMPOSED]}},
        {"note": [[DECOMPOSED]]},
        {"note": [[[{"a": DECOMPOSED}]]]},
        {"note": ["a", ["b", [DECOMPOSED]]]},
    ],
    ids=str,
)
@pytest.mark.parametrize("role", ["timestamp", "body"])
def test_attack_28_text_in_two_spellings(scene: Scene, role: str, field: dict[str, Any]) -> None:
    """Two systems that compose text differently do not see the same signed bytes."""
    good = scene.next_version(role)
    scene.replace(role, sign({**good, **field}, scene.repository.signers[role]))
    _refused(scene, role, r"composed form \(NFC\)")
    text = json.dumps(field, ensure_ascii=False).replace(DECOMPOSED, COMPOSED)
    if role == "body":
        good = scene.next_version(role)
    scene.replace(role, sign({**good, **json.loads(text)}, scene.repository.signers[role]))
    scene.accepted(NEW)


@pytest.mark.parametrize("text", ["\0", "\n", '"', "\\", "\x7f", "\u2028", "\U0001f697"])
def test_attack_28_control_characters_are_signed_as_they_are(scene: Scene, text: str) -> None:
    """Canonical JSON leaves control characters raw (theupdateframework/specification#92):
    one and the same text, one payload, and no other passes."""
    good = {**scene.next_version("timestamp"), "note": f"a{text}b"}
    data = sign(good, scene.repository.signers["timestamp"])
    scene.replace("timestamp", edit(data, lambda document: document["signed"].__setitem__("note", "ab")))
    scene.refused(UntrustedError, r"timestamp.json: signed by 0 different keys")
    scene.replace("timestamp", data)
    scene.accepted()


def test_attack_28_another_order_and_other_spaces_are_the_same_metadata(scene: Scene) -> None:
    data = sign(scene.next_version("timestamp"), scene.repository.signers["timestamp"])
    document = json.loads(data)
    document["signed"] = dict(reversed(document["signed"].items()))
    scene.replace("timestamp", json.dumps(document, indent=3).replace("a", "\\u0061").encode())
    scene.accepted()


@pytest.mark.parametrize("role", ROLES)
def test_attack_28_what_is_used_is_what_was_signed(scene: Scene, role: str) -> None:
    """Verified over a form that the parser made: fields it drops or adds would not be covered."""
    signed = scene.next_version(role)
    data = sign(signed, scene.repository.signers[role])
    for change in ({"x-more": 1}, {"spec_version": "1.0.30"}, {"expires": "2029-01-01T00:00:00Z"}):
        scene.replace(role, edit(data, lambda document, change=change: document["signed"].update(change)))
        _refused(scene, role, f"{role}.json.*signed by 0 different keys")
        if role not in ("root", "timestamp"):
            data = sign(scene.next_version(role), scene.repository.signers[role])
    scene.recovers()


def test_attack_28_a_field_in_two_forms_is_refused(scene: Scene) -> None:
    """Signed, but not in the form in which the parser would write it again."""
    signed = scene.next_version("body")
    signed["expires"] = "2026-07-31T12:00:00.5Z"
    scene.replace("body", sign(signed, scene.repository.signers["body"]))
    _refused(scene, "body", "not targets metadata")
    scene.recovers()


def test_attack_28_a_field_that_the_parser_drops_is_refused(scene: Scene) -> None:
    signed = scene.next_version("targets")
    signed["delegations"]["roles"][0]["path_hash_prefixes"] = None
    scene.replace("targets", sign(signed, scene.repository.signers["targets"]))
    _refused(scene, "targets", "what was read differs from what was signed")
    scene.recovers()


@pytest.mark.parametrize("role", ROLES)
def test_attack_29_unknown_fields_are_kept_and_signed(scene: Scene, role: str) -> None:
    signed = {**scene.next_version(role), "x-future": {"a": [1, True, None, {"b": "c"}]}}
    data = sign(signed, scene.repository.signers[role])
    without = edit(data, lambda document: document["signed"].pop("x-future"))
    assert str(encode_canonical(json.loads(data)["signed"])) != str(encode_canonical(json.loads(without)["signed"]))
    scene.replace(role, without)
    _refused(scene, role, f"{role}.json.*signed by 0 different keys")
    if role not in ("root", "timestamp"):
        data = sign({**scene.next_version(role), "x-future": 1}, scene.repository.signers[role])
    scene.replace(role, data)
    scene.accepted()
    assert b"x-future" in (scene.car.home.root / "metadata" / f"{role}.json").read_bytes()


def _refused(scene: Scene, role: str, wrong: str) -> None:
    scene.refused(UntrustedError, wrong, may_change=DELEGATED if role == "body" else ())
