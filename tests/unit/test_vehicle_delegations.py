"""Which role may say what: paths, order, terminating, cycles."""

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, TargetFile, Targets

from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust.delegations import MAX_DELEGATIONS, MAX_ROLES, DelegationTree
from packager.vehicle.trust.metadata_store import MemoryStorage, NotFoundError, TrustedMetadata, initialise, refresh
from tests.repository_simulator import NOW, RepositorySimulator, signers


@pytest.fixture
def repository() -> RepositorySimulator:
    return RepositorySimulator()


def _trusted(repository: RepositorySimulator) -> TrustedMetadata:
    repository.publish()
    storage = MemoryStorage()
    initialise(storage, repository.files["1.root.json"])
    return refresh(storage, repository, NOW)


def _digest(trusted: TrustedMetadata, path: str) -> str | None:
    found = trusted.delegations.find(path)
    return None if found is None else found.hashes["sha256"][:4]


def _paths(trusted: TrustedMetadata, hardware_id: str) -> list[str]:
    return [target.path for target in trusted.delegations.of_hardware(hardware_id)]


def test_a_role_says_nothing_outside_its_paths(repository: RepositorySimulator) -> None:
    repository.delegate("body", ["bdc/*/*"])
    repository.delegate("chassis", ["dsc/*/*", "egs/*/*"])
    repository.add_image("body", "bdc", "1", 1, b"body")
    repository.add_image("body", "dsc", "9", 9, b"forged")
    repository.add_image("chassis", "dsc", "1", 1, b"brakes")
    trusted = _trusted(repository)
    assert _paths(trusted, "bdc") == ["bdc/1/image"]
    assert _paths(trusted, "dsc") == ["dsc/1/image"]
    assert trusted.delegations.find("dsc/9/image") is None
    assert [t.path for t in trusted.delegations.everything()] == ["bdc/1/image", "dsc/1/image"]


def test_only_roles_of_the_hardware_are_fetched(repository: RepositorySimulator) -> None:
    repository.delegate("body", ["bdc/*/*"])
    repository.delegate("chassis", ["dsc/*/*"])
    repository.add_image("chassis", "dsc", "1", 1, b"brakes")
    trusted = _trusted(repository)
    repository.requests.clear()
    assert _paths(trusted, "dsc") == ["dsc/1/image"]
    assert repository.requests == ["1.chassis.json"]
    assert _paths(trusted, "kombi") == []


def test_the_first_role_in_order_decides(repository: RepositorySimulator) -> None:
    for name, counter in (("first", 1), ("second", 2)):
        repository.delegate(name, ["bdc/*/*"], terminating=False)
        repository.add_image(name, "bdc", "1", counter, name.encode())
    repository.add_image("second", "bdc", "2", 3, b"more")
    found = _trusted(repository).delegations.of_hardware("bdc")
    assert [(t.path, getattr(t, "release_counter", 0)) for t in found] == [("bdc/1/image", 1), ("bdc/2/image", 3)]


def test_a_terminating_role_ends_the_search(repository: RepositorySimulator) -> None:
    """CVE-2025-2886 and its like: a later role may not add what the responsible one does not list."""
    repository.delegate("first", ["bdc/1/*"], terminating=True)
    repository.delegate("second", ["bdc/*/*"])
    repository.add_image("second", "bdc", "1", 1, b"forged")
    repository.add_image("second", "bdc", "2", 2, b"fine")
    trusted = _trusted(repository)
    assert trusted.delegations.find("bdc/1/image") is None
    assert trusted.delegations.find("bdc/2/image") is not None
    assert _paths(trusted, "bdc") == [], "the first role that names the hardware is its newest release"


def test_a_terminating_role_for_all_of_the_hardware_spares_the_rest(repository: RepositorySimulator) -> None:
    repository.delegate("first", ["bdc/*/*"])
    repository.delegate("second", ["bdc/*/*"])
    repository.add_image("first", "bdc", "1", 1, b"fine")
    trusted = _trusted(repository)
    repository.requests.clear()
    assert _paths(trusted, "bdc") == ["bdc/1/image"]
    assert repository.requests == ["1.first.json"]


