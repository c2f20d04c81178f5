"""Commands that are imported when they are asked for: who signs waits for no encoder, who encodes for no supply chain."""

import importlib
from collections import UserDict
from collections.abc import Mapping

import click


class OnDemand(UserDict[str, str]):
    """The commands of a group.

    Args:
        modules: The module within `packager.cli` by the name of the command, which is its name there.
        prefix: What variables of these commands begin with.
    """

    def __init__(self, modules: Mapping[str, str], prefix: str) -> None:
        super().__init__(modules)
        self._prefix = prefix

    def __getitem__(self, name: str) -> click.Command:  # type: ignore[override]
        command = getattr(importlib.import_module(f"packager.cli.{self.data[name]}"), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table says so
        _name_variables(command, f"{self._prefix}_{name}")
        return command


def _name_variables(command: click.Command, prefix: str) -> None:
    """Let every option be given by an environment variable, too: ``PACKAGER_<COMMAND>_<OPTION>``, as the option is typed."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len).removeprefix("--")
            parameter.envvar = f"{prefix}_{option}".replace("-", "_").upper()
    if isinstance(command, click.Group) and isinstance(command.commands, dict):  # others name theirs when asked
        for name, child in command.commands.items():
            _name_variables(child, f"{prefix}_{name}")
