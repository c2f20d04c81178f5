"""Which role may say what: paths, order, terminating, cycles."""

import pytest

from packager.vehicle.delegations import MAX_DELEGATIONS
from packager.vehicle.errors import UntrustedError
from packager.vehicle.metadata_store import MemoryStorage, NotFoundError, TrustedMetadata, initialise, refresh
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


def test_a_release_may_have_more_domains_than_one_search_visits(repository: RepositorySimulator) -> None:
    group = signers(1)
    for number in range(MAX_DELEGATIONS + 1):
        repository.delegate(f"r{number}", [f"h{number}/*/*"], with_signers=group)
        repository.add_image(f"r{number}", f"h{number}", "1", 1, b"image")
    trusted = _trusted(repository)
    assert len(trusted.delegations.everything()) == MAX_DELEGATIONS + 1
    assert _paths(trusted, "h32") == ["h32/1/image"]


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