def test_a_terminating_role_ends_the_search_of_its_delegator_too(repository: RepositorySimulator) -> None:
    repository.delegate("outer", ["bdc/*/*"], terminating=False)
    repository.delegate("inner", ["bdc/*/*"], by="outer", terminating=True)
    repository.delegate("other", ["bdc/*/*"])
    repository.add_image("other", "bdc", "1", 1, b"forged")
    assert _trusted(repository).delegations.find("bdc/1/image") is None


def test_a_nested_role_needs_every_path_on_the_way(repository: RepositorySimulator) -> None:
    repository.delegate("outer", ["bdc/*/*"])
    repository.delegate("inner", ["*/*/*"], by="outer")
    repository.add_image("inner", "bdc", "1", 1, b"fine")
    repository.add_image("inner", "dsc", "1", 1, b"forged")
    trusted = _trusted(repository)
    assert _paths(trusted, "bdc") == ["bdc/1/image"]
    assert _paths(trusted, "dsc") == []


def test_a_star_does_not_cross_a_slash(repository: RepositorySimulator) -> None:
    repository.delegate("body", ["bdc/*", "*"])
    repository.add_image("body", "bdc", "1", 1, b"image")
    assert _paths(_trusted(repository), "bdc") == []


def test_cycles_end(repository: RepositorySimulator) -> None:
    repository.delegate("a", ["*/*/*"], terminating=False)
    repository.delegate("b", ["*/*/*"], by="a", terminating=False)
    repository.delegate("a", ["*/*/*"], by="b", terminating=False)
    repository.add_image("b", "bdc", "1", 1, b"image")
    trusted = _trusted(repository)
    assert trusted.delegations.find("none/1/image") is None
    assert _paths(trusted, "bdc") == ["bdc/1/image"]


def test_a_role_is_verified_by_each_of_its_delegators(repository: RepositorySimulator) -> None:
    """Diamond delegations, as python-tuf has it since 7.0.1: what one delegator vouches for is not what another one does."""
    repository.delegate("shared", ["bdc/*/*"], terminating=False)
    repository.delegate("other", ["dsc/*/*"], terminating=False)
    repository.delegate("shared", ["dsc/*/*"], by="other", with_signers=signers(1))
    repository.add_image("shared", "bdc", "1", 1, b"fine")
    repository.add_image("shared", "dsc", "1", 1, b"forged")
    trusted = _trusted(repository)
    assert _paths(trusted, "bdc") == ["bdc/1/image"]
    with pytest.raises(UntrustedError, match=r"shared.json: signed by 0 different keys"):
        _paths(trusted, "dsc")


@pytest.mark.parametrize("name", ["../evil", "/abs", "a/b", "a b", "", ".hidden", "x" * 65])
def test_role_names_are_safe_as_paths(repository: RepositorySimulator, name: str) -> None:
    """CVE-2021-41131."""
    if not name:
        repository.delegate("x", ["bdc/*/*"])
        assert repository.targets.delegations is not None
        assert repository.targets.delegations.roles is not None
        repository.targets.delegations.roles["x"].name = name
        with pytest.raises(UntrustedError, match="not targets metadata"):
            _trusted(repository)
        return
    repository.delegate(name, ["bdc/*/*"])
    with pytest.raises(UntrustedError, match="safe as a path"):
        _paths(_trusted(repository), "bdc")


def test_a_role_that_the_repository_lacks_may_come_later(repository: RepositorySimulator) -> None:
    repository.delegate("body", ["bdc/*/*"])
    trusted = _trusted(repository)
    del repository.files["1.body.json"]
    with pytest.raises(NotFoundError, match=r"1.body.json"):
        _paths(trusted, "bdc")


@pytest.mark.parametrize("count", [MAX_DELEGATIONS, MAX_DELEGATIONS + 1])
def test_the_number_of_roles_on_the_way_is_bounded(repository: RepositorySimulator, count: int) -> None:
    group = signers(1)
    for number in range(count):
        repository.delegate(f"r{number}", ["bdc/*/*"], terminating=False, with_signers=group)
    repository.add_image(f"r{count - 1}", "bdc", "1", 1, b"image")
    trusted = _trusted(repository)
    assert trusted.delegations.everything
    if count <= MAX_DELEGATIONS:
        assert _paths(trusted, "bdc") == ["bdc/1/image"]
    else:
        with pytest.raises(UntrustedError, match="more than 32 roles on the way"):
            _paths(trusted, "bdc")


