"""Verifies the whole supply chain of a release: layout, links, the rules between them, and that all is about this release."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from securesystemslib.exceptions import Error as SignerError
from securesystemslib.signer import Key

from packager.model.errors import SupplyChainError
from packager.model.strict_json import parse_json
from packager.supplychain.envelope import MAX_ENVELOPE_BYTES, VerifiedLink, check_different, open_envelope, verify_link
from packager.supplychain.intoto import TIME_FORMAT, ReleaseId, judge, link_name
from packager.supplychain.steps import (
    BUNDLE,
    COLLECT,
    COMMAND,
    DESCRIPTION,
    PUBLISH,
    SELF_CHECK,
    STEPS,
    image_artifact,
    is_front,
    last_makers,
    rebuilt_artifact,
)
from packager.vehicle.core.targets import BUNDLE_SUFFIX, FULL
from packager.vehicle.identity import SHA256, Digest

LAYOUT_NAME: Final = "root.layout"
MAX_FILES: Final = 1000


@dataclass(frozen=True, slots=True)
class Functionaries:
    """Who may perform a step.

    Attributes:
        keys: Different ones.
        threshold: How many of them must say the same.
        command: What they must run; empty for anything.
    """

    keys: tuple[Key, ...]
    threshold: int
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifiedChain:
    """A supply chain that holds.

    Attributes:
        release: What it is about.
        links: One per step, of its first functionary; the others say the same.
        images: Digests of every collected image, by artifact name.
        targets: Digests of the published bundles, by target path: exactly these may be signed as targets.
        files: Digests of layout and links, by file name.
        functionaries: Who may perform each step, as the layout says.
        expires: When the layout does, UTC.
    """

    release: ReleaseId
    links: Mapping[str, VerifiedLink]
    images: Mapping[str, Digest]
    targets: Mapping[str, Digest]
    files: Mapping[str, Digest]
    functionaries: Mapping[str, Functionaries]
    expires: datetime

    @property
    def new_images(self) -> dict[str, Digest]:
        """Digests of the images that the release's bundles rebuild, by target path."""
        return {name.removeprefix("images/"): self.images[name] for name in {_image_of(path) for path in self.targets}}


def read_chain(directory: Path) -> dict[str, bytes]:
    """Read layout and links, ``DIR/chain``, by file name.

    Raises:
        SupplyChainError: It can't be read, or is larger than any chain.
    """
    try:
        paths = sorted(directory.iterdir())
        if len(paths) > MAX_FILES:
            raise SupplyChainError(f"{directory}: found {len(paths)} files, expected at most {MAX_FILES}")
        files = {}
        for path in paths:
            with path.open("rb") as file:
                files[path.name] = file.read(MAX_ENVELOPE_BYTES + 1)
    except OSError as error:
        raise SupplyChainError(f"{directory}: {error}; expected {LAYOUT_NAME} and links") from error
    return files


def verify_chain(files: Mapping[str, bytes], layout_keys: Sequence[Key], now: datetime | None) -> VerifiedChain:
    """Verify a supply chain.

    Args:
        files: Layout and links by file name.
        layout_keys: The layout's owners, from a trusted place; every one must have signed.
        now: Time to judge expiry by; aware. None if the caller judges it, by `VerifiedChain.expires`.

    Raises:
        SupplyChainError: It does not hold; the message names the step or link that breaks.
        OSError: No room for temporary copies.
    """
    if LAYOUT_NAME not in files:
        raise SupplyChainError(f"supply chain: {LAYOUT_NAME} is missing")
    if not layout_keys:
        raise SupplyChainError("layout: found no key to verify it with, expected at least one")
    layout, _ = open_envelope(files[LAYOUT_NAME], "layout", layout_keys, len(layout_keys))
    release, expires = _check_layout(layout, now)
    functionaries = {step["name"]: _read_functionaries(layout, step) for step in layout["steps"]}
    link_files = {name: data for name, data in files.items() if name != LAYOUT_NAME}
    links = _verify_links(functionaries, link_files)
    judge(files[LAYOUT_NAME], link_files, layout_keys)
    images, targets = _check_release(release, links)
    digests = {name: Digest.of(data) for name, data in sorted(files.items())}
    return VerifiedChain(release, links, images, targets, digests, functionaries, expires)


