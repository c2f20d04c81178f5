"""The command line of the vehicle: ``packager-vehicle``."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn, TextIO

from packager.vehicle import kernel
from packager.vehicle.cli import plain as cli_plain
from packager.vehicle.cli.output import PROGRAM, Output
from packager.vehicle.cli.reports import show_check, show_refresh, show_slow_update, show_status, show_update
from packager.vehicle.errors import (
    CancelledError,
    CorruptError,
    IncompatibleError,
    ResourceError,
    TemporaryError,
    UntrustedError,
    VehicleError,
)
from packager.vehicle.installation.home import ConfigurationError, VehicleHome, open_home
from packager.vehicle.installation.install import check, provision, refresh_home, tidy, update
from packager.vehicle.installation.inventory import status
from packager.vehicle.transport.fetch import HttpFetcher, SlowError, check_url
from packager.vehicle.transport.speed import SpeedMeter
from packager.vehicle.trust.clock import ClockError, parse_time, read_clock
from packager.vehicle.trust.workflow import MAX_ROOT_BYTES, ExpiredError
from packager.vehicle.version import VERSION

MAX_WORKERS: Final = 4
TERMINATED: Final = 128 + signal.SIGTERM
_HINTS: Final[tuple[tuple[type[VehicleError], str], ...]] = (
    (ConfigurationError, "correct the configuration or the options, then run the command again"),
    (ExpiredError, "check this machine's clock; if it is right, the repository must be renewed"),
    (UntrustedError, "do not install from this repository; tell its operator"),
    (CorruptError, "run the command again; if it fails at the same place, the server's file is damaged"),
    (IncompatibleError, "check hardware id and profile in vehicle.toml against the release"),
    (ResourceError, "make room or check the storage, then run the command again"),
    (ClockError, "set this machine's clock, then run the command again"),
    (TemporaryError, "run the command again later; what was downloaded is kept"),
    (CancelledError, "run the command again; what was downloaded is kept"),
)


@dataclass(frozen=True, slots=True)
class _Call:
    """What a command works with."""

    options: argparse.Namespace
    environment: Mapping[str, str]
    now: Callable[[], datetime]
    output: Output
    is_plain: bool


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM came; a command ends as after Ctrl-C."""


