"""Where the sockets of the embedded servers are."""

import os
from pathlib import Path

import pytest

from eklavya.services.errors import ServiceError
from eklavya.services.sockets import make_socket_directory, remove_socket_directory, socket_directory, valkey_socket


def test_short_data_directory_holds_its_sockets() -> None:
    assert socket_directory(Path("/srv/var")) == Path("/srv/var/run/started-by-make-run")


@pytest.mark.parametrize("length", [60, 90, 300])
def test_path_always_fits_a_socket_address(length: int) -> None:
    var = Path("/" + "d" * length)
    assert len(os.fsencode(socket_directory(var) / ".s.PGSQL.5432")) <= 107
    assert len(os.fsencode(valkey_socket(var))) <= 107


def test_two_long_directories_do_not_share_sockets() -> None:
    long = "/" + "d" * 200
    assert socket_directory(Path(long + "/a")) != socket_directory(Path(long + "/b"))


def test_directory_is_private(tmp_path: Path) -> None:
    path = make_socket_directory(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o700
    remove_socket_directory(tmp_path)
    assert not path.exists()


def test_a_link_laid_by_somebody_is_refused(tmp_path: Path) -> None:
    var = tmp_path / ("d" * 100)
    path = socket_directory(var)
    path.symlink_to(tmp_path)
    try:
        with pytest.raises(ServiceError, match="belongs to somebody else: remove it, or set EKLAVYA_VAR"):
            make_socket_directory(var)
    finally:
        path.unlink()
