"""The only module that touches in-toto, which has no types: makes links and layouts, and lets it judge the rules between them.

`in_toto_run` and `in_toto_record_*` are not used: they change the working directory of the whole process and stop a step after ten seconds.
"""

import json
import logging
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import in_toto.log
from in_toto.exceptions import (
    InvalidMetadata,
    LinkNotFoundError,
    RuleVerificationError,
    SignatureVerificationError,
    ThresholdVerificationError,
)
from in_toto.models.layout import Layout, Step
from in_toto.models.link import FILENAME_FORMAT, Link
from in_toto.models.metadata import Envelope
from in_toto.verifylib import in_toto_verify
from securesystemslib.exceptions import Error as SignerError
from securesystemslib.signer import Key, Signer

from packager.model.errors import KeyMaterialError, SupplyChainError
from packager.model.policy import KeyPolicy
from packager.supplychain.envelope import check_different
from packager.supplychain.steps import (
    COMMAND,
    STEPS,
    check_artifacts,
    check_steps,
    is_front,
    material_rules,
    old_name,
    product_rules,
)
from packager.vehicle.identity import SHA256, Digest

TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_FAR: Final = "9999-12-31T23:59:59Z"
_one_at_a_time = threading.Lock()

# The library gives itself a handler that prints to stderr; only a command line may print.
logging.getLogger("in_toto").removeHandler(in_toto.log.HANDLER)
logging.getLogger("in_toto").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class ReleaseId:
    """The one release that a layout is for, so that it can't vouch for another.

    Attributes:
        name: For people.
        version: For people.
        description: Digest of ``release.toml``, which step collect must list.
    """

    name: str
    version: str
    description: Digest


@dataclass(frozen=True, slots=True)
class SignedLayout:
    """A layout and who signed it.

    Attributes:
        data: The file.
        keys: All of them must be found to have signed it.
    """

    data: bytes
    keys: tuple[Key, ...]


def link_name(step: str, keyid: str) -> str:
    """Return the file name of a link, as in-toto looks it up."""
    return str(FILENAME_FORMAT.format(step_name=step, keyid=keyid))


def record_link(
    step: str,
    materials: Mapping[str, Digest],
    products: Mapping[str, Digest],
    signer: Signer,
    *,
    command: Sequence[str] = COMMAND,
    tools: Mapping[str, str] | None = None,
) -> bytes:
    """Make the signed evidence of one step. No clock, no path of this machine: the same step gives the same payload everywhere.

    Args:
        step: Its name.
        materials: Digests of what it used, by artifact name (`steps`).
        products: Digests of what it made.
        signer: The functionary.
        command: What was run, without what does not change the result.
        tools: Versions by name.

    Raises:
        SupplyChainError: The step or an artifact name is unknown.
        KeyMaterialError: The signer can't sign.
    """
    if step not in STEPS and not is_front(step):
        raise SupplyChainError(
            f"step {step!r}: is unknown; the steps are {', '.join(STEPS)}, and the company's own in lower case"
        )
    check_artifacts(f"step {step!r}", materials)
    check_artifacts(f"step {step!r}", products)
    link = Link(
        name=step,
        materials=_write_artifacts(materials),
        products=_write_artifacts(products),
        command=list(command),
        environment={"tools": dict(tools or {})},
    )
    return _sign(link, [signer])


