"""Strict JSON: no key twice, integers are integers, bounded depth by size; one way to write it, so that same values are same bytes."""

import json
from typing import Any, NoReturn

from packager.model.errors import PackagerError


def parse_json(data: bytes, what: str, error: type[PackagerError]) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: UTF-8.
        what: Names it in messages.
        error: What to raise.

    Raises:
        PackagerError: As `error`: not JSON, not an object, a key twice, or a number that is not an integer.
    """

    def refuse(text: str) -> NoReturn:
        raise ValueError(f"found number {text}, expected integers only")

    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_float=refuse, parse_constant=refuse)
    except (ValueError, RecursionError) as cause:
        raise error(f"{what}: {cause}; expected strict JSON") from cause
    if not isinstance(value, dict):
        raise error(f"{what}: found JSON {type(value).__name__}, expected an object")
    return value


def dump_json(value: object) -> bytes:
    """Write `value` compactly with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"found key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found
