"""What a release puts into the repository, and its file ``contents.json``: what a build machine hands over to those who sign.

The file is written once by the build. Who reads it to sign holds it against the bundles and the chain beside it: what does not agree is
never proposed for signature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from securesystemslib.exceptions import Error as SignerError
from tuf.api.metadata import Key

from packager.bundle.loose import ANY_PROFILE
from packager.model.errors import RepositoryError
from packager.model.strict_json import dump_json, parse_json
from packager.vehicle.core.head import read_head
from packager.vehicle.core.targets import CHAIN, BundleTarget, ImageTarget, encode_target, parse_target
from packager.vehicle.errors import VehicleError
from packager.vehicle.identity import Digest, ImageId
from packager.vehicle.installation.selection import check_manifest
from packager.vehicle.table import is_name
from packager.vehicle.trust.summary import MAX_SUMMARY_BYTES

CONTENTS_NAME: Final = "contents.json"
LAYOUT_NAME: Final = "root.layout"
CONTENTS_FORMAT: Final = 1
MAX_CONTENTS_BYTES: Final = 64 << 20
MAX_CHAIN_FILE_BYTES: Final = 64 << 20
TARGETS: Final = Path("repo/targets")
_HINT: Final = "name the directory that packager build made, or build the release again"

Target = ImageTarget | BundleTarget


@dataclass(frozen=True, slots=True)
class Chain:
    """The evidence of a release's supply chain.

    Attributes:
        files: Content by file name: ``root.layout`` and ``<step>.<key id>.link``; their target paths begin with ``chain/<release>/``.
        layout_keys: All of them must have signed the layout.
    """

    files: Mapping[str, bytes]
    layout_keys: Sequence[Key]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a release puts into the repository.

    Attributes:
        release: Its id, see `packager.model.release.Release.id`.
        hardware: Hardware ids per domain.
        targets: Images and bundles per domain.
        chain: The evidence of the supply chain.
        summaries: What the release gate says of it, per domain; none before the gate was passed.
    """

    release: str
    hardware: Mapping[str, Sequence[str]]
    targets: Mapping[str, Sequence[Target]]
    chain: Chain
    summaries: Mapping[str, bytes] = field(default_factory=dict)


def write_contents(contents: Contents) -> bytes:
    """Return the content of ``contents.json``: the same for the same release, in whatever order it was put together."""
    return dump_json(
        {
            "format": CONTENTS_FORMAT,
            "release": contents.release,
            "hardware": {domain: sorted(hardware_ids) for domain, hardware_ids in contents.hardware.items()},
            "targets": {
                domain: [encode_target(target) for target in sorted(targets, key=lambda target: target.path)]
                for domain, targets in contents.targets.items()
            },
            CHAIN: {
                "files": {name: Digest.of(data).hex for name, data in contents.chain.files.items()},
                "layout_keys": [write_key(key) for key in contents.chain.layout_keys],
            },
        }
    )


