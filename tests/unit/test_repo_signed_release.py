"""The TUF repository: what a client sees at any moment, who signed it, and what is refused before it is signed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from packager.model.errors import KeyMaterialError, RepositoryError
from packager.model.policy import KeyPolicy, RolePolicy
from packager.repo import targets_set
from packager.repo.authority import Authority
from packager.repo.ceremony import prepare_root
from packager.repo.contents import Chain, Contents
from packager.repo.signing import sign
from packager.vehicle.core.head import MIN_HEAD_BYTES, SignedHead
from packager.vehicle.core.targets import BundleTarget, ImageTarget, read_target
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.trust import workflow
from packager.vehicle.trust.delegations import DelegationTree
from packager.vehicle.trust.metadata_store import MemoryStorage, initialise, refresh
from tests.release_series import Served
from tests.signed_metadata import load_metadata, sign_metadata, verify_metadata, write_metadata

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
POLICY = KeyPolicy(
    demo=True,
    root=RolePolicy(("root-1", "root-2", "root-3"), 2, 365),
    targets=RolePolicy(("targets-1", "targets-2", "targets-3"), 2, 90),
    snapshot=RolePolicy(("snapshot",), 1, 30),
    timestamp=RolePolicy(("timestamp",), 1, 14),
    domains={
        "body": RolePolicy(("body",), 1, 60),
        "powertrain": RolePolicy(("pt-1", "pt-2"), 2, 60),
        "telematics": RolePolicy(("tcb",), 1, 60),
    },
    layout=RolePolicy(("owner",), 1, 90),
    steps={},
)
NAMES = [*POLICY.root.keys, *POLICY.targets.keys, "snapshot", "timestamp", "body", "pt-1", "pt-2", "tcb", "owner"]


def image(name: str) -> ImageId:
    return ImageId.of(name.encode())


def image_target(hardware_id: str, version: str, *more: str) -> ImageTarget:
    return ImageTarget(hardware_id, version, image(f"{hardware_id} {version}"), 7, (hardware_id, *more))


def bundle_target(hardware_id: str, version: str, old: str | None = None) -> BundleTarget:
    name = f"{hardware_id} {version} {old}"
    return BundleTarget(
        hardware_id,
        version,
        1000,
        Digest.of(name.encode()),
        image(f"{hardware_id} {old}").digest if old else None,
        SignedHead(MIN_HEAD_BYTES, Digest.of(b"head")),
    )


HARDWARE = {"powertrain": ("EGS-2", "DME-1"), "body": ("BDC-1",)}
TARGETS: Mapping[str, Sequence[ImageTarget | BundleTarget]] = {
    "powertrain": [
        image_target("DME-1", "3"),
        bundle_target("DME-1", "3"),
        bundle_target("DME-1", "3", "2"),
        image_target("EGS-2", "3"),
    ],
    "body": [image_target("BDC-1", "9"), bundle_target("BDC-1", "9")],
}


@pytest.fixture(scope="module")
def authority() -> Authority:
    signers = {name: CryptoSigner.generate_ed25519() for name in NAMES}
    keys = {name: signer.public_key for name, signer in signers.items()}
    return Authority(POLICY, keys, signers, sign("root", prepare_root(POLICY, keys, NOW), POLICY.root, signers))


@pytest.fixture
def contents(authority: Authority) -> Contents:
    return Contents(
        "7-3",
        HARDWARE,
        TARGETS,
        Chain({"root.layout": b"{layout}", "diff.0123abcd.link": b"{link}"}, [authority.keys["owner"]]),
    )


def load(directory: Path, name: str) -> Metadata:
    return Metadata.from_bytes((directory / name).read_bytes())


def test_round_trip_by_the_metadata_api_alone(tmp_path: Path, authority: Authority, contents: Contents) -> None:
    names = write_metadata(tmp_path / "metadata", authority, contents, NOW)
    directory = tmp_path / "metadata"
    assert sorted(names) == sorted(path.name for path in directory.iterdir())
    assert (directory / "1.root.json").read_bytes() == authority.root
    root: Root = load(directory, "1.root.json").signed
    timestamp = load(directory, "timestamp.json")
    root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
    assert isinstance(timestamp.signed, Timestamp)
    timestamp.signed.snapshot_meta.verify_length_and_hashes((directory / "1.snapshot.json").read_bytes())
    assert timestamp.signed.expires == NOW + timedelta(days=14)
    snapshot = load(directory, "1.snapshot.json")
    root.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
    assert isinstance(snapshot.signed, Snapshot)
    assert snapshot.signed.expires == NOW + timedelta(days=30)
    assert set(snapshot.signed.meta) == {"targets.json", "body.7-3.json", "powertrain.7-3.json"}
    for name, meta in snapshot.signed.meta.items():
        assert meta.length
        assert list(meta.hashes or {}) == ["sha256"]
        meta.verify_length_and_hashes((directory / f"1.{name}").read_bytes())
    top = load(directory, "1.targets.json")
    root.verify_delegate("targets", top.signed_bytes, top.signatures)
    assert isinstance(top.signed, Targets)
    for domain, targets in TARGETS.items():
        role = load(directory, f"1.{domain}.7-3.json")
        top.signed.verify_delegate(f"{domain}.7-3", role.signed_bytes, role.signatures)
        read = [
            read_target(path, entry.length, entry.hashes, entry.custom) for path, entry in role.signed.targets.items()
        ]
        assert sorted(read, key=lambda target: target.path) == sorted(targets, key=lambda target: target.path)
        assert all(list(entry.hashes) == ["sha256"] for entry in role.signed.targets.values())


def test_delegations_are_by_exact_version_and_terminating(authority: Authority, contents: Contents) -> None:
    top = Metadata[Targets].from_bytes(sign_metadata(authority, contents, NOW)["1.targets.json"]).signed
    assert top.delegations is not None
    roles = top.delegations.roles or {}
    assert set(roles) == {"body.7-3", "powertrain.7-3"}, "telematics has no hardware, and no role"
    assert roles["powertrain.7-3"].paths == ["DME-1/3/*", "EGS-2/3/*"]
    assert all(role.terminating for role in roles.values())
    assert roles["powertrain.7-3"].threshold == 2
    assert [role for role, _ in top.delegations.get_roles_for_target("BDC-1/9/image")] == ["body.7-3"]
    assert not list(top.delegations.get_roles_for_target("BDC-1/8/image"))


def test_layout_target_carries_the_keys_that_verify_it(authority: Authority, contents: Contents) -> None:
    top = Metadata[Targets].from_bytes(sign_metadata(authority, contents, NOW)["1.targets.json"]).signed
    layout = top.targets["chain/7-3/root.layout"]
    assert layout.custom == {
        "in-toto": {"keys": [{**authority.keys["owner"].to_dict(), "keyid": authority.keys["owner"].keyid}]}
    }
    assert layout.hashes == {"sha256": hashlib.sha256(b"{layout}").hexdigest()}
    assert top.targets["chain/7-3/diff.0123abcd.link"].custom is None


def test_same_inputs_same_bytes_in_any_order(tmp_path: Path, authority: Authority, contents: Contents) -> None:
    write_metadata(tmp_path / "a", authority, contents, NOW)
    shuffled = Contents(
        "7-3",
        {domain: contents.hardware[domain][::-1] for domain in reversed(HARDWARE)},
        {domain: contents.targets[domain][::-1] for domain in reversed(TARGETS)},
        Chain(dict(reversed(contents.chain.files.items())), contents.chain.layout_keys),
    )
    write_metadata(tmp_path / "b", replace(authority, signers=dict(reversed(authority.signers.items()))), shuffled, NOW)
    a, b = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab")
    assert a == b
    for data in a.values():
        assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()


def test_only_the_keys_of_a_role_sign_it(authority: Authority, contents: Contents) -> None:
    files = sign_metadata(authority, contents, NOW)
    for name, policy in (
        ("1.targets", POLICY.targets),
        ("1.powertrain.7-3", POLICY.domains["powertrain"]),
        ("timestamp", POLICY.timestamp),
    ):
        signatures = Metadata.from_bytes(files[f"{name}.json"]).signatures
        assert list(signatures) == [authority.keys[key].keyid for key in policy.keys]


@pytest.mark.parametrize(
    ("lost", "enough"),
    [(("targets-1",), True), (("targets-1", "targets-2"), False), (("pt-2",), False), (("snapshot",), False)],
)
def test_threshold_must_be_met(
    tmp_path: Path, authority: Authority, contents: Contents, lost: tuple[str, ...], enough: bool
) -> None:
    fewer = replace(authority, signers={name: signer for name, signer in authority.signers.items() if name not in lost})
    if enough:
        write_metadata(tmp_path / "m", fewer, contents, NOW)
    else:
        with pytest.raises(KeyMaterialError, match=f"missing: .*{lost[-1]}"):
            write_metadata(tmp_path / "m", fewer, contents, NOW)
        assert not (tmp_path / "m").exists()


def test_foreign_signer_under_a_right_name_is_found_before_anything_is_written(
    tmp_path: Path, authority: Authority, contents: Contents
) -> None:
    for name in ("timestamp", "snapshot", "body"):
        forged = replace(authority, signers={**authority.signers, name: CryptoSigner.generate_ed25519()})
        with pytest.raises(RepositoryError, match="signed by 0 different keys"):
            write_metadata(tmp_path / "m", forged, contents, NOW)
        assert not (tmp_path / "m").exists()


def test_root_of_other_keys_is_refused(tmp_path: Path, authority: Authority, contents: Contents) -> None:
    signers = {name: CryptoSigner.generate_ed25519() for name in NAMES}
    keys = {name: signer.public_key for name, signer in signers.items()}
    other = sign("root", prepare_root(POLICY, keys, NOW), POLICY.root, signers)
    with pytest.raises(RepositoryError, match="signed by 0 different keys") as caught:
        write_metadata(tmp_path / "m", replace(authority, root=other), contents, NOW)
    assert "root.json" in caught.value.hint
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("after", "accepted"), [(timedelta(days=365, seconds=-1), True), (timedelta(days=365), False)])
def test_expired_root_signs_nothing(authority: Authority, contents: Contents, after: timedelta, accepted: bool) -> None:
    if accepted:
        sign_metadata(authority, contents, NOW + after)
    else:
        with pytest.raises(RepositoryError, match=r"root\.json: expired"):
            sign_metadata(authority, contents, NOW + after)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"signed":{},"signed":{}}', b"x" * 600_000])
def test_bad_root_is_refused(authority: Authority, contents: Contents, data: bytes) -> None:
    with pytest.raises(RepositoryError, match="root"):
        sign_metadata(replace(authority, root=data), contents, NOW)


REFUSED = {
    "hardware in two domains": (
        {"hardware": {**HARDWARE, "body": ("BDC-1", "DME-1")}},
        r"hardware id 'DME-1': found in the domains 'powertrain' and 'body'",
    ),
    "unknown domain": ({"hardware": {**HARDWARE, "doors": ("X",)}}, "domain 'doors': has no role"),
    "targets of an unknown domain": ({"targets": {**TARGETS, "doors": [image_target("X", "1")]}}, "domain 'doors'"),
    "hardware id is no name": ({"hardware": {**HARDWARE, "body": ("BDC-1", "*")}}, r"found hardware id '\*'"),
    "target of another domain": (
        {"targets": {**TARGETS, "body": [image_target("DME-1", "4")]}},
        "not of the domain 'body'",
    ),
    "target of unknown hardware": (
        {"targets": {**TARGETS, "body": [image_target("ZZZ", "4")]}},
        "not of the domain 'body'",
    ),
    "image for another domain's hardware": (
        {"targets": {**TARGETS, "body": [image_target("BDC-1", "4", "DME-1")]}},
        "is for hardware 'DME-1' of the domain 'powertrain'",
    ),
    "same path twice": (
        {"targets": {**TARGETS, "body": [bundle_target("BDC-1", "9"), bundle_target("BDC-1", "9")]}},
        "found twice",
    ),
    "unsafe version": ({"targets": {**TARGETS, "body": [image_target("BDC-1", "../9")]}}, "a vehicle would refuse it"),
    "release counter out of range": (
        {"targets": {**TARGETS, "body": [replace(image_target("BDC-1", "9"), release_counter=-1)]}},
        "a vehicle would refuse it",
    ),
    "no layout": ({"chain": Chain({}, [])}, "no layout"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_before_signing(tmp_path: Path, authority: Authority, contents: Contents, case: str) -> None:
    changes, message = REFUSED[case]
    changed = replace(contents, **changes)
    with pytest.raises(RepositoryError, match=message) as caught:
        write_metadata(tmp_path / "m", authority, changed, NOW)
    assert caught.value.exit_code == 40
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden"])
def test_chain_files_have_plain_names(authority: Authority, contents: Contents, name: str) -> None:
    chain = Chain({**contents.chain.files, name: b""}, contents.chain.layout_keys)
    with pytest.raises(RepositoryError, match="plain name"):
        sign_metadata(authority, replace(contents, chain=chain), NOW)


def test_timestamp_is_written_last(tmp_path: Path, authority: Authority, contents: Contents) -> None:
    assert write_metadata(tmp_path, authority, contents, NOW)[-1] == "timestamp.json"


def test_a_published_version_never_changes(tmp_path: Path, authority: Authority, contents: Contents) -> None:
    write_metadata(tmp_path, authority, contents, NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RepositoryError, match="release '7-3': is in force already"):
        write_metadata(tmp_path, authority, contents, NOW + timedelta(days=1))
    (tmp_path / "timestamp.json").unlink()  # as if it was cut short
    with pytest.raises(RepositoryError, match="a published version never changes"):
        write_metadata(tmp_path, authority, contents, NOW + timedelta(days=1))
    write_metadata(tmp_path, authority, contents, NOW)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.body.7-3.json", "1.powertrain.7-3.json"]
)
def test_verify_finds_a_missing_and_a_changed_file(authority: Authority, contents: Contents, name: str) -> None:
    files = sign_metadata(authority, contents, NOW)
    assert len(verify_metadata(files, authority.root, NOW)) == 6
    with pytest.raises(RepositoryError, match="is missing"):
        verify_metadata({key: data for key, data in files.items() if key != name}, authority.root, NOW)
    for position in range(0, len(files[name]), 37):
        damaged = bytearray(files[name])
        damaged[position] ^= 1
        with pytest.raises(RepositoryError):
            verify_metadata({**files, name: bytes(damaged)}, authority.root, NOW)


class DirectoryFetcher(FetcherInterface):
    """Serves a directory to the reference client."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fetched: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rsplit("/", 1)[1]
        self.fetched.append(name)
        try:
            yield (self.directory / name).read_bytes()
        except FileNotFoundError as error:
            raise DownloadHTTPError("not found", 404) from error


