"""Serves a finished repository on this machine while a command runs, as a web server or CDN would."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from packager.model.errors import ConfigError

URL_VARIABLE: Final = "PACKAGER_REPO_URL"
_PORT: Final = re.compile(r"http://127\.0\.0\.1:(\d+)/")


def run_served(directory: Path, command: Sequence[str]) -> int:
    """Run `command` while ``python -m http.server`` serves `directory` on a free port of 127.0.0.1.

    Args:
        directory: A repository with ``metadata/`` and ``targets/``.
        command: Program and arguments; finds the address in the environment variable ``PACKAGER_REPO_URL``.

    Returns:
        The command's exit code.

    Raises:
        ConfigError: There is no such directory or program, or the server does not start.
    """
    if not (directory / "metadata").is_dir():
        raise ConfigError(f"{directory}: has no metadata/, expected a repository", hint="make build")
    serve = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(directory)]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None  # noqa: S101 - it is a pipe
            started = server.stdout.readline()
            port = _PORT.search(started)
            if port is None:
                raise ConfigError(f"http.server: found {started!r}, expected the address that it serves on")
            environment = {**os.environ, URL_VARIABLE: f"http://127.0.0.1:{port[1]}"}
            return subprocess.run(list(command), env=environment, check=False).returncode
        except FileNotFoundError as error:
            raise ConfigError(f"{command[0]}: no such program") from error
        finally:
            server.kill()
