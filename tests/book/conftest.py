"""What the tests of several files of the book share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_book import TinyBook


@pytest.fixture
def tiny(tmp_path: Path) -> TinyBook:
    return TinyBook(tmp_path)
