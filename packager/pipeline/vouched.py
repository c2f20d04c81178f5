"""Holds what cars will install against the summaries of the release gate that they will be told of, before people or keys sign.

A gate that is exchanged shuts out all that its predecessor vouched for, so that cars would refuse what is in force: found here, not there.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tuf.api.metadata import Targets

from packager.model.errors import SupplyChainError
from packager.vehicle.core.targets import IMAGE, ImageTarget, read_target
from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust.delegations import DelegationTree
from packager.vehicle.trust.summary import MAX_SUMMARY_BYTES, Gate, read_gate, verify_summary

_HINT: Final = (
    "keep the former gate's key beside the new one in [gate] until newer releases replace what it vouched for; if it was stolen, "
    "build the release again under a new version, approve it with the new key, and propose both at once"
)


def check_vouched(top: Targets, roles: Mapping[str, Targets], places: Sequence[Path]) -> None:
    """Check that cars which demand evidence will take every image that some car reads and that names a summary.

    Args:
        top: The top-level role as it will be; names the gate.
        roles: All roles that it delegates to, by name, as they will be.
        places: Directories of targets, the first that has a summary counts.

    Raises:
        SupplyChainError: A summary is missing, is not signed by the gate, or does not vouch for an image; the message names it.
        UntrustedError: The gate, or a target, is malformed.
    """
    gate = read_gate(top)
    for role in DelegationTree(top, lambda name, _, __: roles[name]).roles(superseded=False).values():
        read = [
            read_target(path, entry.length, entry.hashes, entry.custom)
            for path, entry in role.targets.items()
            if path.endswith(f"/{IMAGE}")
        ]
        images = [target for target in read if isinstance(target, ImageTarget)]
        for summary in sorted({image.summary for image in images if image.summary is not None}):
            _check_summary(summary, [image for image in images if image.summary == summary], gate, places)


def _check_summary(path: str, images: Iterable[ImageTarget], gate: Gate | None, places: Sequence[Path]) -> None:
    if gate is None:
        raise SupplyChainError(
            f"{path}: found no release gate in the policy, expected the one that vouches for it", hint=_HINT
        )
    try:
        vouched = verify_summary(_read(path, places), path, gate)
    except UntrustedError as error:
        raise SupplyChainError(f"{error}; cars would refuse its images", hint=_HINT) from error
    for image in images:
        if vouched.get(image.path) != image.image.digest:
            raise SupplyChainError(
                f"{path}: vouches for {vouched.get(image.path) or 'nothing'} as {image.path}, expected {image.image.digest}",
                hint="approve the release again: packager chain approve",
            )


def _read(path: str, places: Sequence[Path]) -> bytes:
    try:
        for place in places:
            if (place / path).exists():
                with (place / path).open("rb") as file:
                    return file.read(MAX_SUMMARY_BYTES + 1)
    except OSError as error:
        raise SupplyChainError(f"{path}: can't be read: {error.strerror}") from error
    raise SupplyChainError(f"{path}: is missing, expected the summary of the release gate", hint="get it from a backup")
