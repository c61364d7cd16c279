"""Where a remote worker's program takes its key from."""

import sys
from pathlib import Path

import pytest

from agents.worker import __main__ as program


def given(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["worker", "--url", "https://server.invalid", *arguments])
    key: str = program._arguments().key
    return key


def test_the_key_is_read_from_a_file_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("ek_live_file\n")
    monkeypatch.setenv("EKLAVYA_WORKER_KEY", "ek_live_environment")
    assert given(monkeypatch, "--key-file", str(tmp_path / "key")) == "ek_live_file"


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_file_without_a_key_is_said(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(SystemExit):
        given(monkeypatch, "--key-file", str(tmp_path / "key"))
    assert "key" in capsys.readouterr().err.splitlines()[-1]
