"""Fixtures of the API tests."""

import pytest
from littlehorse.model import LittleHorseStub

from tests.api.client import Client


@pytest.fixture
def client(stub: LittleHorseStub) -> Client:
    """The API with Python values."""
    return Client(stub)