def test_roles_that_are_not_responsible_do_not_count(repository: RepositorySimulator) -> None:
    """A repository keeps more releases than one search may visit."""
    group = signers(1)
    for number in range(2 * MAX_DELEGATIONS, 0, -1):
        repository.delegate(f"body.{number}", [f"bdc/{number}/*"], with_signers=group)
        repository.delegate(f"chassis.{number}", [f"dsc/{number}/*"], with_signers=group)
        repository.add_image(f"body.{number}", "bdc", f"{number}", number, b"image")
        repository.add_image(f"chassis.{number}", "dsc", f"{number}", number, b"image")
    trusted = _trusted(repository)
    repository.requests.clear()
    assert _paths(trusted, "dsc") == ["dsc/64/image"]
    assert trusted.delegations.read("dsc/1/image") is not None
    assert trusted.delegations.find("dsc/65/image") is None
    assert repository.requests == ["1.chassis.64.json", "1.chassis.1.json"]
    assert len(trusted.delegations.everything(superseded=True)) == 4 * MAX_DELEGATIONS
    assert [t.path for t in trusted.delegations.everything()] == ["bdc/64/image", "dsc/64/image"]


@pytest.mark.parametrize(("count", "is_refused"), [(MAX_ROLES, False), (MAX_ROLES + 1, True)])
def test_the_number_of_roles_of_a_repository_is_bounded(count: int, is_refused: bool) -> None:
    roles = {f"r{n}": DelegatedRole(f"r{n}", [], 1, True, [f"h{n}/1/*"]) for n in range(count)}
    tree = DelegationTree(Targets(delegations=Delegations({}, roles)), lambda *_: Targets())
    assert tree.of_hardware("h1") == []
    if is_refused:
        with pytest.raises(UntrustedError, match=f"more than {MAX_ROLES} roles on the way"):
            tree.everything()
    else:
        assert len(tree.roles(superseded=False)) == count


def test_a_hot_fix_for_some_hardware_leaves_the_rest_to_the_release_before(repository: RepositorySimulator) -> None:
    """The order is per hardware id: what a release does not name stays with the newest one that does."""
    for name, hardware in (("body.fix", ("bdc",)), ("body.2", ("bdc", "dwa")), ("body.1", ("bdc", "dwa", "gone"))):
        version = name.partition(".")[2]
        repository.delegate(name, [f"{hardware_id}/{version}/*" for hardware_id in hardware])
        for hardware_id in hardware:
            repository.add_image(name, hardware_id, version, 1, name.encode())
    trusted = _trusted(repository)
    assert _paths(trusted, "bdc") == ["bdc/fix/image"]
    assert _paths(trusted, "dwa") == ["dwa/2/image"]
    assert _paths(trusted, "gone") == ["gone/1/image"]
    assert list(trusted.delegations.roles(superseded=False)) == ["body.fix", "body.2", "body.1"]
    del repository.delegated["body.1"].targets["gone/1/image"]
    assert repository.targets.delegations is not None
    assert repository.targets.delegations.roles is not None
    repository.targets.delegations.roles["body.1"].paths = ["bdc/1/*", "dwa/1/*"]
    trusted = _trusted(repository)
    assert list(trusted.delegations.roles(superseded=False)) == ["body.fix", "body.2"]
    assert list(trusted.delegations.roles(superseded=True)) == ["body.fix", "body.2", "body.1"]


def test_the_newest_release_hides_the_older_even_where_it_offers_nothing(repository: RepositorySimulator) -> None:
    """An older role can't come back by what the newer one leaves out."""
    repository.delegate("body.2", ["bdc/2/*"])
    repository.delegate("body.1", ["bdc/1/*"])
    repository.add_image("body.1", "bdc", "1", 1, b"old")
    trusted = _trusted(repository)
    assert _paths(trusted, "bdc") == []
    repository.add_image("body.2", "bdc", "2", 2, b"new")
    assert _paths(_trusted(repository), "bdc") == ["bdc/2/image"]


@pytest.mark.parametrize("pattern", ["*/*/*", "b*/*/*", "bd[c]/1/*", "bd?/1/*"])
def test_patterns_may_have_wildcards_anywhere(repository: RepositorySimulator, pattern: str) -> None:
    repository.delegate("other", ["dsc/*/*"])
    repository.delegate("body", ["zzz/1/*", pattern, "bdc/1/*"])
    repository.add_image("body", "bdc", "1", 1, b"image")
    trusted = _trusted(repository)
    assert _paths(trusted, "bdc") == ["bdc/1/image"]
    assert trusted.delegations.responsible("bdc/1/image") == "body"
    assert [t.path for t in trusted.delegations.everything()] == ["bdc/1/image"]


