"""A client and its repository."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository_simulator import RepositorySimulator
from tests.tuf_client import Client


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    repository = RepositorySimulator()
    repository.publish()
    with Client(tmp_path, repository) as client:
        assert client.init() == 0
        yield client
