"""Command line of the sample input: ``python -m sample_images obtain``, ``car`` and ``serve``.

stdout is the result, stderr the rest. Exit codes are those of the packager.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from packager.model.errors import PackagerError
from packager.vehicle.errors import VehicleError
from sample_images.car import make_car
from sample_images.catalogue import CATALOGUE, read_catalogue
from sample_images.obtaining import ObtainedImage, Origin, obtain
from sample_images.registry import PIP, Registry
from sample_images.serving import URL_VARIABLE, run_served

_HERE: Final = Path(__file__).parent
_EXIT_INTERRUPTED: Final = 130
_DEFAULT_VIN: Final = "WBA00000000000001"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        return _fail(options, _EXIT_INTERRUPTED, "interrupted", "run it again; what was finished is kept")
    except PackagerError as error:
        return _fail(options, error.exit_code, str(error), error.hint)
    except VehicleError as error:
        return _fail(options, error.exit_code, str(error), "")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sample_images", description="Sample input for the packager.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("obtain", help="make all sample images: real ones by pip, others generated")
    command.add_argument(
        "--offline", action="store_true", help="never ask the package registry; generate what is not cached"
    )
    command.add_argument("--kind", action="append", metavar="KIND", help="only this kind (repeatable)")
    command.add_argument("--images", type=Path, default=_HERE / "images", metavar="DIR", help="default: %(default)s")
    command.add_argument("--cache", type=Path, default=_HERE / "cache", metavar="DIR", help="default: %(default)s")
    command.add_argument("--catalogue", type=Path, default=CATALOGUE, metavar="FILE", help="default: %(default)s")
    command.add_argument("--json", action="store_true", help="one JSON object per line")
    command.set_defaults(run=_run_obtain)
    command = commands.add_parser("car", help="make the vehicle home of a car in the field")
    command.add_argument("release", type=Path, metavar="RELEASE.toml")
    command.add_argument("--age", type=int, default=0, metavar="N", help="N-th newest old image, 0 is the newest")
    command.add_argument("--home", type=Path, required=True, metavar="DIR", help="directory to make")
    command.add_argument("--vin", default=_DEFAULT_VIN, help="default: %(default)s")
    command.add_argument("--json", action="store_true", help="one JSON object per line")
    command.set_defaults(run=_run_car)
    command = commands.add_parser(
        "serve", help=f"serve a repository while a command runs; it finds it in {URL_VARIABLE}"
    )
    command.add_argument("repo", type=Path, metavar="REPO", help="directory with metadata/ and targets/")
    command.add_argument("command", nargs="+", metavar="COMMAND", help="program and arguments, after --")
    command.set_defaults(run=lambda options: run_served(options.repo, options.command), json=False)
    return parser


def _run_obtain(options: argparse.Namespace) -> int:
    catalogue = read_catalogue(options.catalogue)
    kinds = {image.kind for image in catalogue}
    unknown = sorted(set(options.kind or ()) - kinds)
    if unknown:
        return _fail(options, 2, f"kind: found {', '.join(unknown)}, expected some of {', '.join(sorted(kinds))}", "")
    wanted = [image for image in catalogue if not options.kind or image.kind in options.kind]
    started = time.monotonic()
    images = obtain(wanted, options.images, Registry(options.cache, None if options.offline else PIP), _tell)
    seconds = time.monotonic() - started
    stand_ins = sum(image.is_stand_in for image in images)
    for image in images:
        if options.json:
            _emit({"message_type": "image", **asdict(image), "origin": image.origin.value})
        else:
            sys.stdout.write(f"{image.name:40} {image.length_bytes:>10}  {_describe(image)}\n")
    counts = {origin.value: sum(image.origin is origin for image in images) for origin in Origin}
    if options.json:
        _emit({"message_type": "summary", "images": len(images), **counts, "stand_ins": stand_ins})
    else:
        sys.stdout.write(f"{len(images)} images: {counts['real']} real, {counts['generated']} generated\n")
    if stand_ins:
        _tell(
            f"warning: {stand_ins} images are GENERATED stand-ins for real ones; run obtain again with a package registry"
        )
    _tell(f"{sum(image.is_new for image in images)} made in {seconds:.1f} s")
    return 0


def _describe(image: ObtainedImage) -> str:
    made = "" if image.is_new else ", was there"
    return image.origin.value + (" stand-in" if image.is_stand_in else "") + made


def _run_car(options: argparse.Namespace) -> int:
    installed = make_car(options.release, options.age, options.home, options.vin)
    for ecu in installed:
        if options.json:
            _emit({"message_type": "ecu", **asdict(ecu)})
        else:
            sys.stdout.write(f"{ecu.ecu:8} {ecu.version:12} {ecu.length_bytes:>10}\n")
    if options.json:
        _emit({"message_type": "summary", "home": str(options.home), "vin": options.vin, "ecus": len(installed)})
    else:
        sys.stdout.write(f"{options.home}: car {options.vin} with {len(installed)} ECUs\n")
    return 0


def _fail(options: argparse.Namespace, code: int, message: str, hint: str) -> int:
    if options.json:
        _emit({"message_type": "exit_error", "code": code, "message": message, "hint": hint})
    else:
        _tell(f"error: {message}" + (f"\nhint: {hint}" if hint else ""))
    return code


def _emit(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