def test_the_index_of_patterns_says_what_the_reference_says() -> None:
    patterns = ["a/1/*", "a/*/*", "*/1/*", "a/1/image", "b/2/*", "[ab]/2/*", "a/1", "chain/*/*", "*", "a/?/*"]
    paths = ["a/1/image", "a/2/x", "b/1/image", "b/2/image", "c/1/image", "a/1", "a", "chain/1/x", "a/10/image"]
    roles = {f"r{n}": DelegatedRole(f"r{n}", [], 1, False, [p, "zz/9/*"]) for n, p in enumerate(patterns)}
    delegations = Delegations({}, roles)
    tree = DelegationTree(Targets(delegations=delegations), lambda *_: Targets())
    for path in paths:
        expected = next((name for name, _ in delegations.get_roles_for_target(path)), None)
        assert tree.responsible(path) == expected, path


@pytest.mark.parametrize(
    ("first", "second", "is_read"),
    [
        ((["bdc/2/*"], True), ["bdc/1/*"], False),
        ((["bdc/2/*"], False), ["bdc/1/*"], True),
        ((["bdc/2/*"], True), ["bdc/1/*", "b*/1/*"], True),
        ((["bdc/2/*"], True), ["bdc/1/*", "summary/body.json"], False),
        ((["bdc/*"], True), ["bdc/1/*"], True),
        ((["bdc/2/*"], True), None, True),
    ],
    ids=["superseded", "not terminating", "wildcard", "another path", "no path of an image", "hash prefixes"],
)
def test_a_role_is_left_out_only_if_newer_ones_name_all_of_its_hardware(
    first: tuple[list[str], bool], second: list[str] | None, is_read: bool
) -> None:
    roles = {
        "new": DelegatedRole("new", [], 1, first[1], first[0]),
        "old": DelegatedRole("old", [], 1, True, second, None if second else ["a"]),
    }
    tree = DelegationTree(Targets(delegations=Delegations({}, roles)), lambda *_: Targets())
    assert list(tree.roles(superseded=False)) == (["new", "old"] if is_read else ["new"])


def test_evidence_of_the_supply_chain_is_nothing_to_install() -> None:
    top = Targets(targets={"chain/1/root.layout": TargetFile(1, {"sha256": "0" * 64}, "chain/1/root.layout")})
    tree = DelegationTree(top, lambda *_: Targets())
    assert tree.everything() == tree.of_hardware("chain") == []
    assert tree.find("chain/1/root.layout") is not None


def test_hash_prefixes_select_targets(repository: RepositorySimulator) -> None:
    repository.delegate("bin", ["*"])
    assert repository.targets.delegations is not None
    assert repository.targets.delegations.roles is not None
    role = repository.targets.delegations.roles["bin"]
    role.paths, role.path_hash_prefixes = None, [f"{n:x}" for n in range(16)]
    repository.add_image("bin", "bdc", "1", 1, b"image")
    assert _paths(_trusted(repository), "bdc") == ["bdc/1/image"]


@pytest.mark.parametrize("custom", [None, {}, {"release_counter": True, "hardware_ids": ["bdc"]}])
def test_signed_nonsense_is_not_trusted(repository: RepositorySimulator, custom: dict[str, object] | None) -> None:
    repository.delegate("body", ["bdc/*/*"])
    repository.add_target("body", "bdc/1/image", b"image", custom)
    with pytest.raises(UntrustedError, match="bdc/1/image"):
        _paths(_trusted(repository), "bdc")


def test_a_target_with_another_hash_is_refused(repository: RepositorySimulator) -> None:
    repository.delegate("body", ["bdc/*/*"])
    repository.add_image("body", "bdc", "1", 1, b"image")
    repository.delegated["body"].targets["bdc/1/image"].hashes["md5"] = "0" * 32
    with pytest.raises(UntrustedError, match=r"found hashes \['md5', 'sha256'\], expected sha256 alone"):
        _paths(_trusted(repository), "bdc")
