"""Whatever bytes come, they are verified or refused with one type of error; nothing else escapes."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Targets

from packager.vehicle.core.targets import read_target
from packager.vehicle.errors import UntrustedError
from packager.vehicle.installation.home import ConfigurationError, read_configuration
from packager.vehicle.trust import workflow
from packager.vehicle.trust.metadata_json import parse_json, parse_metadata
from packager.vehicle.trust.signatures import verify_signatures
from tests.repository_simulator import NOW, RepositorySimulator

REPOSITORY = RepositorySimulator()
REPOSITORY.delegate("body", ["bdc/*/*"])
REPOSITORY.add_image("body", "bdc", "1", 1, b"image")
REPOSITORY.publish()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["root", "sha256", "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _read_body(data: bytes) -> Targets:
    assert REPOSITORY.targets.delegations is not None
    candidate = parse_metadata(data, Targets, "body.json", max_bytes=1 << 20)
    role = REPOSITORY.targets.get_delegated_role("body")
    return verify_signatures(candidate, role, REPOSITORY.targets.delegations.keys, "targets")


READERS: dict[str, Callable[[bytes], object]] = {
    "1.root.json": workflow.read_root,
    "timestamp.json": lambda data: workflow.read_timestamp(data, REPOSITORY.root, None, NOW),
    "1.snapshot.json": lambda data: workflow.read_stored_snapshot(data, REPOSITORY.root),
    "1.body.json": _read_body,
}


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


@given(st.binary(max_size=40) | st.text('[]{}",:\\0123456789.eE-+tfn ua\u0301', max_size=30).map(str.encode))
def test_bytes_are_json_with_one_reading_or_untrusted(data: bytes) -> None:
    try:
        value = parse_json(data, "x")
    except UntrustedError:
        return
    assert value == json.loads(data)


@settings(max_examples=200)
@given(st.data())
def test_metadata_with_any_field_replaced_is_untrusted(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(READERS)))
    document = json.loads(REPOSITORY.files[name])
    path = data.draw(st.sampled_from(list(_places(document))))
    value = data.draw(VALUES)
    place = document
    for key in path[:-1]:
        place = place[key]
    if type(place[path[-1]]) is type(value) and place[path[-1]] == value:
        return
    place[path[-1]] = value
    try:
        READERS[name](json.dumps(document).encode())
    except UntrustedError:
        return
    raise AssertionError(f"{path} replaced by {value!r} was trusted")


@given(st.text(max_size=20) | st.sampled_from(["bdc/1/image", "bdc/1/full.bundle"]), st.integers(), VALUES)
def test_targets_are_read_or_untrusted(path: str, length_bytes: int, custom: Any) -> None:
    try:
        target = read_target(path, length_bytes, {"sha256": "0" * 64}, custom if isinstance(custom, dict) else None)
    except UntrustedError:
        return
    assert target.path == path


@given(st.text(max_size=60))
def test_a_configuration_is_read_or_its_problems_are_listed(text: str) -> None:
    try:
        read_configuration(text)
    except ConfigurationError as error:
        problems = error.problems
    else:
        problems = ("none",)
    assert problems
