"""JSON objects on the build side: read as strictly as the vehicle reads, and written in one way, so that same values are same bytes."""

import json
from typing import Any

from packager.model.errors import PackagerError
from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust.metadata_json import parse_json as parse_strictly


def parse_json(data: bytes, what: str, error: type[PackagerError]) -> dict[str, Any]:
    """Parse a JSON object that has one reading only (`packager.vehicle.trust.metadata_json`).

    Args:
        data: UTF-8.
        what: Names it in messages.
        error: What to raise.

    Raises:
        PackagerError: As `error`: not JSON, not an object, or ambiguous.
    """
    try:
        value = parse_strictly(data, what)
    except UntrustedError as cause:
        raise error(f"{cause}; expected a JSON object") from cause
    if not isinstance(value, dict):
        raise error(f"{what}: found JSON {type(value).__name__}, expected an object")
    return value


def dump_json(value: object) -> bytes:
    """Write `value` compactly with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
