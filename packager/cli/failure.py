"""Turns errors into exit codes and messages. Codes are a promise to scripts: open to addition, closed to renumbering."""

import json
import sys
from collections.abc import Sequence
from typing import Final

import click

from packager.model.errors import PackagerError
from packager.vehicle.errors import VehicleError

USAGE: Final = 2
INTERRUPTED: Final = 130


def run(command: click.Command, arguments: Sequence[str], program: str) -> int:
    """Run a command line and return its exit code. Expected errors are one message, never a traceback."""
    try:
        result = command.main(
            args=list(arguments), prog_name=program, standalone_mode=False, auto_envvar_prefix="PACKAGER"
        )
    except click.ClickException as error:
        code, message, hint = USAGE, error.format_message(), ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"see {error.ctx.command_path} --help"
    except (click.Abort, KeyboardInterrupt):
        code, message, hint = INTERRUPTED, "interrupted; nothing was left behind", ""
    except PackagerError as error:
        code, message, hint = error.exit_code, str(error), error.hint
    except VehicleError as error:
        code, message, hint = error.exit_code, str(error), ""
    else:
        return result if isinstance(result, int) else 0
    if "--json" in arguments:
        click.echo(json.dumps({"message_type": "exit_error", "code": code, "message": message, "hint": hint}))
    else:
        click.echo(f"{program}: error: {message}" + (f"\nhint: {hint}" if hint else ""), err=True)
    return code


def end(code: int) -> None:
    """Leave the process with `code`, after what was printed has gone out."""
    sys.stdout.flush()
    sys.exit(code)