def _check_layout(layout: Mapping[str, Any], now: datetime | None) -> tuple[ReleaseId, datetime]:
    """Check what in-toto leaves open: no commands to run, every step demanded, nothing allowed by default, bound to a release."""
    try:
        if layout["_type"] != "layout":
            raise SupplyChainError(f"layout: found a {layout['_type']}")
        expires = datetime.strptime(layout["expires"], TIME_FORMAT).replace(tzinfo=UTC)
        if now is not None and expires <= now:
            raise SupplyChainError(
                f"layout: expired at {expires:%Y-%m-%d %H:%M:%S} UTC, now is {now:%Y-%m-%d %H:%M:%S}",
                hint="build again",
            )
        if layout["inspect"]:
            raise SupplyChainError("layout: found inspections, expected none: they would run commands")
        names = tuple(step["name"] for step in layout["steps"])
        front = names[: -len(STEPS)]
        if names[-len(STEPS) :] != STEPS or not all(map(is_front, front)) or len(set(front)) != len(front):
            raise SupplyChainError(
                f"layout: found steps {', '.join(map(str, names))}, expected {', '.join(STEPS)}, after steps of the company's own"
            )
        for step in layout["steps"]:
            if type(step["threshold"]) is not int or not 1 <= step["threshold"] <= len(step["pubkeys"]):
                raise SupplyChainError(
                    f"layout: step {step['name']!r}: found threshold {step['threshold']!r} of {len(step['pubkeys'])} keys"
                )
            for kind in ("expected_materials", "expected_products"):
                if not step[kind] or step[kind][-1] != ["DISALLOW", "*"]:
                    raise SupplyChainError(f"layout: step {step['name']!r}: {kind} must end with DISALLOW *")
        binding = parse_json(layout["readme"].encode(), "layout: readme", SupplyChainError)["release"]
        return ReleaseId(str(binding["name"]), str(binding["version"]), Digest.from_hex(binding[SHA256])), expires
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SupplyChainError(f"layout: {error!r}; expected a layout of {', '.join(STEPS)} for one release") from error


def _read_functionaries(layout: Mapping[str, Any], step: Mapping[str, Any]) -> Functionaries:
    keys = tuple(_read_key(layout, keyid) for keyid in step["pubkeys"])
    check_different(f"step {step['name']!r}", keys)
    return Functionaries(keys, step["threshold"], COMMAND if step["name"] in STEPS else tuple(step["expected_command"]))


def verify_step(name: str, who: Functionaries, files: Mapping[str, bytes]) -> tuple[VerifiedLink, tuple[str, ...]]:
    """Verify all links of one step. One that does not hold breaks the chain even where enough others are there.

    Args:
        name: The step.
        who: Its functionaries.
        files: Links by file name; those of other steps are not looked at.

    Returns:
        The link of the first functionary, and the names of all files that belong to the step.

    Raises:
        SupplyChainError: Too few links, one that does not hold, another command than the step's, or functionaries who disagree.
    """
    by_file = {link_name(name, key.keyid): key for key in who.keys}
    present = tuple(file for file in by_file if file in files)
    if len(present) < who.threshold:
        raise SupplyChainError(
            f"step {name!r}: found {len(present)} links, expected {who.threshold} of {', '.join(by_file)}",
            hint="the step was not performed, or by somebody whom the layout does not name",
        )
    verified = [verify_link(files[file], name, [by_file[file]]) for file in present]
    for link in verified:
        if who.command and link.command != who.command:
            raise SupplyChainError(
                f"step {name!r}: found command {' '.join(link.command)!r}, expected {' '.join(who.command)!r}"
            )
        if (link.materials, link.products) != (verified[0].materials, verified[0].products):
            raise SupplyChainError(
                f"step {name!r}: its functionaries {verified[0].keyid} and {link.keyid} disagree on its artifacts"
            )
    return verified[0], present


def _verify_links(functionaries: Mapping[str, Functionaries], files: Mapping[str, bytes]) -> dict[str, VerifiedLink]:
    links = {}
    expected: set[str] = set()
    for name, who in functionaries.items():
        links[name], present = verify_step(name, who, files)
        expected.update(present)
    unexpected = sorted(set(files) - expected)
    if unexpected:
        raise SupplyChainError(
            f"supply chain: found {unexpected[0]!r}, expected only {LAYOUT_NAME} and {', '.join(sorted(expected))}",
            hint="a link of a functionary whom the layout does not name, or not a link; remove it",
        )
    return links


