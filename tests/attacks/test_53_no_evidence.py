"""Attack 53: an image without evidence of its supply chain, where the car demands evidence (Uptane PURE-3, Scudo)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from packager.supplychain.statement import sign_statement
from packager.vehicle.core.targets import summary_path
from packager.vehicle.errors import CorruptError, UntrustedError
from packager.vehicle.identity import Digest
from packager.vehicle.trust.metadata_store import NotFoundError
from packager.vehicle.trust.summary import CHAIN_LEVEL, MAX_SUMMARY_BYTES, PREDICATE_TYPE, RESOURCE_PREFIX
from tests.attacks.scene import EVIL, NEW, OLD, Scene
from tests.repository_simulator import signers, under_another_id

IMAGE = "bdc/2/image"
SUMMARY = summary_path("body.2")


class Evidence:
    """A scene whose car demands evidence, and whose repository has a release gate."""

    def __init__(self, root: Path, evidence: str = "required") -> None:
        self.scene = Scene(root)
        self.repository = self.scene.repository
        path = self.scene.car.home.root / "vehicle.toml"
        path.write_text(path.read_text().replace('evidence = "optional"', f'evidence = "{evidence}"'))
        self.gate = signers(2)
        self.repository.delegate("body", ["bdc/*/*", SUMMARY])
        self.name_gate(self.gate, 2)

    def name_gate(self, group: list[CryptoSigner], threshold: int) -> None:
        keys = [{**signer.public_key.to_dict(), "keyid": signer.public_key.keyid} for signer in group]
        self.repository.targets.unrecognized_fields["gate"] = {"keys": keys, "threshold": threshold}

    def point(self, to: str | None = SUMMARY) -> None:
        """Let the image's target name a summary."""
        target = self.repository.delegated["body"].targets[IMAGE]
        fields = {name: value for name, value in target.custom.items() if name != "summary"}
        target.unrecognized_fields["custom"] = fields if to is None else {**fields, "summary": to}

    def vouch(
        self,
        images: Mapping[str, Digest] | None = None,
        group: list[CryptoSigner] | None = None,
        path: str = SUMMARY,
        **said: Any,
    ) -> bytes:
        """Make a summary and publish it."""
        predicate = {
            "resourceUri": RESOURCE_PREFIX + path,
            "verificationResult": "PASSED",
            "verifiedLevels": [CHAIN_LEVEL],
            **said,
        }
        listed = {IMAGE: Digest.of(NEW)} if images is None else images
        return self.serve(sign_statement(listed, PREDICATE_TYPE, predicate, group or self.gate))

    def serve(self, data: bytes, role: str = "body") -> bytes:
        self.repository.add_target(role, SUMMARY, data)
        self.repository.contents[SUMMARY] = data
        self.point()
        self.repository.publish()
        return data

    def refused(self, wrong: str, kind: type[Exception] = UntrustedError) -> None:
        """Require that nothing is installed, and that not one byte of a bundle was asked for."""
        self.repository.streams.clear()
        before = self.scene.car.slot("BDC")
        with pytest.raises(kind, match=wrong) as caught:
            self.scene.update()
        assert type(caught.value) is kind
        assert self.scene.car.active("BDC") == before == OLD
        assert not (self.scene.car.home.root / "slots/BDC/b").exists()
        assert self.repository.streams == []


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path)


def test_attack_53_evidence_that_holds_is_accepted(evidence: Evidence) -> None:
    data = evidence.vouch()
    report = evidence.scene.accepted()
    assert evidence.repository.reads == [(SUMMARY, 0, len(data))]  # once, and counted
    assert report.metadata_bytes > len(data)


def test_attack_53_field_is_left_away(evidence: Evidence) -> None:
    evidence.repository.publish()
    evidence.refused("bdc/2/image: comes without evidence of its supply chain .its target names no summary")
    evidence.vouch()
    evidence.scene.accepted()


