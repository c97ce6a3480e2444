"""SSH from a container, whose user has a number and no name."""

import getpass
import pwd

import pytest

from activities import ssh


def test_who_runs_it_needs_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert ssh.connect
    assert getpass.getuser()  # asyncssh asks for it before it connects
