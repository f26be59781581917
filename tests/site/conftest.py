"""Every test here needs a real batch system: ``make test`` leaves them out."""

from __future__ import annotations

import pytest

HERE = "tests/site/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(HERE):
            item.add_marker("site")
