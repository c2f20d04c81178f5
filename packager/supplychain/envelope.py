"""Reads and verifies signed statements (DSSE envelopes) of the supply chain: links and layouts as values, checked before they are used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SignerError
from securesystemslib.signer import Key

from packager.model.errors import SupplyChainError
from packager.model.strict_json import parse_json
from packager.supplychain.steps import check_artifacts
from packager.vehicle.identity import SHA256, Digest

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES: Final = 64 << 20
"""100 ECUs with 10 old images each make links of less than 1 MB."""


@dataclass(frozen=True, slots=True)
class VerifiedLink:
    """What one functionary says about one step, with a signature that holds.

    Attributes:
        step: Name of the step.
        keyid: Whose signature.
        command: What was run.
        materials: Digests of what was used, by artifact name.
        products: Digests of what was made, by artifact name.
    """

    step: str
    keyid: str
    command: tuple[str, ...]
    materials: Mapping[str, Digest]
    products: Mapping[str, Digest]

    def require(self, used: Mapping[str, Digest]) -> None:
        """Check that this step made everything that the next one is about to use (in-toto 5.3.5).

        Args:
            used: Digests of the files at hand, by artifact name.

        Raises:
            SupplyChainError: One is not among the products, or has another digest.
        """
        for name, digest in used.items():
            made = self.products.get(name)
            if made != digest:
                raise SupplyChainError(
                    f"{name}: found {digest}, expected {made or 'nothing: no such product'} by the link of step {self.step!r}",
                    hint="something changed between the steps; build again from the start",
                )


def verify_link(data: bytes, step: str, keys: Sequence[Key]) -> VerifiedLink:
    """Verify one link: signed by one of `keys`, about `step`, with artifact names and digests in their one form.

    Args:
        data: The link file.
        step: Which step it must be about. in-toto itself does not check the name within, so one link could serve as another's.
        keys: The step's functionaries.

    Raises:
        SupplyChainError: It does not hold.
    """
    what = f"link of step {step!r}"
    payload, keyid = open_envelope(data, what, keys, 1)
    if payload.get("_type") != "link" or payload.get("name") != step:
        raise SupplyChainError(f"{what}: found a {payload.get('_type')} named {payload.get('name')!r}")
    command = payload.get("command")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise SupplyChainError(f"{what}: found command {command!r}, expected a list of words")
    return VerifiedLink(
        step,
        keyid,
        tuple(command),
        _read_artifacts(what, payload, "materials"),
        _read_artifacts(what, payload, "products"),
    )


def verify_previous(data: bytes, step: str, keys: Sequence[Key], used: Mapping[str, Digest]) -> VerifiedLink:
    """Verify the link of the step before, and that it made what is about to be used.

    Args:
        data: The link file.
        step: The step before.
        keys: Its functionaries.
        used: Digests of the files at hand, by artifact name.

    Raises:
        SupplyChainError: The link does not hold, or a file is not what it says.
    """
    link = verify_link(data, step, keys)
    link.require(used)
    return link


def open_envelope(data: bytes, what: str, keys: Sequence[Key], threshold: int) -> tuple[dict[str, Any], str]:
    """Verify the signatures of an envelope and return its payload and the key id of the first signature that holds.

    Args:
        data: The file.
        what: Names it in messages.
        keys: At least one.
        threshold: How many of them must have signed.

    Raises:
        SupplyChainError: It is not an in-toto envelope in strict JSON, or a signature is missing or does not hold.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise SupplyChainError(f"{what}: found {len(data)} bytes, expected at most {MAX_ENVELOPE_BYTES}")
    check_different(what, keys)
    try:
        envelope = Envelope.from_dict(parse_json(data, what, SupplyChainError))
    except (SignerError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SupplyChainError(f"{what}: {error!r}; expected a DSSE envelope") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SupplyChainError(f"{what}: found payload type {envelope.payload_type!r}, expected {PAYLOAD_TYPE!r}")
    signed = [key.keyid for key in keys if _signed_by(envelope, key)]
    if len(signed) < max(threshold, 1):
        found = ", ".join(sorted(envelope.signatures)) or "none"
        expected = f"{threshold} of {', '.join(key.keyid for key in keys) or 'no key'}"
        raise SupplyChainError(
            f"{what}: found signatures of {found}, {len(signed)} of them valid and wanted; expected {expected}",
            hint="the file was changed after signing, or somebody else signed it",
        )
    return parse_json(envelope.payload, what, SupplyChainError), signed[0]


def check_different(what: str, keys: Sequence[Key]) -> None:
    """Check that keys differ in content. One key under two key ids would meet a threshold of two.

    Raises:
        SupplyChainError: Two are the same.
    """
    contents = [(key.keytype, str(key.keyval.get("public")).lower()) for key in keys]
    if len(set(contents)) != len(contents):
        raise SupplyChainError(f"{what}: found the same key under two key ids, expected different keys")


def _signed_by(envelope: Envelope, key: Key) -> bool:
    try:
        envelope.verify([key], 1)
    except (SignerError, ValueError):
        return False
    return True


def _read_artifacts(what: str, payload: Mapping[str, Any], kind: str) -> dict[str, Digest]:
    values = payload.get(kind)
    if not isinstance(values, dict):
        raise SupplyChainError(f"{what}: found {kind} of type {type(values).__name__}, expected an object")
    artifacts = {}
    for name, hashes in values.items():
        try:
            if set(hashes) != {SHA256}:
                raise ValueError(f"found hashes {sorted(hashes)}, expected {SHA256} alone")
            artifacts[name] = Digest.from_hex(hashes[SHA256])
        except (TypeError, ValueError, AttributeError) as error:
            raise SupplyChainError(f"{what}: {kind[:-1]} {name!r}: {error}") from error
    check_artifacts(what, artifacts)
    return artifacts
