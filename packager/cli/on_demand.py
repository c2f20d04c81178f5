"""Commands that are imported when they are asked for: who signs waits for no encoder, who encodes for no supply chain."""

import importlib
from collections import UserDict

import click


class OnDemand(UserDict[str, str]):
    """The commands of a group: the module within `packager.cli` by the name of the command, which is its name there."""

    def __getitem__(self, name: str) -> click.Command:  # type: ignore[override]
        command = getattr(importlib.import_module(f"packager.cli.{self.data[name]}"), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table says so
        return command
