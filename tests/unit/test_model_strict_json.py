"""JSON objects: one reading, one writing, and the caller's own error."""

import pytest

from packager.model.errors import KeyMaterialError, SupplyChainError
from packager.model.strict_json import dump_json, parse_json


def test_same_values_are_same_bytes() -> None:
    assert dump_json({"b": 1, "a": [True, "x"]}) == dump_json({"a": [True, "x"], "b": 1}) == b'{"a":[true,"x"],"b":1}'
    assert parse_json(dump_json({"b": {"c": 3}}), "it", SupplyChainError) == {"b": {"c": 3}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff",
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"a":2}}',
        b'{"a":1.0}',
        b'{"a":NaN}',
        b'{"a":' + b"[" * 99,
    ],
)
@pytest.mark.parametrize("error", [KeyMaterialError, SupplyChainError])
def test_anything_else_is_the_error_of_the_caller(
    data: bytes, error: type[KeyMaterialError | SupplyChainError]
) -> None:
    with pytest.raises(error, match=r"^it: .*expected"):
        parse_json(data, "it", error)


def test_floats_that_are_no_numbers_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"a": float("nan")})
