"""Attacks 1 to 7: signatures and keys."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from packager.vehicle.errors import UntrustedError
from tests.attacks.scene import EVIL, NEW, OLD, Scene, edit, envelope, sign
from tests.repository_simulator import signers, under_another_id

ROLES = ["root", "targets", "body"]
OFFLINE = pytest.mark.parametrize("role", ROLES)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Offline roles with a threshold of two."""
    return Scene(tmp_path, threshold=2, body_threshold=2)


@OFFLINE
def test_attack_01_one_signature_is_entered_twice(scene: Scene, role: str) -> None:
    """CVE-2020-6174, CVE-2020-15093, CVE-2026-6966: half of the threshold, twice."""
    one = scene.repository.signers[role][:1]
    data = sign(scene.next_version(role), one)
    scene.replace(role, edit(data, lambda document: document["signatures"].append(document["signatures"][0])))
    _refused(scene, role, "Multiple signatures found for keyid")
    scene.recovers()


@OFFLINE
def test_attack_01_one_signer_is_not_two(scene: Scene, role: str) -> None:
    scene.replace(role, sign(scene.next_version(role), scene.repository.signers[role][:1]))
    _refused(scene, role, "signed by 1 different keys .* expected 2")
    scene.recovers()


def _spelled(signer: CryptoSigner, key_id: str, **fields: Any) -> CryptoSigner:
    """Return a signer whose public key is written differently under another id."""
    public = {**copy.deepcopy(signer.public_key.to_dict()), **fields}
    return CryptoSigner(signer._private_key, Key.from_dict(key_id, public))


def _upper(signer: CryptoSigner) -> CryptoSigner:
    public = signer.public_key.keyval["public"]
    return _spelled(signer, "a" * 64, keyval={"public": public.upper()})


def _noted(signer: CryptoSigner) -> CryptoSigner:
    return _spelled(signer, "b" * 64, note="somebody else")


def _other_lines(signer: CryptoSigner) -> CryptoSigner:
    pem = signer.public_key.keyval["public"]
    return _spelled(signer, "c" * 64, keyval={"public": pem.replace("\n", "\r\n") + "\n"})


def _other_scheme(signer: CryptoSigner) -> CryptoSigner:
    key = SSlibKey("d" * 64, "rsa", "rsa-pkcs1v15-sha256", signer.public_key.keyval)
    return CryptoSigner(signer._private_key, key)


@OFFLINE
@pytest.mark.parametrize(
    ("make", "again"),
    [
        (CryptoSigner.generate_ed25519, under_another_id),
        (CryptoSigner.generate_ed25519, _upper),
        (CryptoSigner.generate_ed25519, _noted),
        (CryptoSigner.generate_ecdsa, under_another_id),
        (CryptoSigner.generate_ecdsa, _other_lines),
        (lambda: CryptoSigner.generate_rsa(size=2048), _other_scheme),
    ],
    ids=["ed25519 id", "ed25519 upper case", "ed25519 note", "ecdsa id", "ecdsa line ends", "rsa scheme"],
)
def test_attack_02_one_key_is_listed_under_two_ids(
    tmp_path: Path, role: str, make: Callable[[], CryptoSigner], again: Callable[[CryptoSigner], CryptoSigner]
) -> None:
    """go-tuf pull request 733; python-tuf 7.0.1 counts two."""
    scene = Scene(tmp_path, body_threshold=2, threshold=2)
    repository, before = scene.repository, scene.repository.signers[role]
    signer = make()
    twice = [signer, again(signer)]
    ids = [s.public_key.keyid for s in twice]
    keys = {s.public_key.keyid: s.public_key for s in twice}
    if role == "body":
        repository.delegate("body", ["bdc/*/*"], threshold=2, with_signers=twice)
        repository.targets.version += 1
        scene.replace_role("targets", repository.sign(repository.targets, repository.signers["targets"]))
        scene.offer_evil()
    else:
        repository.root.keys.update(keys)
        repository.root.roles[role].keyids = ids
        repository.root.version += 1
        repository.publish_root([*repository.signers["root"], *twice])
    repository.signers[role] = twice
    changes = () if role != "targets" else ("metadata/root.json",)
    if role != "root":
        scene.replace_role(role, sign(scene.next_version(role), twice))
    _refused(scene, role, "signed by 1 different keys .* expected 2", also=changes)

    other = make()  # the same role with a second key of its own
    repository.signers[role] = [signer, other]
    if role == "body":
        repository.delegate("body", ["bdc/*/*"], threshold=2, with_signers=[signer, other])
        repository.publish()
        scene.accepted(EVIL)
        return
    repository.root.keys[other.public_key.keyid] = other.public_key
    repository.root.roles[role].keyids = [signer.public_key.keyid, other.public_key.keyid]
    if role == "targets":
        repository.root.version += 1
    repository.publish_root([*(before if role == "root" else repository.signers["root"]), signer, other])
    scene.recovers()


