"""The commands of the plain-TUF mode: ``init``, ``refresh`` and ``download`` with ``--metadata-dir``, without a vehicle home.

The protocol is that of the TUF conformance suite: trusted metadata under unversioned names, exit code 0 or 1, nothing from the environment.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from packager.vehicle.cli.output import Output
from packager.vehicle.installation.home import ConfigurationError
from packager.vehicle.transport import plain
from packager.vehicle.transport.fetch import HttpFetcher, check_url
from packager.vehicle.trust.workflow import MAX_ROOT_BYTES

OPTIONS: Final[tuple[tuple[str, str, str], ...]] = (
    ("--metadata-dir", "DIR", "trusted metadata of a plain TUF repository; with it there is no vehicle home"),
    ("--metadata-url", "URL", "plain TUF: where metadata is served"),
    ("--target-name", "PATH", "plain TUF: path of a target to download; may be repeated"),
    ("--target-base-url", "URL", "plain TUF: where targets are served"),
    ("--target-dir", "DIR", "plain TUF: gets the files, under their quoted paths"),
)


class _Collect(argparse.Action):
    """Collects a repeated option, before and behind the command: parsers that share it share what it found."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._found: list[str] = []

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - the signature of an action
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        self._found.append(str(values))
        setattr(namespace, self.dest, list(self._found))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this mode."""
    group = parser.add_argument_group("plain TUF repositories")
    for option, metavar, text in OPTIONS:
        settings: Mapping[str, Any] = {"action": _Collect} if option == "--target-name" else {}
        group.add_argument(option, metavar=metavar, help=text, **settings)


def is_plain(arguments: Sequence[str]) -> bool:
    """Tell whether a command line is of this mode, by its options or its command, also if it is wrong otherwise."""
    names = {argument.partition("=")[0] for argument in arguments}
    return ("download" in names and "--home" not in names) or any(option in names for option, _, _ in OPTIONS)


def init(options: argparse.Namespace, output: Output) -> None:
    """Trust a root."""
    path: Path = options.root
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(str(path), [f"can't be read: {error.strerror}"]) from error
    version = plain.trust_root(Path(_required(options, "metadata_dir")), data)
    output.line(f"root version {version} is trusted")
    output.summary(root_version=version)


def refresh(options: argparse.Namespace, now: Callable[[], datetime], output: Output) -> None:
    """Bring metadata up to date."""
    directory = Path(_required(options, "metadata_dir"))
    with _fetcher(options, "metadata_url") as metadata:
        trusted = plain.refresh(directory, metadata, now())
    output.line(f"metadata: root {trusted.root.version}, timestamp {trusted.timestamp.version}")
    output.summary(root_version=trusted.root.version, timestamp_version=trusted.timestamp.version)


def download(options: argparse.Namespace, now: Callable[[], datetime], output: Output) -> None:
    """Bring metadata up to date, then get targets in the order of the options; the first failure ends it."""
    directory = Path(_required(options, "metadata_dir"))
    names: list[str] = _required(options, "target_name")
    target_dir = Path(_required(options, "target_dir"))
    with _fetcher(options, "metadata_url") as metadata, _fetcher(options, "target_base_url") as targets:
        trusted = plain.refresh(directory, metadata, now())
        for name in names:
            path = plain.download(trusted, targets, name, target_dir)
            output.line(str(path))
            output.item("target", name=name, path=str(path))
    output.summary(targets=len(names))


def _required(options: argparse.Namespace, name: str) -> Any:
    value = getattr(options, name, None)
    if not value:
        raise ConfigurationError("options", [f"--{name.replace('_', '-')} is missing; this command needs it"])
    return value


def _fetcher(options: argparse.Namespace, name: str) -> HttpFetcher:
    try:
        url = check_url(_required(options, name))
    except ValueError as error:
        raise ConfigurationError(f"--{name.replace('_', '-')}", [str(error)]) from error
    return HttpFetcher(url, retry_delays_s=())
