"""Turns errors into exit codes and messages. Codes are a promise to scripts: open to addition, closed to renumbering."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NoReturn

import click

from packager.cli.options import Form
from packager.model.errors import PackagerError
from packager.vehicle.errors import VehicleError

USAGE: Final = 2
INTERRUPTED: Final = 130
STOPPING: Final = (signal.SIGTERM, signal.SIGHUP)
"""What supervisors and a terminal that goes away send."""


class StoppedError(KeyboardInterrupt):
    """A signal of `STOPPING` came: everything is left as after Ctrl-C.

    Attributes:
        number: Which signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def heed_signals() -> None:
    """End as after Ctrl-C when a signal of `STOPPING` comes, unless it is ignored, as by nohup; another does not disturb the clean-up."""
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _frame: object) -> NoReturn:
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)
    raise StoppedError(number)


def run(command: click.Command, arguments: Sequence[str], program: str) -> int:
    """Run a command line and return its exit code. Expected errors are one message, never a traceback."""
    form = Form("--json" in arguments)
    try:
        result = command.main(args=list(arguments), prog_name=program, standalone_mode=False, obj=form)
    except click.ClickException as error:
        code, message, hint = USAGE, error.format_message(), ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"see {error.ctx.command_path} --help"
    except (click.Abort, KeyboardInterrupt) as error:
        stopped = error.__cause__ if isinstance(error, click.Abort) else error
        code = 128 + stopped.number if isinstance(stopped, StoppedError) else INTERRUPTED
        message, hint = "interrupted; nothing half-made is in use", "run it again"
    except PackagerError as error:
        code, message, hint = error.exit_code, str(error), error.hint
    except VehicleError as error:
        code, message, hint = error.exit_code, str(error), ""
    else:
        return result if isinstance(result, int) else 0
    with suppress(BrokenPipeError):  # nobody reads; the code still tells
        if form.as_json:
            click.echo(json.dumps({"message_type": "exit_error", "code": code, "message": message, "hint": hint}))
        else:
            click.echo(f"{program}: error: {message}" + (f"\nhint: {hint}" if hint else ""), err=True)
    return code


def end(code: int) -> None:
    """Leave the process with `code`, after what was printed has gone out, if anybody reads it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keeps Python from trying again
    sys.exit(code)