def test_attack_53_gate_is_left_away(evidence: Evidence) -> None:
    evidence.vouch()
    del evidence.repository.targets.unrecognized_fields["gate"]
    evidence.repository.publish()
    evidence.refused("no release gate is named")


def test_attack_53_summary_is_not_there(evidence: Evidence) -> None:
    evidence.point()
    evidence.repository.publish()
    evidence.refused("summary/body.2.json: is in no role")
    evidence.vouch()
    del evidence.repository.contents[SUMMARY]
    evidence.refused("not found", NotFoundError)


def test_attack_53_domain_vouches_for_itself(evidence: Evidence) -> None:
    """Whoever has a domain's keys signs targets, not summaries."""
    evidence.vouch(group=evidence.repository.signers["body"])
    evidence.refused("signed by 0 different keys of the release gate, expected 2")


def test_attack_53_half_of_the_gate(evidence: Evidence) -> None:
    first = evidence.gate[0]
    evidence.vouch(group=[first, under_another_id(first)])
    evidence.refused("signed by 1 different keys of the release gate, expected 2")
    evidence.name_gate([first, under_another_id(first)], 2)
    evidence.vouch(group=[first, under_another_id(first)])
    evidence.refused("expected at most 16 different")


def test_attack_53_summary_of_another_image(evidence: Evidence) -> None:
    """A genuine summary of another release, for an image that never passed the gate."""
    evidence.vouch({IMAGE: Digest.of(EVIL)})
    evidence.refused("vouches for sha256:.* as bdc/2/image, expected sha256")
    evidence.vouch({"dsc/2/image": Digest.of(NEW)})
    evidence.refused("vouches for nothing as bdc/2/image")


def test_attack_53_summary_of_another_role(evidence: Evidence) -> None:
    evidence.vouch(path=summary_path("body.1"))
    evidence.refused("says 'PASSED' of 'urn:delta-packager:summary/body.1.json'")


def test_attack_53_summary_in_a_role_that_may_not_list_it(evidence: Evidence) -> None:
    evidence.repository.delegate("body", ["bdc/*/*"])
    evidence.vouch()
    evidence.refused("summary/body.2.json: is in no role that may list it")


def test_attack_53_gate_that_did_not_pass(evidence: Evidence) -> None:
    evidence.vouch(verificationResult="FAILED")
    evidence.refused("says 'FAILED'")
    evidence.vouch(verifiedLevels=["SLSA_BUILD_LEVEL_3"])
    evidence.refused("expected PASSED .* with DELTA_PACKAGER_CHAIN_V1")


def test_attack_53_summary_is_swapped_on_the_server(evidence: Evidence) -> None:
    data = evidence.vouch()
    evidence.repository.contents[SUMMARY] = data[:-1] + b" "
    evidence.refused("summary/body.2.json: found sha256:", CorruptError)
    evidence.repository.contents[SUMMARY] = data
    evidence.scene.accepted()


def test_attack_53_endless_summary(evidence: Evidence) -> None:
    data = evidence.vouch()
    evidence.serve(data + b" " * (MAX_SUMMARY_BYTES + 1 - len(data)))
    evidence.refused(f"found {MAX_SUMMARY_BYTES + 1} bytes, expected at most {MAX_SUMMARY_BYTES}")


def test_attack_53_path_that_is_no_summary(evidence: Evidence) -> None:
    evidence.vouch()
    for path in ("summary/../body.2.json", "bdc/2/image", "summary/.json", "summary/body.2", "/summary/a.json"):
        evidence.point(path)
        evidence.repository.publish()
        evidence.refused("found summary .*, expected summary/<role>.json")


def test_attack_53_where_evidence_is_optional_bad_evidence_is_refused_all_the_same(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, "optional")
    evidence.vouch(group=evidence.repository.signers["body"])
    evidence.refused("signed by 0 different keys")
    evidence.point(None)
    evidence.repository.publish()
    evidence.scene.accepted()