def test_the_reference_client_reads_it(tmp_path: Path, authority: Authority, contents: Contents) -> None:
    write_metadata(tmp_path / "repo", authority, contents, NOW)
    fetcher = DirectoryFetcher(tmp_path / "repo")
    (tmp_path / "client").mkdir()
    updater = Updater(
        str(tmp_path / "client"), "http://car.example/metadata", fetcher=fetcher, bootstrap=authority.root
    )
    updater._trusted_set.reference_time = NOW
    updater.refresh()
    expected = bundle_target("DME-1", "3", "2")
    entry = updater.get_targetinfo(expected.path)
    assert entry is not None
    assert read_target(entry.path, entry.length, entry.hashes, entry.custom) == expected
    assert updater.get_targetinfo("DME-1/4/image") is None
    assert updater.get_targetinfo("chain/7-3/root.layout") is not None
    assert "1.powertrain.7-3.json" in fetcher.fetched
    assert "1.body.7-3.json" not in fetcher.fetched


@pytest.mark.parametrize(("after", "holds"), [(timedelta(days=14, seconds=-1), True), (timedelta(days=14), False)])
def test_expiry_is_judged_by_the_given_time(
    authority: Authority, contents: Contents, after: timedelta, holds: bool
) -> None:
    files = sign_metadata(authority, contents, NOW)
    if holds:
        verify_metadata(files, authority.root, NOW + after)
    else:
        with pytest.raises(RepositoryError, match=r"timestamp\.json version 1: expired"):
            verify_metadata(files, authority.root, NOW + after)


