"""How a TUF client finds targets through delegations and gets them (specification 5.6.7, 5.7)."""

import pytest

from tests.tuf_client import TARGET, Client, serve

GRAPHS: dict[str, tuple[str, str]] = {
    # delegations, with T for the top-level role, an ``!`` for a terminating one, a ``-`` for one of other paths; what is visited
    "one": ("TA", "A"),
    "two": ("TA TB", "AB"),
    "below the second": ("TA TB BC", "ABC"),
    "first down, then on": ("TA TB AC AD", "ACDB"),
    "down twice": ("TA TB AC CD", "ACDB"),
    "a terminating one ends all": ("TA TB AC! AD", "AC"),
    "but not what is below it": ("TA TB AC! CD", "ACD"),
    "one of other paths": ("TA- TB AC", "B"),
    "one of other paths below": ("TA TB AC- CD", "AB"),
    "a circle": ("TA TB BC CD DB", "ABCD"),
    "one reached twice": ("TA TB BC AC", "ACB"),
    "one reached twice, of other paths at first": ("TA TB BC AC-", "ABC"),
}


@pytest.mark.parametrize(("delegations", "visited"), GRAPHS.values(), ids=GRAPHS)
def test_roles_are_visited_in_order_of_depth_and_each_is_asked_for_once(
    client: Client, delegations: str, visited: str
) -> None:
    repository = client.repository
    for delegator, name, *marks in delegations.split():
        repository.delegate(
            name,
            ["*.py" if "-" in marks else "*"],
            terminating="!" in marks,
            by="targets" if delegator == "T" else delegator,
        )
    repository.publish()
    assert client.download("missing") == 1
    assert client.requests[4:] == [f"2.{name}.json" for name in visited]


@pytest.mark.parametrize(
    ("path", "visited", "is_found"),
    [
        ("top", "", True),
        ("README.md", "A", True),
        ("releases/x/x_v1", "BC", True),
        ("releases/y/y_v1.zip", "BD", True),
        ("releases/z/z_v1.zip", "B", False),
        ("releases/README.md", "", False),
        ("foo-1.tgz", "A", True),
        ("foo-alpha.tgz", "", False),
        ("README.MD", "", False),
    ],
)
def test_patterns_match_part_by_part_and_case_by_case(client: Client, path: str, visited: str, is_found: bool) -> None:
    repository = client.repository
    repository.delegate("A", ["*.doc", "*.md", "foo-?.tgz"], terminating=False)
    repository.delegate("B", ["releases/*/*"], terminating=False)
    repository.delegate("C", ["releases/x/*"], terminating=False, by="B")
    repository.delegate("D", ["releases/y/*.zip"], terminating=False, by="B")
    listed_by = {
        "targets": ["top"],
        "A": ["README.md", "README.MD", "releases/README.md", "foo-1.tgz", "foo-alpha.tgz"],
        "C": ["releases/x/x_v1"],
        "D": ["releases/y/y_v1.zip", "releases/z/z_v1.zip"],
    }
    for owner, names in listed_by.items():
        for name in names:
            serve(repository, owner, name, name.encode())
    repository.publish()
    assert client.download(path) == (0 if is_found else 1)
    assert [request for request in client.requests[4:] if "targets/" not in request] == [
        f"2.{name}.json" for name in visited
    ]
    assert [file.read_bytes() for file in client.targets.glob("*")] == ([path.encode()] if is_found else [])


def test_a_role_that_the_snapshot_does_not_list_is_not_even_asked_for(client: Client) -> None:
    repository = client.repository
    repository.delegate("delegated", ["path/*"])
    serve(repository, "delegated", "path/file", TARGET)
    repository.publish()
    del repository.snapshot.meta["delegated.json"]
    repository.publish_snapshot()
    assert client.refresh() == 0
    assert client.download("path/file") == 1
    assert client.requests == ["2.root.json", "timestamp.json"]
    assert "delegated.json" not in client.stored()


def test_a_target_that_changes_is_got_again_and_one_that_is_swapped_never(client: Client) -> None:
    repository = client.repository
    for number in range(3):
        content = f"content {number}".encode()
        serve(repository, "targets", "file.txt", content)
        repository.publish()
        assert client.download("file.txt") == 0
        assert [path.read_bytes() for path in client.targets.iterdir()] == [content]
        serve(repository, "targets", "file.txt", f"further {number}".encode())
        for path in repository.contents:
            repository.contents[path] = f"swapped {number}".encode()
        repository.publish()
        assert client.download("file.txt") == 1
        assert [path.read_bytes() for path in client.targets.iterdir()] == [content]
