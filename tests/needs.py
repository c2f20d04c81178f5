"""What some tests need of the machine. Where it is missing they skip and say so; with `--no-skips`, as in `.ci/run`, that is a failure."""

import shutil

import pytest

from packager.diff import matcher

MATCHER = pytest.mark.skipif(
    not matcher.is_compiled(), reason="no compiled matcher here: installation found no C compiler"
)


def commands(*names: str) -> pytest.MarkDecorator:
    """Return the mark of tests that run these programs."""
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} here: packages of the system")