class _Parser(argparse.ArgumentParser):
    """Reports wrong use like every other error."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError("options", [message])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code. The program itself, without `argv`, takes SIGTERM for Ctrl-C."""
    if argv is None:
        signal.signal(signal.SIGTERM, _terminate)
    if kernel.IS_UNEXPECTED:
        print(f"{PROGRAM}: {kernel.DESCRIPTION}", file=sys.stderr)
    arguments = sys.argv[1:] if argv is None else list(argv)
    return run(arguments, os.environ, read_clock, sys.stdout, sys.stderr)


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    now: Callable[[], datetime],
    stdout: TextIO,
    stderr: TextIO,
) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name.
        environment: Environment variables.
        now: The clock, UTC.
        stdout: Takes the result.
        stderr: Takes progress and errors.

    Returns:
        The exit code.
    """
    is_plain = cli_plain.is_plain(arguments)
    output = Output(stdout, stderr, as_json="--json" in arguments or bool(environment.get("PACKAGER_JSON")))
    try:
        options = _parser().parse_args(list(arguments))
        if is_plain and (hasattr(options, "home") or options.command in (_status, _update)):
            raise ConfigurationError("options", ["options of a vehicle home and of plain TUF do not go together"])
        options.command(_Call(options, environment, now, output, is_plain))
    except VehicleError as error:
        for kind, hint in _HINTS:
            if isinstance(error, kind):
                return output.failure(1 if is_plain else error.exit_code, str(error), hint)
        return _unexpected(output)
    except KeyboardInterrupt as stop:
        code = TERMINATED if isinstance(stop, _TerminatedError) else CancelledError.exit_code
        return output.failure(code, "interrupted", "run the command again; what was downloaded is kept")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads; keep Python from trying at exit
        return 1
    except OSError as error:
        code = 1 if is_plain else ResourceError.exit_code
        return output.failure(code, f"{error.filename or 'I/O'}: {error.strerror}", "make room or check the storage")
    except Exception:  # noqa: BLE001 - the outermost frame: everything ends as an exit code
        return _unexpected(output)
    return 0


def _terminate(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; a second one would disturb the clean-up
    raise _TerminatedError


def _unexpected(output: Output) -> int:
    return output.failure(
        1, f"unexpected error:\n{traceback.format_exc()}", "this is a defect; report it with the text above"
    )


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--home", metavar="DIR", help="the vehicle home [PACKAGER_VEHICLE_HOME]")
    shared.add_argument("--repo-url", metavar="URL", help="repository with metadata/ and targets/ [PACKAGER_REPO_URL]")
    cli_plain.add_options(shared)
    shared.add_argument("--json", action="store_true", help="print one JSON object per line [PACKAGER_JSON]")
    parser: argparse.ArgumentParser = _Parser(
        PROGRAM,
        description="Verify and install updates in a vehicle home; or, with --metadata-dir, follow any plain TUF repository.",
        parents=[shared],
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION} (kernel: {kernel.DESCRIPTION})")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, command, text in (
        ("init", _init, "trust a root: the first step, once, in a home or in --metadata-dir"),
        ("refresh", _refresh, "fetch and verify metadata, and tell what a home is offered"),
        ("status", _status, "tell what is installed"),
        ("update", _update, "install the newest image of every ECU, all or none"),
        ("download", _download, "refresh --metadata-dir and download targets of a plain TUF repository"),
    ):
        subparser = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", parents=[shared])
        subparser.set_defaults(command=command)
        if name == "status":
            text = "tell what an update would download and need, before it does; reads the repository"
            subparser.add_argument("--check", action="store_true", help=text)
        if name == "init":
            subparser.add_argument("root", metavar="ROOT.json", type=Path, help="the root of the repository")
            text = "the time now, from a source that you trust, as 2026-07-01T12:00:00Z: no clock is believed that says an earlier one"
            subparser.add_argument("--time", metavar="TIME", help=text)
    return parser


def _download(call: _Call) -> None:
    cli_plain.download(call.options, call.now, call.output)


def _init(call: _Call) -> None:
    if call.is_plain:
        if call.options.time is not None:
            raise ConfigurationError("--time", ["plain TUF remembers no time; expected a vehicle home"])
        cli_plain.init(call.options, call.output)
        return
    output, home = call.output, _home(call)
    try:
        time = None if call.options.time is None else parse_time(call.options.time)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError("--time", [f"{error}; expected a time as 2026-07-01T12:00:00Z"]) from error
    try:
        with call.options.root.open("rb") as file:
            data = file.read(MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(str(call.options.root), [f"can't be read: {error.strerror}"]) from error
    with home.lock():
        root = provision(home, data, time)
    output.line(f"root version {root.version} is trusted, valid until {root.expires:%Y-%m-%d}")
    output.summary(root_version=root.version, expires=f"{root.expires:%Y-%m-%dT%H:%M:%SZ}")


def _refresh(call: _Call) -> None:
    if call.is_plain:
        cli_plain.refresh(call.options, call.now, call.output)
        return
    output, home = call.output, _home(call)
    url = _repository(call)
    with home.lock(), _fetcher(home, f"{url}/metadata") as fetcher:
        trusted, clock_note = refresh_home(home, fetcher, call.now())
        targets = [trusted.delegations.of_hardware(ecu.hardware_id) for ecu in home.configuration.ecus]
        tidy(home, trusted)
    show_refresh(output, home, trusted, targets, clock_note)


def _status(call: _Call) -> None:
    home = _home(call)
    if not call.options.check:
        show_status(call.output, home, status(home))
        return
    url = _repository(call)
    with _fetcher(home, f"{url}/metadata") as metadata, _fetcher(home, f"{url}/targets") as targets:
        found = check(home, metadata, targets, call.now())
    show_check(call.output, home, found)


def _update(call: _Call) -> None:
    output, home = call.output, _home(call)
    url = _repository(call)
    with _fetcher(home, f"{url}/metadata") as metadata, _fetcher(home, f"{url}/targets") as targets:
        workers = min(os.cpu_count() or 1, MAX_WORKERS)
        try:
            report = update(home, metadata, targets, call.now(), workers=workers, on_progress=output.progress)
        except SlowError:
            output.end_progress()
            show_slow_update(output, home, metadata.speed + targets.speed)
            raise
        report = replace(report, speed=metadata.speed + targets.speed)
    output.end_progress()
    show_update(output, home, report)


def _fetcher(home: VehicleHome, url: str) -> HttpFetcher:
    return HttpFetcher(url, meter=SpeedMeter(home.configuration.min_bytes_per_second))


def _home(call: _Call) -> VehicleHome:
    path = getattr(call.options, "home", None) or call.environment.get("PACKAGER_VEHICLE_HOME")
    if not path:
        raise ConfigurationError("options", ["--home is missing; expected the directory of vehicle.toml"])
    return open_home(Path(path))


def _repository(call: _Call) -> str:
    url = getattr(call.options, "repo_url", None) or call.environment.get("PACKAGER_REPO_URL")
    if not url:
        raise ConfigurationError("options", ["--repo-url is missing; expected the URL above metadata/ and targets/"])
    try:
        return check_url(url).rstrip("/")
    except ValueError as error:
        raise ConfigurationError("--repo-url", [str(error)]) from error