def read_contents(release_dir: Path) -> Contents:
    """Read what a build left in a directory to be signed, and hold it against the files there.

    Args:
        release_dir: With ``contents.json``, ``repo/targets`` (bundles, and summaries if the gate was passed) and ``chain/<release>``.

    Raises:
        RepositoryError: A file is missing, damaged, or is not what ``contents.json`` says; a manifest disagrees with what would be signed.
    """
    path = release_dir / CONTENTS_NAME
    fields = parse_json(_read(path, MAX_CONTENTS_BYTES), str(path), RepositoryError)
    try:
        if fields["format"] != CONTENTS_FORMAT or type(fields["format"]) is not int:
            raise RepositoryError(
                f"{path}: found format {fields['format']!r}, expected {CONTENTS_FORMAT}",
                hint="use the packager of the build",
            )
        release = fields["release"]
        if not isinstance(release, str) or not is_name(release):
            raise RepositoryError(f"{path}: found release {release!r}, expected a name", hint=_HINT)
        hardware = {domain: [str(name) for name in names] for domain, names in fields["hardware"].items()}
        targets = {domain: [parse_target(entry) for entry in entries] for domain, entries in fields["targets"].items()}
        keys = [read_key(entry) for entry in fields[CHAIN]["layout_keys"]]
        digests = {str(name): Digest.from_hex(digest) for name, digest in fields[CHAIN]["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, SignerError, VehicleError) as error:
        raise RepositoryError(f"{path}: {error!r}; expected what a build writes", hint=_HINT) from error
    files = _read_chain(release_dir / CHAIN / release, digests)
    for entries in targets.values():
        _check_bundles(release_dir / TARGETS, entries)
    summaries = {domain: _read_summary(release_dir / TARGETS, entries) for domain, entries in targets.items()}
    made = {domain: data for domain, data in summaries.items() if data is not None}
    return Contents(release, hardware, targets, Chain(files, keys), made)


def write_key(key: Key) -> dict[str, Any]:
    """Return a public key with its key id, as the layout's custom field and in-toto hold it."""
    return {**key.to_dict(), "keyid": key.keyid}


def read_key(fields: Mapping[str, Any]) -> Key:
    """Read a public key; the inverse of `write_key`.

    Raises:
        SignerError: It is no public key.
        KeyError: A field is missing.
        TypeError: A field is of the wrong type.
        ValueError: A field is wrong.
    """
    entry = dict(fields)
    return Key.from_dict(entry.pop("keyid"), entry)


def _read_summary(directory: Path, targets: Sequence[Target]) -> bytes | None:
    """Read what the release gate left; None if a domain's images name nothing or the gate was not passed yet."""
    paths = {target.summary for target in targets if isinstance(target, ImageTarget)}
    if len(paths) > 1:
        raise RepositoryError(
            f"{CONTENTS_NAME}: found the summaries {sorted(map(str, paths))}, expected one", hint=_HINT
        )
    path = next(iter(paths), None)
    if path is None or not (directory / path).exists():
        return None
    return _read(directory / path, MAX_SUMMARY_BYTES)


def _read_chain(directory: Path, digests: Mapping[str, Digest]) -> dict[str, bytes]:
    files = {}
    for name, digest in sorted(digests.items()):
        if not is_name(name):
            raise RepositoryError(f"supply chain: found file {name!r}, expected a plain name such as {LAYOUT_NAME}")
        files[name] = _read(directory / name, MAX_CHAIN_FILE_BYTES)
        if Digest.of(files[name]) != digest:
            raise RepositoryError(
                f"{directory / name}: found {Digest.of(files[name])}, {CONTENTS_NAME} says {digest}", hint=_HINT
            )
    return files


def _check_bundles(directory: Path, targets: Sequence[Target]) -> None:
    images = {target.path: target for target in targets if isinstance(target, ImageTarget)}
    for target in targets:
        if isinstance(target, ImageTarget):
            continue
        path = directory / target.path
        image = images.get(target.image_path)
        if image is None:
            raise RepositoryError(f"{path}: its image {target.image_path} is not in {CONTENTS_NAME}", hint=_HINT)
        try:
            with path.open("rb") as stream:
                found = ImageId.of_stream(stream)
                stream.seek(0)
                data = stream.read(target.head.length_bytes)
            if found != target.file:
                raise RepositoryError(f"{path}: found {found}, {CONTENTS_NAME} says {target.file}", hint=_HINT)
            check_manifest(read_head(data, target.head, ANY_PROFILE), target, image)
        except OSError as error:
            raise RepositoryError(f"{path}: can't be read: {error.strerror}", hint=_HINT) from error
        except VehicleError as error:
            raise RepositoryError(f"{path}: {error}", hint=_HINT) from error


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except OSError as error:
        raise RepositoryError(
            f"{path}: can't be read: {error.strerror}; expected a release of packager build", hint=_HINT
        ) from error
    if len(data) > most_bytes:
        raise RepositoryError(f"{path}: longer than {most_bytes} bytes, expected at most that many", hint=_HINT)
    return data