def make_layout(
    policy: KeyPolicy,
    keys: Mapping[str, Key],
    signers: Mapping[str, Signer],
    release: ReleaseId,
    olds: Sequence[Digest | None],
    issued_at: datetime,
) -> SignedLayout:
    """Make the layout of one release: its steps, who may perform them, and by which rules they chain.

    Args:
        policy: Functionaries and thresholds per step, owner and life time of the layout.
        keys: Public keys by name.
        signers: Private keys by name; those of the layout's owners sign.
        release: What it is for.
        olds: What bundles start from; None for nothing.
        issued_at: UTC, whole seconds.

    Raises:
        ConfigError: The policy has other steps.
        KeyMaterialError: Fewer owners than the threshold are at hand.
        SupplyChainError: Two functionaries of a step can't be told apart, or `issued_at` is of another form.
    """
    order = check_steps(policy)
    front = order[: -len(STEPS)]
    if issued_at.tzinfo != UTC or issued_at.microsecond:
        raise SupplyChainError(f"layout: found time of issue {issued_at.isoformat()}, expected whole seconds of UTC")
    owners = [signers[name] for name in policy.layout.keys if name in signers]
    if len(owners) < policy.layout.threshold:
        raise KeyMaterialError(
            f"layout: found {len(owners)} of its owners' keys to sign with, expected {policy.layout.threshold}",
            hint="packager keys create",
        )
    starts = [old_name(old) for old in olds]
    steps = []
    for position, name in enumerate(order):
        functionaries = [keys[key] for key in policy.steps[name].keys]
        check_different(f"step {name!r}", functionaries)
        if len({link_name(name, key.keyid) for key in functionaries}) != len(functionaries):
            raise SupplyChainError(
                f"step {name!r}: two key ids begin alike, and links are named by that", hint="replace one key"
            )
        steps.append(
            Step(
                name=name,
                expected_materials=[list(rule) for rule in material_rules(name, front[:position])],
                expected_products=[
                    list(rule)
                    for rule in product_rules(name, starts, front[:position], policy.step_hardware.get(name, ()))
                ],
                pubkeys=[key.keyid for key in functionaries],
                threshold=policy.steps[name].threshold,
                expected_command=list(COMMAND if name in STEPS else policy.commands.get(name, ())),
            )
        )
    used = [keys[key] for name in order for key in policy.steps[name].keys]
    binding = {"name": release.name, "version": release.version, SHA256: release.description.hex}
    layout = Layout(
        steps=steps,
        keys={key.keyid: _write_key(key) for key in used},
        expires=(issued_at + timedelta(days=policy.layout.expires_days)).strftime(TIME_FORMAT),
        readme=json.dumps({"release": binding}, sort_keys=True),
    )
    return SignedLayout(_sign(layout, owners), tuple(owner.public_key for owner in owners))


def judge(layout: bytes, links: Mapping[str, bytes], layout_keys: Sequence[Key]) -> None:
    """Let in-toto verify a chain: signatures of the layout, thresholds, rules.

    Expiry is judged by the caller, with its own clock: in-toto reads the wall clock and takes no other.

    Args:
        layout: The layout file, without inspections (the caller checks): those would run commands.
        links: Link files by name. They are written to a directory of their own, so that what is judged is what was read.
        layout_keys: All of them must have signed.

    Raises:
        SupplyChainError: The chain breaks; the message names the step.
        OSError: No room for the temporary copies.
    """
    with tempfile.TemporaryDirectory(prefix="packager-chain-") as directory:
        for name, data in links.items():
            (Path(directory) / name).write_bytes(data)
        try:
            metadata = _LayoutWithoutClock(Envelope.from_dict(json.loads(layout)))
            with _one_at_a_time:  # in-toto keeps a trace of its rules in a global
                in_toto_verify(
                    metadata,
                    {key.keyid: _write_key(key) for key in layout_keys},
                    link_dir_path=directory,
                    persist_inspection_links=False,
                )
        except RuleVerificationError as error:
            raise SupplyChainError(
                _explain(str(error)), hint="build again from the start; compare the links of the steps"
            ) from error
        except (
            InvalidMetadata,
            LinkNotFoundError,
            SignatureVerificationError,
            ThresholdVerificationError,
            SignerError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            raise SupplyChainError(f"supply chain: {str(error) or type(error).__name__}") from error


class _LayoutWithoutClock:
    """What `in_toto_verify` asks of a layout's envelope, with an expiry that never comes. The signed bytes are verified as they are."""

    def __init__(self, envelope: Any) -> None:
        self._envelope = envelope

    def verify_signature(self, key: dict[str, Any]) -> None:
        self._envelope.verify_signature(key)

    def get_payload(self) -> Any:
        layout = self._envelope.get_payload()
        layout.expires = _FAR
        return layout


def _sign(signable: Any, signers: Sequence[Signer]) -> bytes:
    envelope = Envelope.from_signable(signable)
    try:
        for signer in signers:
            envelope.create_signature(signer)
    except (SignerError, ValueError, OSError) as error:
        raise KeyMaterialError(f"{signable.type_}: can't be signed: {error}") from error
    return json.dumps(envelope.to_dict(), sort_keys=True).encode()


def _write_artifacts(artifacts: Mapping[str, Digest]) -> dict[str, dict[str, str]]:
    return {name: {digest.algorithm: digest.hex} for name, digest in artifacts.items()}


def _write_key(key: Key) -> dict[str, Any]:
    return {**key.to_dict(), "keyid": key.keyid}


def _explain(message: str) -> str:
    """Reduce in-toto's trace, which lists every artifact once per rule, to the step and what broke there."""
    item = re.search(r"'expected_(\w+)' of item '([^']+)'", message)
    first = message.splitlines()[0]
    where = f"step {item[2]!r}, {item[1]}" if item else "supply chain"
    return f"{where}: {first if len(first) <= 400 else first[:400] + ' ...'}"