@pytest.mark.parametrize("threshold", [0, -1, True, "1", None])
@OFFLINE
def test_attack_03_a_threshold_below_one(scene: Scene, role: str, threshold: object) -> None:
    """CVE-2026-23992: with a threshold of zero nobody needs to sign. Here its own delegator says so, by mistake or stolen key."""
    by = "targets" if role == "body" else "root"
    signed = scene.next_version(by)
    if role == "body":
        signed["delegations"]["roles"][0]["threshold"] = threshold
    else:
        signed["roles"][role]["threshold"] = threshold
    scene.replace(by, sign(signed, scene.repository.signers[by]))
    if role == "body":
        scene.offer_evil()
        scene.replace_role("body", envelope(scene.next_version("body"), []))
    _refused(scene, by, f"not {by} metadata")
    scene.recovers()


def test_attack_04_a_key_id_is_a_label_and_no_key(tmp_path: Path) -> None:
    """A false id neither helps nor harms (TAP 12); two labels for one key are attack 2."""
    scene = Scene(tmp_path)
    signer = under_another_id(signers(1)[0], "e" * 64)
    scene.repository.delegate("body", ["bdc/*/*"], with_signers=[signer])
    scene.repository.signers["body"] = [signer]
    scene.repository.publish()
    scene.accepted(NEW)


def test_attack_04_the_key_id_of_another_delegator_means_its_key_there_only(tmp_path: Path) -> None:
    """TAP 12, key id collision: a supplier delegates to another's role and lists his own key under that role's key id."""
    scene = Scene(tmp_path)
    honest = scene.repository.signers["body"][0]
    thief = under_another_id(signers(1)[0], honest.public_key.keyid)
    scene.repository.delegate("body", ["dsc/*/*", "bdc/*/*"], by="chassis", with_signers=[thief])
    chassis = scene.repository.delegated["chassis"]
    chassis.version += 1
    scene.replace_role("chassis", scene.repository.sign(chassis, scene.repository.signers["chassis"]))
    scene.offer_evil()
    body = scene.repository.delegated["body"]
    body.version += 1
    scene.replace_role("body", scene.repository.sign(body, [thief]))
    _refused(scene, "body", r"body.json: signed by 0 different keys")
    scene.recovers()


@pytest.mark.parametrize(
    ("role", "by"),
    [
        ("timestamp", "snapshot"),
        ("timestamp", "targets"),
        ("snapshot", "timestamp"),
        ("targets", "snapshot"),
        ("targets", "body"),
        ("targets", "root"),
        ("body", "chassis"),
        ("body", "targets"),
        ("root", "targets"),
        ("root", "timestamp"),
    ],
)
def test_attack_05_a_key_of_another_role_signs(tmp_path: Path, role: str, by: str) -> None:
    scene = Scene(tmp_path)
    scene.replace(role, sign(scene.next_version(role), scene.repository.signers[by]))
    _refused(scene, role, f"{role}.json.*: signed by 0 different keys")
    scene.recovers()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_attack_05_a_revoked_key_signs(tmp_path: Path, role: str) -> None:
    scene = Scene(tmp_path)
    scene.accepted()
    stolen = scene.repository.signers[role]
    scene.repository.rotate(role)
    scene.repository.publish()
    scene.accepted()
    scene.replace(role, sign(scene.next_version(role), stolen))
    _refused(scene, role, f"{role}.json: signed by 0 different keys")
    scene.recovers()


