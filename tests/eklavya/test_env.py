"""What the environment means, and how a wrong one is refused."""

import json
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from eklavya.env import BASE_DIR, Env, EnvError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine, and no .env, reaches these tests."""
    for name in Env.model_fields:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(Env.model_config, "env_file", None)


def record_services(var: Path, **addresses: str) -> None:
    (var / "run").mkdir(parents=True)
    (var / "run" / "services.json").write_text(json.dumps(addresses), encoding="utf-8")


def test_database_url_over_a_socket() -> None:
    env = Env(DATABASE_URL=SecretStr("postgres://eklavya@/books?host=/tmp/sockets"))
    default = env.databases["default"]
    assert (default["HOST"], default["NAME"], default["USER"]) == ("/tmp/sockets", "books", "eklavya")


def test_database_url_over_tcp_keeps_options_and_escapes() -> None:
    env = Env(DATABASE_URL=SecretStr("postgresql://u:p%40ss@db.example:6432/books?sslmode=require"))
    default = env.databases["default"]
    assert (default["HOST"], default["PORT"], default["PASSWORD"]) == ("db.example", "6432", "p@ss")
    assert default["OPTIONS"]["sslmode"] == "require"
    assert default["OPTIONS"]["pool"]["max_size"] == env.EKLAVYA_DB_POOL_SIZE


def test_a_database_that_vanished_is_noticed_unless_its_address_says_otherwise() -> None:
    plain = Env(DATABASE_URL=SecretStr("postgresql://db.example/books")).databases["default"]["OPTIONS"]
    patient = "postgresql://db.example/books?keepalives_idle=600&tcp_user_timeout=0"
    own = Env(DATABASE_URL=SecretStr(patient)).databases["default"]["OPTIONS"]

    noticed_s = int(plain["keepalives_idle"]) + int(plain["keepalives_interval"]) * int(plain["keepalives_count"])
    assert max(noticed_s, int(plain["tcp_user_timeout"]) / 1000) <= 30
    assert (own["keepalives_idle"], own["tcp_user_timeout"]) == ("600", "0")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"DATABASE_URL": "mysql://x/y"}, "DATABASE_URL must look like postgres://"),
        ({"DATABASE_URL": "postgres://host"}, "DATABASE_URL must look like postgres://"),
        ({"DATABASE_URL": "postgres://host/name?nonsense=1"}, "DATABASE_URL cannot be read"),
        ({"REDIS_URL": "http://host"}, "REDIS_URL must look like redis://"),
        ({"REDIS_URL": "redis://"}, "REDIS_URL must look like redis://"),
        ({"EKLAVYA_WEB_PORT": "0"}, "EKLAVYA_WEB_PORT "),
        ({"EKLAVYA_WEB_PORT": "8001"}, "must differ"),
        ({"EKLAVYA_RUNTIME": "podman"}, "EKLAVYA_RUNTIME "),
        ({"EKLAVYA_SECRET_KEY": "short"}, "EKLAVYA_SECRET_KEY is shorter than 32 characters"),
        ({"EKLAVYA_PUBLIC_URL": "example.org"}, "EKLAVYA_PUBLIC_URL must look like https://"),
        ({"EKLAVYA_BUDGET_LIMIT": "0"}, "EKLAVYA_BUDGET_LIMIT "),
        ({"EKLAVYA_TOOL_LIMITS": "drill=2"}, "EKLAVYA_TOOL_LIMITS wants a tool and a number from 1 to 1000"),
        ({"EKLAVYA_TOOL_LIMITS": "browser"}, "EKLAVYA_TOOL_LIMITS wants a tool and a number"),
        ({"EKLAVYA_TOOL_LIMITS": "browser=0"}, "EKLAVYA_TOOL_LIMITS wants a tool and a number"),
        ({"EKLAVYA_TOOL_LIMITS": "browser=2,browser=3"}, "EKLAVYA_TOOL_LIMITS names browser twice"),
        ({"EKLAVYA_ROLE_LIMITS": "plumber=2"}, "EKLAVYA_ROLE_LIMITS wants a role and a number from 1 to 1000"),
        ({"EKLAVYA_ROLE_LIMITS": "developer=-1"}, "EKLAVYA_ROLE_LIMITS wants a role and a number"),
        ({"EKLAVYA_LEASE_SECONDS": "9"}, "EKLAVYA_LEASE_SECONDS "),
        ({"EKLAVYA_STALL_SECONDS": "5"}, "EKLAVYA_STALL_SECONDS "),
    ],
)
def test_wrong_value_ends_with_one_line(values: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvError) as caught:
        Env()
    assert re.fullmatch(r"eklavya: [^\n]+", str(caught.value))
    assert sentence in str(caught.value)


def test_wrong_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://u:hunter2@/")
    with pytest.raises(EnvError) as caught:
        Env()
    assert "hunter2" not in str(caught.value)


def test_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    assert Env().rehearsal


def test_model_url_is_the_rehearsal_models_without_a_key() -> None:
    assert Env().model_url == "http://127.0.0.1:8002"
    assert Env(ANTHROPIC_API_KEY=SecretStr("k")).model_url == "https://api.anthropic.com"


def test_without_services_the_sockets_say_what_starts_them(tmp_path: Path) -> None:
    env = Env(EKLAVYA_VAR=Path("/srv/var"))
    assert env.databases["default"]["HOST"] == "/srv/var/run/started-by-make-run"
    assert env.redis_url == "unix:///srv/var/run/started-by-make-run/valkey.sock"


def test_only_a_running_database_gets_a_pool(tmp_path: Path) -> None:
    assert "pool" not in Env(EKLAVYA_VAR=tmp_path).databases["default"]["OPTIONS"]
    record_services(tmp_path, DATABASE_URL="postgres:///eklavya?host=/tmp/s")
    assert "pool" in Env(EKLAVYA_VAR=tmp_path).databases["default"]["OPTIONS"]


def test_recorded_services_are_used(tmp_path: Path) -> None:
    record_services(tmp_path, DATABASE_URL="postgres://e@/eklavya?host=/tmp/s", REDIS_URL="unix:///tmp/s/v.sock")
    env = Env(EKLAVYA_VAR=tmp_path)
    assert env.databases["default"]["HOST"] == "/tmp/s"
    assert env.celery_broker_url == "redis+socket:///tmp/s/v.sock"


def test_own_servers_win_over_recorded_ones(tmp_path: Path) -> None:
    record_services(tmp_path, REDIS_URL="unix:///tmp/s/v.sock")
    env = Env(EKLAVYA_VAR=tmp_path, REDIS_URL=SecretStr("redis://cache:6379/2"))
    assert env.redis_url == env.celery_broker_url == "redis://cache:6379/2"


def test_secret_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = Env(EKLAVYA_VAR=tmp_path).secret_key
    assert len(key) >= 50
    assert Env(EKLAVYA_VAR=tmp_path).secret_key == key
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_damaged_secret_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("", encoding="utf-8")
    with pytest.raises(EnvError, match="remove it"):
        _ = Env(EKLAVYA_VAR=tmp_path).secret_key


def test_secret_key_in_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvError, match="set EKLAVYA_VAR"):
        _ = Env(EKLAVYA_VAR=tmp_path / "file" / "var").secret_key


def test_relative_data_directory_is_beside_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKLAVYA_VAR", "data")
    assert Env().EKLAVYA_VAR == BASE_DIR / "data"


def test_allowed_hosts_include_the_public_address_and_previews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKLAVYA_ALLOWED_HOSTS", "a.example, b.example")
    monkeypatch.setenv("EKLAVYA_PUBLIC_URL", "https://portal.example/")
    monkeypatch.setenv("EKLAVYA_PREVIEW_DOMAIN", "previews.example")
    env = Env()
    assert env.public_url == "https://portal.example"
    assert env.allowed_hosts == ["a.example", "b.example", "portal.example", ".previews.example", "127.0.0.1"]


def test_dot_env_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("EKLAVYA_WEB_PORT=9000\nEKLAVYA_IMAGE=mine\nOTHER=1\n", encoding="utf-8")
    monkeypatch.setitem(Env.model_config, "env_file", tmp_path / ".env")
    monkeypatch.setenv("EKLAVYA_IMAGE", "theirs")
    env = Env()
    assert (env.EKLAVYA_WEB_PORT, env.EKLAVYA_IMAGE) == (9000, "theirs")


def test_exported_environment_means_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env = Env(
        EKLAVYA_VAR=tmp_path,
        EKLAVYA_WEB_PORT=9000,
        REDIS_URL=SecretStr("redis://cache"),
        EKLAVYA_TOOL_LIMITS={"browser": 2},
        EKLAVYA_ROLE_LIMITS={"developer": 3},
    )
    for name, value in env.exported().items():
        monkeypatch.setenv(name, value)
    again = Env()
    same = set(Env.model_fields) - {"DATABASE_URL"}
    assert {name: getattr(again, name) for name in same} == {name: getattr(env, name) for name in same}
    assert again.database_url == env.database_url


def test_example_names_every_variable() -> None:
    example = (BASE_DIR / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) == set(Env.model_fields)


def test_keys_of_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    first = Env(EKLAVYA_VAR=tmp_path).secret_keys
    path = tmp_path / "secret_keys"
    assert Env(EKLAVYA_VAR=tmp_path).secret_keys == first
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("n" * 32 + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert Env(EKLAVYA_VAR=tmp_path).secret_keys == ["n" * 32, *first]
    path.write_text("n" * 32 + "\nshort\n", encoding="utf-8")
    with pytest.raises(EnvError, match="every line is one key"):
        _ = Env(EKLAVYA_VAR=tmp_path).secret_keys


def test_keys_of_secrets_come_from_the_environment_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKLAVYA_SECRET_KEYS", f"{'a' * 32}, {'b' * 40},")
    assert Env().secret_keys == ["a" * 32, "b" * 40]
    for bad in ("brief", f"{'a' * 32},brief", ","):
        monkeypatch.setenv("EKLAVYA_SECRET_KEYS", bad)
        with pytest.raises(EnvError, match="EKLAVYA_SECRET_KEYS has a key shorter") as refused:
            Env()
        assert "brief" not in str(refused.value)


def test_limits_of_tools_and_roles_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKLAVYA_TOOL_LIMITS", "browser=2, claude_code = 8")
    monkeypatch.setenv("EKLAVYA_ROLE_LIMITS", "developer=3,tester=2")
    assert Env().EKLAVYA_TOOL_LIMITS == {"browser": 2, "claude_code": 8}
    assert Env().EKLAVYA_ROLE_LIMITS == {"developer": 3, "tester": 2}
