import json

import pytest
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust.metadata_json import MAX_DEPTH, MAX_INTEGER, digest_of, parse_json, parse_metadata
from tests.repository_simulator import RepositorySimulator


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b'{"a": 1.0}', "integers only"),
        (b'{"a": 1e2}', "integers only"),
        (b'{"a": NaN}', "integers only"),
        (b'{"a": -Infinity}', "integers only"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": ' + str(MAX_INTEGER + 1).encode() + b"}", "63 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "63 bits"),
        ('{"e\u0301": 1}'.encode(), "NFC"),
        ('{"a": "e\u0301"}'.encode(), "NFC"),
        ('{"a": ["e\u0301"]}'.encode(), "NFC"),
        ('{"a": [["e\u0301"]]}'.encode(), "NFC"),
        ('["e\u0301"]'.encode(), "NFC"),
        ('"e\u0301"'.encode(), "NFC"),
        (b'{"a": "\\ud800"}', "NFC"),
        (b'{"a": "\n"}', "not JSON"),
        (b'{"a": 1} {}', "not JSON"),
        (b'{"a": "', "not JSON"),
        (b'{"a": "\\', "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_with_two_readings_or_none_is_refused(data: bytes, wrong: str) -> None:
    with pytest.raises(UntrustedError, match=wrong):
        parse_json(data, "x.json")


def test_what_is_allowed_is_read() -> None:
    text = '{"é": [1, -2, true, null, "\\" } ] \\\\"], "big": ' + str(MAX_INTEGER) + "}"
    assert parse_json(text.encode(), "x.json") == {"é": [1, -2, True, None, '" } ] \\'], "big": MAX_INTEGER}


def test_nesting_is_bounded_before_the_parser_recurses() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "x.json")
    for data in (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), b"[" * 400_000, b'{"a":' * 100_000):
        with pytest.raises(UntrustedError, match="nested deeper than 16"):
            parse_json(data, "x.json")


def test_brackets_in_text_do_not_count_and_quotes_can_not_hide_brackets() -> None:
    assert parse_json(b'["' + b"[" * 1000 + b'"]', "x.json")
    with pytest.raises(UntrustedError, match="nested deeper"):
        parse_json(b'["\\"", ' + b"[" * 1000, "x.json")


def test_a_string_that_never_ends_takes_linear_time() -> None:
    with pytest.raises(UntrustedError, match="not JSON"):
        parse_json(b'"' + b'\\"' * 250_000, "x.json")


def _changed(path: list[str | int], value: object, kind: str) -> bytes:
    repository = RepositorySimulator()
    repository.delegate("body", ["bdc/*/*"])
    repository.add_target("targets", "a", b"data", {})
    repository.publish()
    name = {"timestamp": "timestamp.json", "root": "1.root.json"}.get(kind, f"1.{kind}.json")
    document = json.loads(repository.files[name])
    place = document["signed"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        (Timestamp, ["version"], True),
        (Timestamp, ["version"], "1"),
        (Timestamp, ["version"], 0),
        (Timestamp, ["version"], -1),
        (Timestamp, ["expires"], "2026-07-01"),
        (Timestamp, ["expires"], "2026-7-1T12:00:00Z"),
        (Timestamp, ["meta", "snapshot.json", "version"], True),
        (Timestamp, ["meta", "snapshot.json", "length"], True),
        (Timestamp, ["meta", "snapshot.json", "length"], -1),
        (Timestamp, ["meta"], []),
        (Timestamp, ["meta"], {}),
        (Timestamp, ["spec_version"], "2.0.0"),
        (Root, ["consistent_snapshot"], 1),
        (Root, ["roles", "root", "threshold"], True),
        (Root, ["roles", "root", "threshold"], 0),
        (Root, ["roles", "root", "threshold"], -1),
        (Root, ["roles", "root", "keyids"], "abc"),
        (Root, ["roles", "root", "keyids"], [1]),
        (Root, ["roles", "root", "keyids"], ["a", "a"]),
        (Root, ["roles"], {}),
        (Root, ["keys"], []),
        (Snapshot, ["meta", "targets.json", "version"], False),
        (Targets, ["targets", "a", "length"], True),
        (Targets, ["targets", "a", "custom"], []),
        (Targets, ["targets", "a", "hashes"], {}),
        (Targets, ["delegations", "roles", 0, "terminating"], 1),
        (Targets, ["delegations", "roles", 0, "threshold"], True),
        (Targets, ["delegations", "roles", 0, "paths"], "bdc/*/*"),
        (Targets, ["delegations", "roles", 0, "paths"], [1]),
        (Targets, ["delegations", "roles", 0, "name"], "root"),
        (Targets, ["delegations", "roles", 0, "name"], 1),
        (Targets, ["delegations", "roles"], {}),
    ],
)
def test_fields_of_the_wrong_type_are_refused(kind: type, path: list[str | int], value: object) -> None:
    data = _changed(path, value, kind.type)
    with pytest.raises(UntrustedError, match=f"not {kind.type} metadata"):
        parse_metadata(data, kind, "x.json", max_bytes=len(data))


def test_metadata_of_another_kind_is_refused() -> None:
    repository = RepositorySimulator()
    repository.publish()
    with pytest.raises(UntrustedError, match="found type 'snapshot', expected 'timestamp'"):
        parse_metadata(repository.files["1.snapshot.json"], Timestamp, "timestamp.json", max_bytes=10_000)


def test_length_is_bounded_from_both_sides() -> None:
    repository = RepositorySimulator()
    repository.publish()
    data = repository.files["timestamp.json"]
    assert parse_metadata(data, Timestamp, "timestamp.json", max_bytes=len(data)).claimed.version == 1
    with pytest.raises(UntrustedError, match=f"found {len(data)} bytes, expected at most {len(data) - 1}"):
        parse_metadata(data, Timestamp, "timestamp.json", max_bytes=len(data) - 1)


@pytest.mark.parametrize("document", [[], {}, {"signed": {}}, {"signed": {}, "signatures": [], "more": 1}, 1, None])
def test_the_envelope_is_exact(document: object) -> None:
    with pytest.raises(UntrustedError, match="exactly 'signed' and 'signatures'"):
        parse_metadata(json.dumps(document).encode(), Timestamp, "timestamp.json", max_bytes=1000)


def test_unknown_fields_are_covered_by_the_payload() -> None:
    data = _changed(["x-future"], {"a": [1]}, "timestamp")
    assert b'"x-future":{"a":[1]}' in parse_metadata(data, Timestamp, "timestamp.json", max_bytes=10_000).payload


@pytest.mark.parametrize(
    "hashes",
    [
        None,
        {},
        {"md5": "0" * 32},
        {"sha1": "0" * 40},
        {"sha512": "0" * 128},
        {"sha256": "0" * 64, "md5": "0" * 32},
        {"sha256": "0" * 63},
        {"sha256": "A" * 64},
        {"sha256": "g" * 64},
    ],
)
def test_hashes_are_sha256_and_nothing_else(hashes: dict[str, str] | None) -> None:
    with pytest.raises(UntrustedError, match="snapshot"):
        digest_of(hashes, "snapshot")
    assert digest_of({"sha256": "0" * 64}, "snapshot").hex == "0" * 64
