"""A store in memory, commands called on it, and files to give them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from felixlite.cli.main import run
from felixlite.cli.session import Session
from tests.support.command import Felixlite, Lasting, Ran


@pytest.fixture
def store() -> Lasting:
    return Lasting()


@pytest.fixture
def call(store: Lasting, capsys: pytest.CaptureFixture[str]) -> Felixlite:
    def called(*arguments: str) -> Ran:
        code = run(arguments, Session(connect=lambda _: store, url="memory://"))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return called


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def written(*texts: str, name: str = "some.yaml") -> str:
        path = tmp_path / name
        path.write_text("\n---\n".join(texts))
        return str(path)

    return written
