"""What is exported of a release: provenance per bundle, summary per domain, bill of materials; and that each says what the chain proves."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from packager.model.errors import KeyMaterialError, SupplyChainError
from packager.model.policy import RolePolicy
from packager.supplychain.chain import VerifiedChain
from packager.supplychain.provenance import check_provenance, make_provenance
from packager.supplychain.sbom import Firmware, check_sbom, make_sbom
from packager.supplychain.statement import sign_statement
from packager.supplychain.steps import BUNDLE, DIFF
from packager.supplychain.summary import check_summary, choose_gate_signers, make_summary
from packager.vehicle.identity import Digest
from packager.vehicle.trust.summary import Gate
from tests.supply_chain import DESCRIPTION, KEYS, NOW, SIGNERS, TWO_BUNDLERS, make_build

TOOLS = {"python": "3.13.1", "bsdiff4": "1.3.2", "liblzma": "5.4.1"}
FULL = "E0/new/full.bundle"
SUMMARY = "summary/body.7.json"
CHAIN = "chain/7"
GATE = Gate((KEYS["gate"],), 1)


@pytest.fixture(scope="module")
def chain() -> VerifiedChain:
    return make_build().verify()


def images(chain: VerifiedChain) -> dict[str, Digest]:
    return {name: chain.images[f"images/{name}"] for name in ("E0/new/image", "E1/new/image")}


def statement(data: bytes) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(base64.b64decode(json.loads(data)["payload"]))
    return content


def provenance(chain: VerifiedChain, *signers: str, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "path": FULL,
        "bundle": chain.targets[FULL],
        "parameters": {"hardware_id": "E0", "to": "new"},
        "sources": {"release.toml": DESCRIPTION, "images/E0/new/image": chain.images["images/E0/new/image"]},
    }
    return make_provenance(
        **(arguments | changes), tools=TOOLS, signers=[SIGNERS[name] for name in signers or (BUNDLE,)]
    )


def test_provenance_is_a_slsa_statement_about_the_bundle(chain: VerifiedChain) -> None:
    data = provenance(chain)
    check_provenance(data, "p", FULL, chain)
    said = statement(data)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said["subject"] == [{"name": FULL, "digest": {"sha256": chain.targets[FULL].hex}}]
    definition = said["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"hardware_id": "E0", "to": "new"}
    assert [item.get("name", item.get("uri")) for item in definition["resolvedDependencies"]] == [
        "images/E0/new/image",
        "release.toml",
        "pkg:pypi/bsdiff4@1.3.2",
        "pkg:generic/liblzma@5.4.1",
        "pkg:generic/python@3.13.1",
    ]
    assert provenance(chain) == data  # no clock, no machine


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bundle": Digest.of(b"")}, "is about E0/new/full.bundle sha256:e3b0"),
        ({"path": "E1/new/full.bundle"}, "is about E1/new/full.bundle"),
        ({"sources": {"release.toml": DESCRIPTION}}, "images/E0/new/image went in"),
        ({"sources": {"release.toml": Digest.of(b"")}}, "release.toml: found sha256:e3b0"),
        ({"sources": {"images/E9/1/image": Digest.of(b"")}}, "images/E9/1/image: .* collected nothing"),
    ],
)
def test_provenance_that_the_chain_does_not_prove_is_refused(
    chain: VerifiedChain, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SupplyChainError, match=problem):
        check_provenance(provenance(chain, **changes), "p", FULL, chain)


def test_provenance_is_signed_by_the_bundle_step_alone(chain: VerifiedChain) -> None:
    with pytest.raises(SupplyChainError, match="p: found signatures"):
        check_provenance(provenance(chain, DIFF), "p", FULL, chain)
    two = replace(make_build(), policy=TWO_BUNDLERS).verify()
    check_provenance(provenance(two, BUNDLE, "bundle-2"), "p", FULL, two)
    with pytest.raises(SupplyChainError, match="1 of them valid and wanted; expected 2 of"):
        check_provenance(provenance(two, BUNDLE), "p", FULL, two)


@pytest.mark.parametrize(
    "predicate",
    [
        {},
        {"buildDefinition": {"buildType": "x", "resolvedDependencies": []}, "runDetails": {"builder": {"id": "x"}}},
        {"buildDefinition": {"buildType": "x", "resolvedDependencies": [1]}, "runDetails": {"builder": {"id": "x"}}},
    ],
)
def test_provenance_of_another_build_type_is_refused(chain: VerifiedChain, predicate: dict[str, Any]) -> None:
    data = sign_statement({FULL: chain.targets[FULL]}, "https://slsa.dev/provenance/v1", predicate, [SIGNERS[BUNDLE]])
    with pytest.raises(SupplyChainError, match="p: "):
        check_provenance(data, "p", FULL, chain)


def test_summary_vouches_for_the_images_that_the_chain_proves(chain: VerifiedChain) -> None:
    data = make_summary(SUMMARY, images(chain), chain, CHAIN, [SIGNERS["gate"]], NOW)
    check_summary(data, SUMMARY, images(chain), chain, CHAIN, GATE)
    said = statement(data)["predicate"]
    assert said["verificationResult"] == "PASSED"
    assert said["timeVerified"] == "2026-03-01T12:00:00Z"
    assert said["policy"] == {"uri": "chain/7/root.layout", "digest": {"sha256": chain.files["root.layout"].hex}}
    assert len(said["inputAttestations"]) == len(chain.files) - 1
    assert said["inputAttestations"][0]["uri"].startswith("chain/7/bundle.")


def test_gate_refuses_an_image_that_the_chain_does_not_prove(chain: VerifiedChain) -> None:
    for name, digest in (
        ("E0/new/image", Digest.of(b"")),
        ("E9/new/image", Digest.of(b"")),
        ("E0/o1/image", chain.images["images/E0/o1/image"]),  # collected, but no bundle makes it
    ):
        with pytest.raises(SupplyChainError, match=f"{name}: found .* the supply chain proves"):
            make_summary(SUMMARY, {name: digest}, chain, CHAIN, [SIGNERS["gate"]], NOW)


def test_summary_of_other_images_is_found(chain: VerifiedChain) -> None:
    listed = images(chain)
    data = make_summary(SUMMARY, listed, chain, CHAIN, [SIGNERS["gate"]], NOW)
    fewer = {"E0/new/image": listed["E0/new/image"]}
    with pytest.raises(SupplyChainError, match=r"E1/new/image: vouches for sha256:.* signed is nothing"):
        check_summary(data, SUMMARY, fewer, chain, CHAIN, GATE)
    with pytest.raises(SupplyChainError, match="signed by 0 different keys of the release gate"):
        check_summary(data, SUMMARY, listed, chain, CHAIN, Gate((KEYS["gate-2"],), 1))


def test_summary_of_another_chain_is_found(chain: VerifiedChain) -> None:
    data = make_summary(SUMMARY, images(chain), chain, CHAIN, [SIGNERS["gate"]], NOW)
    for files in ({**chain.files, "root.layout": Digest.of(b"")}, {**chain.files, "x.link": Digest.of(b"")}):
        with pytest.raises(SupplyChainError, match=r"policy: found|inputAttestations: found"):
            check_summary(data, SUMMARY, images(chain), replace(chain, files=files), CHAIN, GATE)


def test_gate_needs_its_threshold() -> None:
    role = RolePolicy(("gate", "gate-2"), 2, 90)
    assert choose_gate_signers(role, SIGNERS) == [SIGNERS["gate"], SIGNERS["gate-2"]]
    with pytest.raises(KeyMaterialError, match="release gate: found 1 of its keys to sign with, expected 2"):
        choose_gate_signers(role, {"gate": SIGNERS["gate"]})


def sbom(chain: VerifiedChain) -> bytes:
    listed = [
        Firmware(path, path.split("/")[0], "new", "Nordlicht", (path.split("/")[0],), 3, 1024, digest)
        for path, digest in images(chain).items()
    ]
    return make_sbom(chain.release, listed, TOOLS, NOW)


def test_sbom_is_valid_cyclonedx_with_every_image_as_firmware(chain: VerifiedChain) -> None:
    data = sbom(chain)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    document = json.loads(data)
    component = document["components"][0]
    assert component["type"] == "firmware"
    assert component["supplier"] == {"name": "Nordlicht"}
    assert component["hashes"] == [{"alg": "SHA-256", "content": images(chain)["E0/new/image"].hex}]
    assert {item["name"]: item["value"] for item in component["properties"]} == {
        "delta-packager:hardware_id": "E0",
        "delta-packager:release_counter": "3",
        "delta-packager:length_bytes": "1024",
    }
    assert document["metadata"]["timestamp"] == "2026-03-01T12:00:00+00:00"
    assert [tool["name"] for tool in document["metadata"]["tools"]["components"]] == ["bsdiff4", "liblzma", "python"]


def test_sbom_is_the_same_for_the_same_release(chain: VerifiedChain) -> None:
    assert sbom(chain) == sbom(chain)
    later = make_sbom(chain.release, [], TOOLS, NOW + timedelta(days=1))
    assert json.loads(later)["serialNumber"] == json.loads(sbom(chain))["serialNumber"]
    other = make_sbom(replace(chain.release, description=Digest.of(b"")), [], TOOLS, NOW)
    assert json.loads(other)["serialNumber"] != json.loads(later)["serialNumber"]


def test_sbom_lists_what_is_signed_and_nothing_else(chain: VerifiedChain) -> None:
    listed = images(chain)
    check_sbom(sbom(chain), "s", listed)
    with pytest.raises(SupplyChainError, match=r"s: E1/new/image: lists sha256:.* signed is nothing"):
        check_sbom(sbom(chain), "s", {"E0/new/image": listed["E0/new/image"]})
    with pytest.raises(SupplyChainError, match="s: E2/new/image: lists nothing"):
        check_sbom(sbom(chain), "s", {**listed, "E2/new/image": Digest.of(b"")})
    for data in (b"{}", b"[]", sbom(chain).replace(b'"1.6"', b'"1.4"'), sbom(chain).replace(b"SHA-256", b"MD5")):
        with pytest.raises(SupplyChainError, match="s: "):
            check_sbom(data, "s", listed)


@pytest.mark.parametrize(("before", "holds"), [(timedelta(seconds=1), True), (timedelta(0), False)])
def test_gate_must_have_judged_before_the_layout_expired(chain: VerifiedChain, before: timedelta, holds: bool) -> None:
    data = make_summary(SUMMARY, images(chain), chain, CHAIN, [SIGNERS["gate"]], chain.expires - before)
    if holds:
        check_summary(data, SUMMARY, images(chain), chain, CHAIN, GATE)
    else:
        with pytest.raises(SupplyChainError, match=r"judged at .* expected before the layout expired, at 2026-"):
            check_summary(data, SUMMARY, images(chain), chain, CHAIN, GATE)


@pytest.mark.parametrize("said", ["yesterday", None, 1])
def test_gate_must_say_when_it_judged(chain: VerifiedChain, said: object) -> None:
    good = statement(make_summary(SUMMARY, images(chain), chain, CHAIN, [SIGNERS["gate"]], NOW))["predicate"]
    predicate = {**good, "timeVerified": said}
    data = sign_statement(images(chain), "https://slsa.dev/verification_summary/v1", predicate, [SIGNERS["gate"]])
    with pytest.raises(SupplyChainError, match="timeVerified: found"):
        check_summary(data, SUMMARY, images(chain), chain, CHAIN, GATE)
