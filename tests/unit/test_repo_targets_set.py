"""What must be signed next: a new release on top of those in force, and roles whose keys changed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tuf.api.metadata import Targets

from packager.model.errors import RepositoryError
from packager.model.policy import RolePolicy
from packager.repo.admission import Standing, role_name, split_role_name
from packager.repo.authority import Authority
from packager.repo.contents import Chain, Contents
from packager.repo.targets_set import BINDING, Payloads, prepare, renew
from packager.vehicle.core.head import MIN_HEAD_BYTES, SignedHead
from packager.vehicle.core.targets import BundleTarget, ImageTarget
from packager.vehicle.identity import Digest, ImageId
from tests.release_series import POLICY, STARTED_AT, make_authority

LATER = STARTED_AT + timedelta(days=7)
HARDWARE = {"body": ("bdc", "dwa"), "powertrain": ("dme",)}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


def image(hardware_id: str, version: str, counter: int, data: str = "") -> ImageTarget:
    return ImageTarget(hardware_id, version, ImageId.of(f"{data or version}".encode()), counter, (hardware_id,))


def bundle(hardware_id: str, version: str, old: str | None = None, data: str = "") -> BundleTarget:
    head = SignedHead(MIN_HEAD_BYTES, Digest.of(b"head"))
    start = None if old is None else Digest.of(old.encode())
    return BundleTarget(hardware_id, version, 1000, Digest.of(f"{hardware_id} {old} {data}".encode()), start, head)


def release(authority: Authority, name: str, **targets: Sequence[ImageTarget | BundleTarget]) -> Contents:
    chain = Chain({"root.layout": f"layout {name}".encode(), "diff.01.link": b"link"}, [authority.keys["owner"]])
    return Contents(name, HARDWARE, targets, chain)


def first(authority: Authority) -> Standing:
    contents = release(
        authority,
        "7.1",
        body=[image("bdc", "1", 11), bundle("bdc", "1"), image("dwa", "1", 21)],
        powertrain=[image("dme", "1", 31), bundle("dme", "1", "0")],
    )
    made = prepare(POLICY, authority.keys, STARTED_AT, None, contents)
    assert made.targets is not None
    return Standing(made.targets, made.roles)


def following(standing: Standing, made: Payloads) -> Standing:
    assert made.targets is not None
    return Standing(made.targets, {**standing.roles, **made.roles})


def delegated(targets: Targets | None) -> dict[str, list[str] | None]:
    assert targets is not None
    assert targets.delegations is not None
    return {name: role.paths for name, role in (targets.delegations.roles or {}).items()}


def test_the_first_release_has_a_role_per_domain_with_targets(authority: Authority) -> None:
    standing = first(authority)
    assert standing.targets.version == 1
    assert delegated(standing.targets) == {"body.7.1": ["bdc/1/*", "dwa/1/*"], "powertrain.7.1": ["dme/1/*"]}
    assert {name: role.version for name, role in standing.roles.items()} == {"body.7.1": 1, "powertrain.7.1": 1}
    assert set(standing.targets.targets) == {"chain/7.1/root.layout", "chain/7.1/diff.01.link"}
    assert standing.roles["body.7.1"].targets["bdc/1/full.bundle"].custom == {
        "head": [MIN_HEAD_BYTES, Digest.of(b"head").hex]
    }


def test_each_role_of_a_release_names_its_complete_supply_chain(authority: Authority) -> None:
    for role in first(authority).roles.values():
        assert role.unrecognized_fields == {
            BINDING: {
                "release": "7.1",
                "layout": "root.layout",
                "files": {"root.layout": Digest.of(b"layout 7.1").hex, "diff.01.link": Digest.of(b"link").hex},
            }
        }
        assert Targets.from_dict(role.to_dict()) == role


def test_a_new_release_comes_first_and_changes_none_before(authority: Authority) -> None:
    standing = first(authority)
    before = {name: role.to_dict() for name, role in standing.roles.items()}
    contents = release(authority, "7.2", body=[image("bdc", "2", 12), bundle("bdc", "2", "1")])
    made = prepare(POLICY, authority.keys, LATER, standing, contents)
    assert made.targets is not None
    assert (made.targets.version, made.targets.expires) == (2, LATER + timedelta(days=365))
    assert delegated(made.targets) == {"body.7.2": ["bdc/2/*"], **delegated(standing.targets)}
    assert list(delegated(made.targets)) == ["body.7.2", "body.7.1", "powertrain.7.1"]
    assert list(made.roles) == ["body.7.2"]
    assert {path.split("/")[1] for path in made.targets.targets} == {"7.1", "7.2"}
    assert made.targets.targets.items() >= standing.targets.targets.items()
    assert {name: role.to_dict() for name, role in standing.roles.items()} == before


def test_without_a_release_and_with_the_same_policy_nothing_is_to_be_signed(authority: Authority) -> None:
    assert prepare(POLICY, authority.keys, LATER, first(authority)) == Payloads(None, {})


@pytest.mark.parametrize(
    "changed",
    [
        RolePolicy(("targets-1",), 1, 9),
        RolePolicy(("body", "targets-1"), 1, 9),
        RolePolicy(("body", "targets-1"), 2, 9),
    ],
)
def test_roles_of_a_domain_with_other_keys_are_signed_again(authority: Authority, changed: RolePolicy) -> None:
    standing = first(authority)
    second = prepare(POLICY, authority.keys, LATER, standing, release(authority, "7.2", body=[image("bdc", "2", 12)]))
    standing = following(standing, second)
    policy = replace(POLICY, domains={**POLICY.domains, "body": changed})
    made = prepare(policy, authority.keys, LATER, standing)
    assert made.targets is not None
    assert made.targets.version == 3
    assert delegated(made.targets) == delegated(standing.targets)
    assert {name: role.version for name, role in made.roles.items()} == {"body.7.2": 2, "body.7.1": 2}
    for name, role in made.roles.items():
        assert role.targets == standing.roles[name].targets
        assert role.unrecognized_fields == standing.roles[name].unrecognized_fields
        assert role.expires == LATER + timedelta(days=9)
    assert made.targets.delegations is not None
    keyids = [authority.keys[name].keyid for name in changed.keys]
    for name, delegation in (made.targets.delegations.roles or {}).items():
        assert (delegation.keyids == keyids) == (split_role_name(name)[0] == "body")
    used = {*keyids, authority.keys["powertrain"].keyid}
    assert set(made.targets.delegations.keys) == used, "keys that nobody uses any more are gone"


def test_the_order_of_keys_in_the_policy_is_no_reason_to_sign_again(authority: Authority) -> None:
    both = replace(POLICY, domains={**POLICY.domains, "body": RolePolicy(("body", "owner"), 1, 9)})
    contents = release(authority, "7.1", body=[image("bdc", "1", 1)])
    made = prepare(both, authority.keys, STARTED_AT, None, contents)
    assert made.targets is not None
    turned = replace(POLICY, domains={**POLICY.domains, "body": RolePolicy(("owner", "body"), 1, 9)})
    assert prepare(turned, authority.keys, LATER, Standing(made.targets, made.roles)).roles == {}


def test_a_domain_that_the_policy_gave_up_keeps_its_releases(authority: Authority) -> None:
    standing = first(authority)
    policy = replace(POLICY, domains={"powertrain": POLICY.domains["powertrain"]})
    assert prepare(policy, authority.keys, LATER, standing) == Payloads(None, {})
    with pytest.raises(RepositoryError, match="the policy has no domain 'body'"):
        renew(policy, "body.7.1", standing.roles["body.7.1"], LATER)


def test_a_renewed_role_is_the_next_version_of_the_same(authority: Authority) -> None:
    role = first(authority).roles["body.7.1"]
    renewed = renew(POLICY, "body.7.1", role, LATER)
    assert (renewed.version, renewed.expires) == (2, LATER + timedelta(days=365))
    assert (renewed.targets, renewed.unrecognized_fields) == (role.targets, role.unrecognized_fields)
    assert role.version == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (image("bdc", "2", 12), None),
        (image("bdc", "1", 11), None),
        (image("bdc", "1b", 11, "1"), None),
        (image("bdc", "2", 10), r"release counter 10, but 'bdc/1/image' with 11 is in force"),
        (image("bdc", "2", 11), r"release counter 11, but 'bdc/1/image' with 11 is in force"),
        (image("bdc", "1", 12, "other"), r"target 'bdc/1/image': found .* in force is another content"),
    ],
    ids=["newer", "the same again", "another version of the same", "lower", "equal", "same version"],
)
def test_release_counters_only_grow(authority: Authority, target: ImageTarget, message: str | None) -> None:
    contents = release(authority, "7.2", body=[target], powertrain=[image("dme", "2", 32)])
    if message is None:
        assert "body.7.2" in prepare(POLICY, authority.keys, LATER, first(authority), contents).roles
        return
    with pytest.raises(RepositoryError, match=message) as caught:
        prepare(POLICY, authority.keys, LATER, first(authority), contents)
    assert caught.value.hint


def test_counters_are_held_against_all_releases_not_just_the_last(authority: Authority) -> None:
    standing = first(authority)
    other = release(authority, "7.2", powertrain=[image("dme", "2", 32)])
    standing = following(standing, prepare(POLICY, authority.keys, LATER, standing, other))
    with pytest.raises(RepositoryError, match="release counter 10, but 'bdc/1/image' with 11 is in force"):
        prepare(POLICY, authority.keys, LATER, standing, release(authority, "7.3", body=[image("bdc", "2", 10)]))
    lower_elsewhere = release(authority, "7.3", body=[image("bdc", "2", 12)])
    assert prepare(POLICY, authority.keys, LATER, standing, lower_elsewhere).roles


def test_a_published_bundle_never_changes(authority: Authority) -> None:
    again = [image("bdc", "1", 11), bundle("bdc", "1"), bundle("bdc", "1", "0")]
    assert prepare(POLICY, authority.keys, LATER, first(authority), release(authority, "7.2", body=again)).roles
    again[1] = bundle("bdc", "1", data="built by another version")
    with pytest.raises(RepositoryError, match=r"'bdc/1/full.bundle': found .* in force is another content"):
        prepare(POLICY, authority.keys, LATER, first(authority), release(authority, "7.2", body=again))


@pytest.mark.parametrize(
    "targets", [{"body": [image("bdc", "2", 12)]}, {"telematics": [image("tcb", "1", 1)]}], ids=["same", "other domain"]
)
def test_a_release_is_added_once(authority: Authority, targets: dict[str, Any]) -> None:
    contents = replace(release(authority, "7.1", **targets), hardware={**HARDWARE, "telematics": ("tcb",)})
    with pytest.raises(RepositoryError, match=r"release '7\.1': is in force already"):
        prepare(POLICY, authority.keys, LATER, first(authority), contents)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {}}, "has no targets"),
        ({"targets": {"body": []}}, "has no targets"),
        ({"targets": {"body": [bundle("bdc", "1")]}}, "leads to no image, expected 'bdc/1/image'"),
        ({"targets": {"body": [image("bdc", "2", 1), bundle("bdc", "1")]}}, "leads to no image"),
        ({"hardware": {"body": ("bdc", "chain")}}, "found hardware id 'chain', expected a name other than"),
        ({"release": "x" * 60}, "at most 64 characters"),
        ({"release": "a/b"}, "role 'body.a/b'"),
    ],
)
def test_what_no_role_can_hold_is_refused(authority: Authority, changes: dict[str, Any], message: str) -> None:
    contents = release(authority, "7.1", body=[image("bdc", "1", 1)])
    assert prepare(POLICY, authority.keys, STARTED_AT, None, contents)
    with pytest.raises(RepositoryError, match=message):
        prepare(POLICY, authority.keys, STARTED_AT, None, replace(contents, **changes))


def test_names_of_roles() -> None:
    assert split_role_name(role_name("chassis-safety", "07-2020.45")) == ("chassis-safety", "07-2020.45")
    assert len(role_name("body", "x" * 59)) == 64
    for domain, version in (("body", "x" * 60), ("bo.dy", "1"), ("body", "a b"), ("", "1")):
        with pytest.raises(RepositoryError, match="expected a domain without a dot, and at most 64 characters"):
            role_name(domain, version)