def _read_key(layout: Mapping[str, Any], keyid: object) -> Key:
    try:
        fields = dict(layout["keys"][keyid])
        if fields.pop("keyid") != keyid:
            raise ValueError("it stands under another key id")
        return Key.from_dict(str(keyid), fields)
    except (SignerError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SupplyChainError(f"layout: key {keyid!r}: {error!r}; expected a public key") from error


def _check_release(
    release: ReleaseId, links: Mapping[str, VerifiedLink]
) -> tuple[dict[str, Digest], dict[str, Digest]]:
    """Check what rules can't say: that all steps are about the same set of bundles, each proven to make the image of its own path.

    Returns:
        The images that were collected and the bundles that were published, as in `VerifiedChain`.
    """
    collected = links[COLLECT].products
    if collected.get(DESCRIPTION) != release.description:
        raise SupplyChainError(
            f"step {COLLECT!r}: found {DESCRIPTION} {collected.get(DESCRIPTION)}, the layout is for {release.description}",
            hint="layout and links are of different releases",
        )
    bundles = links[BUNDLE].products
    _check_front(links, {_image_of(name) for name in bundles})
    for step in (SELF_CHECK, PUBLISH):
        _same(step, "bundles", _with_prefix(links[step].materials, "bundles"), bundles)
    images = {name: digest for name, digest in collected.items() if name != DESCRIPTION}
    rebuilt = {_rebuilt_by(name, images): images.get(_image_of(name)) for name in bundles}
    _same(SELF_CHECK, "rebuilt images", links[SELF_CHECK].products, rebuilt)
    _same(PUBLISH, "rebuilt images", _with_prefix(links[PUBLISH].materials, "rebuilt"), rebuilt)
    targets = {name.removeprefix("targets/"): digest for name, digest in links[PUBLISH].products.items()}
    _same(PUBLISH, "targets", targets, {name.removeprefix("bundles/"): digest for name, digest in bundles.items()})
    return images, targets


def _check_front(links: Mapping[str, VerifiedLink], new: Iterable[str]) -> None:
    """Check that every new image was collected as the last front step left it; rules would take it from any, or from none."""
    front = {step: link.products for step, link in links.items() if step not in STEPS}
    if not front:
        return
    makers = last_makers(front, new)
    for name in sorted(new):
        made = front[makers[name]][name] if name in makers else None
        found = links[COLLECT].materials.get(name)
        if made is None or found != made or links[COLLECT].products.get(name) != made:
            raise SupplyChainError(
                f"step {COLLECT!r}: {name}: found {found or 'nothing'}, expected {made or 'a product of ' + ', '.join(front)}"
                + (f" by step {makers[name]!r}" if name in makers else ""),
                hint="a new image must come from the steps before the build",
            )
    for step, link in links.items():
        earlier = dict(list(front.items())[: list(front).index(step)]) if step in front else {}
        for name, step_before in last_makers(earlier, link.materials).items():
            if front[step_before][name] != link.materials[name]:
                raise SupplyChainError(
                    f"step {step!r}: {name}: used {link.materials[name]}, step {step_before!r} made {front[step_before][name]}"
                )


def _with_prefix(artifacts: Mapping[str, Digest], prefix: str) -> dict[str, Digest]:
    return {name: digest for name, digest in artifacts.items() if name.startswith(f"{prefix}/")}


def _image_of(bundle: str) -> str:
    """Return the artifact name of the image that a bundle, by artifact name or target path, makes."""
    hardware_id, version, _ = bundle.split("/")[-3:]
    return image_artifact(hardware_id, version)


def _rebuilt_by(bundle: str, images: Mapping[str, Digest]) -> str:
    _, hardware_id, version, file = bundle.split("/")
    start = file.removesuffix(BUNDLE_SUFFIX)
    candidates = (digest for name, digest in images.items() if name.startswith(f"images/{hardware_id}/"))
    old = next((digest for digest in candidates if digest.hex == start), None)
    if old is None and start != FULL:
        raise SupplyChainError(f"step {BUNDLE!r}: {bundle} starts from an image that step {COLLECT!r} does not list")
    return rebuilt_artifact(hardware_id, version, old)


def _same(step: str, what: str, found: Mapping[str, Digest], expected: Mapping[str, Digest | None]) -> None:
    for name in sorted(set(found) | set(expected)):
        if found.get(name) != expected.get(name):
            raise SupplyChainError(
                f"step {step!r}: {what}: {name}: found {found.get(name) or 'nothing'}, expected {expected.get(name) or 'nothing'}",
                hint="every bundle must be checked and published, and nothing else",
            )