def test_what_a_vehicle_would_not_take_is_not_published(
    tmp_path: Path, authority: Authority, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sign_metadata(authority, contents, NOW)
    longest = max(len(files[f"1.{role}.json"]) for role in ("targets", "body.7-3", "powertrain.7-3"))
    monkeypatch.setattr(workflow, "MAX_TARGETS_BYTES", longest)
    sign_metadata(authority, contents, NOW)
    monkeypatch.setattr(workflow, "MAX_TARGETS_BYTES", longest - 1)
    with pytest.raises(RepositoryError, match=f"a vehicle would refuse it: .*expected at most {longest - 1}"):
        write_metadata(tmp_path / "m", authority, contents, NOW)
    assert not (tmp_path / "m").exists()


def test_a_vehicle_must_find_exactly_the_targets_of_the_release(
    tmp_path: Path, authority: Authority, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets_set, "_patterns", lambda _: ["DME-1/3/*"])
    with pytest.raises(RepositoryError, match="other targets of 'BDC-1' than those of the release"):
        write_metadata(tmp_path / "m", authority, contents, NOW)
    assert not (tmp_path / "m").exists()


def second(contents: Contents, **targets: Sequence[ImageTarget | BundleTarget]) -> Contents:
    """Return the release after `contents`."""
    return replace(contents, release="7-4", targets=targets)


def test_a_second_release_leaves_the_first_as_it_is(tmp_path: Path, authority: Authority, contents: Contents) -> None:
    write_metadata(tmp_path, authority, contents, NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    newer = replace(image_target("BDC-1", "10"), release_counter=8)
    names = write_metadata(tmp_path, authority, second(contents, body=[newer]), NOW + timedelta(days=1))
    assert sorted(names) == sorted(
        ["1.root.json", "1.body.7-4.json", "2.targets.json", "2.snapshot.json", "timestamp.json"]
    )
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"timestamp.json"}
    trusted = load_metadata(after, authority.root, NOW + timedelta(days=1))
    assert trusted.delegations.of_hardware("BDC-1") == [newer]
    assert trusted.delegations.read("BDC-1/9/image") == image_target("BDC-1", "9"), "by its exact path"
    assert len(trusted.delegations.of_hardware("DME-1")) == 3, "the release before is the newest that names it"
    assert set(trusted.snapshot.meta) == {"targets.json", "body.7-4.json", "body.7-3.json", "powertrain.7-3.json"}
    updated = [trusted.timestamp.version, trusted.snapshot.version, trusted.targets.version]
    assert updated == [2, 2, 2]


def test_a_car_takes_the_second_release_over_the_first(authority: Authority, contents: Contents) -> None:
    files = sign_metadata(authority, contents, NOW)
    storage = MemoryStorage()
    initialise(storage, authority.root)
    assert refresh(storage, Served(files), NOW).delegations.of_hardware("BDC-1")
    newer = replace(image_target("BDC-1", "10"), release_counter=8)
    files |= sign_metadata(authority, second(contents, body=[newer]), NOW, files)
    assert refresh(storage, Served(files), NOW).delegations.of_hardware("BDC-1") == [newer]


def test_what_no_car_reads_may_have_expired(authority: Authority, contents: Contents) -> None:
    """Superseded roles need no renewal; one that is still read does."""
    later = NOW + timedelta(days=13)
    newer = [replace(image_target("BDC-1", "10"), release_counter=8)]
    dme = [replace(image_target(name, "4"), release_counter=8) for name in HARDWARE["powertrain"]]
    brief = {domain: replace(role, expires_days=5) for domain, role in POLICY.domains.items()}
    short = replace(authority, policy=replace(POLICY, domains=brief))
    files = sign_metadata(short, contents, NOW)
    whole = sign_metadata(authority, second(contents, body=newer, powertrain=dme), later, files)
    assert "1.body.7-4.json" in whole
    with pytest.raises(RepositoryError, match=r"powertrain\.7-3\.json version 1: expired"):
        sign_metadata(authority, second(contents, body=newer), later, files)


def forged(authority: Authority, contents: Contents, role: str, change: Callable[[Targets], None], *by: str) -> Served:
    """Return a repository whose delegated role was changed and signed by some keys; snapshot and timestamp go along with it."""
    files = sign_metadata(authority, contents, NOW)
    payload = Metadata[Targets].from_bytes(files[f"1.{role}.json"]).signed
    change(payload)
    files[f"1.{role}.json"] = sign(role, payload, RolePolicy(by, len(by), 1), authority.signers)
    snapshot = Metadata[Snapshot].from_bytes(files["1.snapshot.json"]).signed
    snapshot.meta[f"{role}.json"] = MetaFile.from_data(1, files[f"1.{role}.json"], ["sha256"])
    files["1.snapshot.json"] = sign("snapshot", snapshot, POLICY.snapshot, authority.signers)
    timestamp = Metadata[Timestamp].from_bytes(files["timestamp.json"]).signed
    timestamp.snapshot_meta = MetaFile.from_data(1, files["1.snapshot.json"], ["sha256"])
    files["timestamp.json"] = sign("timestamp", timestamp, POLICY.timestamp, authority.signers)
    return Served(files)


def trust_in(served: Served, authority: Authority) -> DelegationTree:
    storage = MemoryStorage()
    initialise(storage, authority.root)
    return refresh(storage, served, NOW).delegations


@pytest.mark.parametrize(
    "path", ["DME-1/3/image", "DME-1/4/image", "DME-1/3/full.bundle", "BDC-1/10/image", "chain/7-3/x"]
)
def test_a_supplier_signs_for_its_own_hardware_and_release_only(
    authority: Authority, contents: Contents, path: str
) -> None:
    """Of what the body's keys sign for others, or for another version, no car sees anything."""

    def add(role: Targets) -> None:
        entry = role.targets["BDC-1/9/full.bundle" if path.endswith("bundle") else "BDC-1/9/image"]
        custom = (
            {**entry.custom, "hardware_ids": [path.split("/")[0]]} if "hardware_ids" in entry.custom else entry.custom
        )
        role.targets[path] = TargetFile(entry.length, entry.hashes, path, {"custom": custom})

    honest = trust_in(Served(sign_metadata(authority, contents, NOW)), authority)
    found = trust_in(forged(authority, contents, "body.7-3", add, "body"), authority)
    assert found.find(path) == honest.find(path)
    for hardware_id in ("DME-1", "EGS-2", "BDC-1"):
        assert found.of_hardware(hardware_id) == honest.of_hardware(hardware_id)
    assert found.everything() == honest.everything()


@pytest.mark.parametrize(
    ("by", "is_trusted"), [(("pt-1", "pt-2"), True), (("pt-1",), False), (("body",), False), (("tcb", "body"), False)]
)
def test_only_its_own_keys_sign_a_role(
    authority: Authority, contents: Contents, by: tuple[str, ...], is_trusted: bool
) -> None:
    tree = trust_in(forged(authority, contents, "powertrain.7-3", lambda _: None, *by), authority)
    if is_trusted:
        assert len(tree.of_hardware("DME-1")) == 3
    else:
        with pytest.raises(UntrustedError, match="different keys that its delegator trusts for it, expected 2"):
            tree.of_hardware("DME-1")
    assert tree.of_hardware("BDC-1"), "a car without such hardware is not concerned"


def test_a_supplier_can_not_delegate_another_supplier_s_path(authority: Authority, contents: Contents) -> None:
    def delegate(role: Targets) -> None:
        key = authority.keys["body"]
        inner = DelegatedRole("inner", [key.keyid], 1, True, ["DME-1/3/*", "*/*/*"])
        role.delegations = Delegations({key.keyid: key}, {"inner": inner})

    tree = trust_in(forged(authority, contents, "body.7-3", delegate, "body"), authority)
    assert tree.responsible("DME-1/3/image") == "powertrain.7-3"
    assert len(tree.of_hardware("DME-1")) == 3