def test_attack_05_a_revoked_domain_key_signs(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.accepted()
    stolen, scene.repository.signers["body"] = scene.repository.signers["body"], signers(1)
    scene.repository.delegate("body", ["bdc/*/*"])
    scene.repository.publish()
    scene.accepted()
    scene.offer_evil()
    scene.replace_role("body", sign(scene.next_version("body"), stolen))
    _refused(scene, "body", r"body.json: signed by 0 different keys")
    scene.recovers()


BAD_SIGNATURES = [
    {"keyid": "a", "sig": 5},
    {"keyid": "b", "sig": None},
    {"keyid": "c", "sig": ""},
    {"keyid": "d", "sig": "zz"},
    {"keyid": "e", "sig": "0" * 127},
    {"keyid": "", "sig": "00"},
    {"keyid": "f", "sig": "ff" * 100_000},
]


@pytest.mark.parametrize("role", ["snapshot", "targets", "body"])
def test_attack_06_malformed_signatures_beside_good_ones_harm_nobody(scene: Scene, role: str) -> None:
    """Uptane deployment practices 9.0.4: the rest still counts."""
    data = sign(scene.next_version(role), scene.repository.signers[role])
    scene.replace(role, edit(data, lambda document: document["signatures"].__setitem__(slice(0, 0), BAD_SIGNATURES)))
    scene.accepted(NEW)


@pytest.mark.parametrize(
    "text", [5, None, "", "zz", "00", "0" * 128, ["00"], {"a": 1}, "ü", "00 " * 64, "\u0660" * 128]
)
@OFFLINE
def test_attack_06_a_malformed_signature_of_a_right_key_does_not_count(scene: Scene, role: str, text: object) -> None:
    data = sign(scene.next_version(role), scene.repository.signers[role])
    scene.replace(role, edit(data, lambda document: document["signatures"][0].__setitem__("sig", text)))
    _refused(scene, role, "signed by 1 different keys .* expected 2")
    scene.recovers()


PEM = "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n"
BAD_KEYS = [
    ("ed25519", "ed25519", ""),
    ("ed25519", "ed25519", "00"),
    ("ed25519", "ed25519", "zz" * 32),
    ("ed25519", "ed25519", "ff" * 32),
    ("ed25519", "ed25519", "ü"),
    ("ed25519", "ed25519", PEM.format("AAAA")),
    ("ecdsa", "ecdsa-sha2-nistp256", "00" * 64),
    ("ecdsa", "ecdsa-sha2-nistp256", PEM.format("AAAA")),
    ("ecdsa", "ecdsa-sha2-nistp256", PEM.format("")),
    ("ecdsa", "ecdsa-sha2-nistp256", "-----BEGIN "),
    ("ecdsa", "ecdsa-sha2-nistp256", "-----BEGIN \ud7ff-----"),
    ("rsa", "rsassa-pss-sha256", PEM.format("A" * 100_000)),
    ("ml-dsa", "ml-dsa-65/1", PEM.format("AAAA")),
]


@pytest.mark.parametrize(("keytype", "scheme", "public"), BAD_KEYS)
def test_attack_06_a_malformed_key_beside_a_good_one_harms_nobody(
    tmp_path: Path, keytype: str, scheme: str, public: str
) -> None:
    scene = Scene(tmp_path)
    _add_key(scene, keytype, scheme, public)
    scene.accepted(NEW)


@pytest.mark.parametrize(("keytype", "scheme", "public"), BAD_KEYS)
def test_attack_06_a_malformed_key_signs_nothing(tmp_path: Path, keytype: str, scheme: str, public: str) -> None:
    scene = Scene(tmp_path)
    _add_key(scene, keytype, scheme, public)
    scene.offer_evil()
    for text in ("00" * 64, public or "00", "00"):
        scene.replace_role("body", envelope(scene.next_version("body"), [{"keyid": "bad", "sig": text}]))
        _refused(scene, "body", r"body.json: signed by 0 different keys")
    scene.recovers()


def _add_key(scene: Scene, keytype: str, scheme: str, public: str) -> None:
    """Let the delegation to `body` list one more key."""
    targets = scene.next_version("targets")
    targets["delegations"]["keys"]["bad"] = {"keytype": keytype, "scheme": scheme, "keyval": {"public": public}}
    targets["delegations"]["roles"][0]["keyids"].insert(0, "bad")
    scene.replace_role("targets", sign(targets, scene.repository.signers["targets"]))


@pytest.mark.parametrize(
    ("make", "keytype", "scheme"),
    [
        (CryptoSigner.generate_ecdsa, "ecdsa", "ecdsa-sha2-nistp384"),
        (CryptoSigner.generate_ecdsa, "rsa", "rsassa-pss-sha256"),
        (lambda: CryptoSigner.generate_rsa(size=2048), "ecdsa", "ecdsa-sha2-nistp256"),
        (lambda: CryptoSigner.generate_rsa(size=2048), "rsa", "rsassa-pss-sha512"),
        (CryptoSigner.generate_ed25519, "ecdsa", "ecdsa-sha2-nistp256"),
        (CryptoSigner.generate_ecdsa, "ml-dsa", "ml-dsa-44/1"),
        (CryptoSigner.generate_ed25519, "rsa", "pgp+rsa-pkcsv1.5"),
    ],
)
def test_attack_07_a_key_is_used_with_another_algorithm(
    tmp_path: Path, make: Callable[[], CryptoSigner], keytype: str, scheme: str
) -> None:
    """The key is right, but signed metadata says that it is of another kind than the signature."""
    scene = Scene(tmp_path)
    signer = make()
    _add_key(scene, keytype, scheme, signer.public_key.keyval["public"])
    scene.offer_evil()
    signed = scene.next_version("body")
    payload = sign(signed, [signer])
    scene.replace_role("body", edit(payload, lambda document: document["signatures"][0].__setitem__("keyid", "bad")))
    _refused(scene, "body", r"body.json: signed by 0 different keys")
    scene.recovers()


@pytest.mark.parametrize(
    ("keytype", "scheme"), [("ed25519", "none"), ("none", "none"), ("rsa", "rsa-md5"), ("rsa", "rsa-pkcs1v15-sha1")]
)
def test_attack_07_an_unknown_algorithm_is_refused(tmp_path: Path, keytype: str, scheme: str) -> None:
    scene = Scene(tmp_path)
    _add_key(scene, keytype, scheme, "00" * 32)
    _refused(scene, "targets", "not targets metadata")
    scene.recovers()


@pytest.mark.parametrize(("bits", "is_enough"), [(1024, False), (2040, False), (2048, True)])
def test_attack_07_a_weak_rsa_key_does_not_count(tmp_path: Path, bits: int, is_enough: bool) -> None:
    scene = Scene(tmp_path)
    private = rsa.generate_private_key(65537, bits)
    signer = CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
    scene.repository.delegate("body", ["bdc/*/*"], with_signers=[signer])
    scene.repository.signers["body"] = [signer]
    scene.repository.publish()
    if is_enough:
        scene.accepted(NEW)
    else:
        _refused(scene, "body", r"body.json: signed by 0 different keys")


@pytest.mark.parametrize(
    "hashes",
    [
        {"md5": "0" * 32},
        {"sha1": "0" * 40},
        {"blake2b-256": "0" * 64},
        {"sha256": "0" * 64, "md5": "0" * 32},
        {"sha256": "0" * 63},
        {"sha256": "A" * 64},
        {"SHA256": "0" * 64},
    ],
)
@pytest.mark.parametrize("place", ["timestamp", "snapshot targets", "snapshot body", "image", "bundle"])
def test_attack_07_weak_and_unknown_hashes_bind_nothing(tmp_path: Path, hashes: dict[str, str], place: str) -> None:
    scene = Scene(tmp_path)
    repository = scene.repository
    if place in ("image", "bundle"):
        for path, target in repository.delegated["body"].targets.items():
            if path.endswith(place):
                target.hashes = hashes
        repository.publish()
        _refused(scene, "body", r"target 'bdc/2/.*(expected sha256 alone|64 lower-case)", also=("metadata/body.json",))
    elif place == "timestamp":
        repository.timestamp.snapshot_meta.hashes = hashes
        repository.publish_timestamp()
        scene.refused(UntrustedError, "timestamp.json: snapshot.json: (found hashes|digest)")
    else:
        role = place.split()[1]
        repository.snapshot.meta[f"{role}.json"].hashes = hashes
        scene.publish_online()
        _refused(scene, role, f"snapshot.json: {role}.json: (found hashes|digest)")
    scene.recovers()


def _refused(scene: Scene, role: str, wrong: str, also: tuple[str, ...] = ()) -> None:
    """Require a refusal; top-level metadata holds by itself and may be kept if a delegated role fails."""
    kept = ("timestamp", "snapshot", "targets", "chassis") if role not in ("root", *TOP) else ()
    scene.refused(UntrustedError, wrong, may_change=[*(f"metadata/{name}.json" for name in kept), *also])
    assert scene.car.active("BDC") in (OLD, NEW)


TOP = ("timestamp", "snapshot", "targets")
