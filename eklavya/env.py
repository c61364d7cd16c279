"""The environment, typed: every variable that Eklavya reads, with its default and its check.

Read once, by ``settings.py``. A field has the name of its variable. Values come from the environment,
then from the file ``.env`` beside ``manage.py`` (``EKLAVYA_ENV_FILE`` names another one; empty means
none). What is wrong ends the program with one line that names the variable (``EnvError``).

``DATABASE_URL`` and ``REDIS_URL`` switch to servers of one's own. Without them the embedded ones are
used, at the sockets that follow from ``EKLAVYA_VAR``; while they do not run, settings still import, and
the error of an attempt to connect names a socket "started-by-make-run".
"""

import json
import os
import secrets
from collections.abc import Collection
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agents.egress import EgressClass
from agents.machine import TOOLS
from eklavya.services.errors import way_out
from eklavya.services.sockets import postgres_url, valkey_url
from projects.addresses import parse_rules
from projects.roles import Role

BASE_DIR = Path(__file__).resolve().parent.parent

# Each class has its allow-list in a variable of its own; `internal` reaches nothing.
EGRESS_LISTS = {one.value: f"EKLAVYA_EGRESS_{one.name}" for one in EgressClass if one is not EgressClass.INTERNAL}

Port = Annotated[int, Field(ge=1, le=65535)]


class EnvError(SystemExit):
    """The environment is unusable. A SystemExit: any program ends with one line instead of a traceback."""


class Services(TypedDict, total=False):
    """What ``services.json`` records: the addresses of the embedded servers that run now."""

    DATABASE_URL: str
    REDIS_URL: str


class Env(BaseSettings):
    """All variables. ``.env.example`` explains them to people; keep the two together."""

    model_config = SettingsConfigDict(
        env_file=os.environ.get("EKLAVYA_ENV_FILE", BASE_DIR / ".env") or None,
        case_sensitive=True,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    EKLAVYA_VAR: Path = BASE_DIR / "var"
    """Directory of all data: databases, repositories, runs, logs."""

    DATABASE_URL: SecretStr | None = None
    """postgres://user:password@host:5432/name or postgres:///name?host=/socket/directory. Unset: embedded."""

    EKLAVYA_DB_POOL_SIZE: Annotated[int, Field(ge=0, le=500)] = 40
    """Most connections a process keeps (0: no pool). A worker needs one for each run and some besides."""

    REDIS_URL: SecretStr | None = None
    """redis://, rediss:// or unix:///path/of/socket. Unset: embedded."""

    ANTHROPIC_API_KEY: SecretStr | None = None
    """Key of the model. Unset: the rehearsal model plays every role."""

    ANTHROPIC_BASE_URL: str | None = None
    """Where the model gateway forwards to. Unset: the maker's address, or the rehearsal model."""

    EKLAVYA_RUNTIME: Literal["auto", "docker", "local"] = "auto"
    """Where agents run; auto takes docker wherever a daemon answers."""

    EKLAVYA_ALLOW_LOCAL_RUNTIME: bool = False
    """Allows the local runtime, which isolates nothing, while EKLAVYA_DEBUG is off."""

    EKLAVYA_IMAGE: str = "eklavya-sandbox:latest"
    """Docker image of the sandboxes."""

    EKLAVYA_MAX_CONCURRENT_RUNS: Annotated[int, Field(ge=1, le=1000)] = 16
    """Most agents at work at a time, over all projects and machines."""

    EKLAVYA_TOOL_LIMITS: Annotated[dict[str, int], NoDecode] = {}
    """Most agents that use a tool at a time, over all projects and machines: "browser=2, claude_code=8"."""

    EKLAVYA_ROLE_LIMITS: Annotated[dict[str, int], NoDecode] = {}
    """Most agents of a role at work at a time, over all projects and machines: "developer=3, tester=2"."""

    EKLAVYA_WORKER: Literal["all", "light", "runs"] = "all"
    """What a Celery worker started here takes: runs of this machine and light work, or only one of the two."""

    EKLAVYA_PREVIEWS: bool = True
    """Whether demos are shown on this machine: not, where the portal cannot reach what runs here."""

    EKLAVYA_WORKER_CAPACITY: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Most agents at work at a time on this machine. Unset: as many as in the whole house."""

    EKLAVYA_STANDBYS: Annotated[int, Field(ge=0, le=64)] = 2
    """Most agents' programs that this machine keeps ready for tasks which are about to become ready; 0: none."""

    EKLAVYA_STANDBY_SECONDS: Annotated[float, Field(ge=1, le=3600)] = 120
    """For how long one of them waits."""

    EKLAVYA_WORKER_NAME: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """Name of this machine among the workers. Unset: its host name and the portal's port."""

    EKLAVYA_MACHINE_ID: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    """What stays the same when the machine gets another name. Unset: made of the operating system's, or kept in var."""

    EKLAVYA_WORKER_TRUST: Literal["normal", "sensitive"] = "sensitive"
    """Whether this machine may see the projects that are marked sensitive. It holds the database's password anyway."""

    EKLAVYA_MIN_DISK_MB: Annotated[int, Field(ge=0)] = 1024
    EKLAVYA_MIN_MEMORY_MB: Annotated[int, Field(ge=0)] = 512
    """A machine with less free megabytes (2^20 bytes) than these takes no new run."""

    EKLAVYA_LEASE_SECONDS: Annotated[int, Field(ge=10, le=3600)] = 20
    """A run whose supervisor is silent for so long, while others reach the database, is lost. A lease is renewed every
    2 s: ten is four missed beats."""

    EKLAVYA_STALL_SECONDS: Annotated[int, Field(ge=30, le=86_400)] = 300
    """An agent that says nothing for so long is ended. A single command of its may take four fifths of that."""

    EKLAVYA_LOOP_CALLS: Annotated[int, Field(ge=0, le=1000)] = 8
    """An agent that makes the same calls with the same answers so many times in a row is stopped. 0: never."""

    EKLAVYA_NO_DIFF_MINUTES: Annotated[int, Field(ge=0, le=10_000)] = 20
    """An agent that builds, whose role writes files and that changes none for so long is stopped. 0: never."""

    EKLAVYA_CHECKPOINT_MINUTES: Annotated[int, Field(ge=0, le=10_000)] = 5
    """So often the work of an agent is saved while it goes on, where anything changed. 0: only at the end."""

    EKLAVYA_RECOVER: Annotated[list[str], NoDecode] = ["stalled", "looping", "no_diff", "supervisor_silent"]
    """Failures after which a task is tried once more without asking, separated by commas; "none": always ask."""

    EKLAVYA_RECOVERIES_PER_TASK: Annotated[int, Field(ge=0)] = 3
    EKLAVYA_RECOVERIES_PER_HOUR: Annotated[int, Field(ge=0)] = 60
    """Most such second tries: of one task altogether, and of all tasks together in an hour."""

    EKLAVYA_RESTARTS_PER_HOUR: Annotated[int, Field(ge=0)] = 1_000
    """So many failures of all kinds are recovered from within an hour; beyond that a person is asked for each."""

    EKLAVYA_MAX_FILE_MB: Annotated[int, Field(ge=1, le=1000)] = 10
    """Largest file that a change may bring into a project's repository."""

    EKLAVYA_MAX_CHANGE_MB: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Most that one run may bring altogether, unpacked."""

    EKLAVYA_MAX_FILES: Annotated[int, Field(ge=100, le=1_000_000)] = 50_000
    """Most files of a project's repository."""

    EKLAVYA_BUDGET_LIMIT: Annotated[Decimal, Field(gt=0)] = Decimal(25)
    """Default limit of spending, in US dollars."""

    EKLAVYA_WEB_PORT: Port = 8000
    EKLAVYA_GATEWAY_PORT: Port = 8001
    EKLAVYA_REHEARSAL_PORT: Port = 8002

    EKLAVYA_EGRESS_PORT: Port = 8003
    """Where sandboxes find the proxy to the outside world."""

    EKLAVYA_EGRESS_PACKAGES: str = ""
    """Allow-lists of the egress classes, in the form that projects/addresses.py explains. Empty: nothing."""
    EKLAVYA_EGRESS_RESEARCH: str = ""
    EKLAVYA_EGRESS_TEST_ONLY: str = ""
    EKLAVYA_EGRESS_METRICS: str = ""
    EKLAVYA_EGRESS_FULL: str = "*:80+443"

    EKLAVYA_EGRESS_CONNECTIONS: Annotated[int, Field(ge=1, le=1000)] = 32
    """Most connections that a run holds to the outside world at a time."""

    EKLAVYA_EGRESS_MB: Annotated[int, Field(ge=1)] = 2048
    """Most megabytes (2^20 bytes) that a run moves to and from the outside world, both ways together."""

    EKLAVYA_WEBHOOK_HOSTS: str = ""
    """Receivers of webhooks besides public hosts at the usual port, in the form that projects/addresses.py explains."""

    EKLAVYA_WEBHOOK_HTTP: bool = False
    """Allows webhooks without TLS."""

    EKLAVYA_WEBHOOK_HOURS: Annotated[int, Field(ge=1, le=168)] = 24
    """So long a delivery is tried again; a webhook to which nothing got through for so long is disabled."""

    EKLAVYA_TRANSCRIPT_DAYS: Annotated[int, Field(ge=0, le=36_500)] = 365
    """So long what a run said is kept, at least; a week of transcripts is dropped at a time. 0: for ever."""

    EKLAVYA_MODEL_FIELDS: str = ""
    """Further fields of a model request that may pass, separated by commas: see agents/gateway/model_request.py."""

    EKLAVYA_PUBLIC_URL: str = ""
    """Address of the portal as people type it. Unset: http://127.0.0.1:<web port>."""

    EKLAVYA_PREVIEW_DOMAIN: str = ""
    """Previews answer at <id>.<this>. Unset: preview.localhost:<web port>."""

    EKLAVYA_ALLOWED_HOSTS: Annotated[list[str], NoDecode] = ["localhost", ".localhost", "127.0.0.1", "[::1]"]
    """Host names that the portal answers to, separated by commas; the public address's own is added."""

    EKLAVYA_DEBUG: bool = False
    """Django's debug pages. Never on a machine that others reach."""

    EKLAVYA_SECRET_KEY: SecretStr | None = None
    """Django's secret key, 32 characters or more. Unset: made once and kept in <EKLAVYA_VAR>/secret_key."""

    EKLAVYA_SECRET_KEYS: SecretStr | None = None
    """Keys of the stored secrets, separated by commas, the newest first, 32 characters or more each.
    Unset: one is made once and kept in <EKLAVYA_VAR>/secret_keys, a line each."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise EnvError("eklavya: " + "; ".join(_sentence(one) for one in error.errors())) from None

    @field_validator("EKLAVYA_VAR")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return (BASE_DIR / value.expanduser()).resolve()

    @field_validator("EKLAVYA_ALLOWED_HOSTS", "EKLAVYA_RECOVER", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [host.strip() for host in value.split(",") if host.strip()]

    @field_validator("EKLAVYA_TOOL_LIMITS", mode="before")
    @classmethod
    def _check_tool_limits(cls, value: object) -> object:
        return _limits(value, "a tool", TOOLS, such_as="browser=2")

    @field_validator("EKLAVYA_ROLE_LIMITS", mode="before")
    @classmethod
    def _check_role_limits(cls, value: object) -> object:
        return _limits(value, "a role", Role.values, such_as="developer=3")

    @field_validator("EKLAVYA_RECOVER")
    @classmethod
    def _check_recover(cls, value: list[str]) -> list[str]:
        known = ("stalled", "looping", "no_diff", "supervisor_silent")
        if value != ["none"] and (unknown := set(value) - set(known)):
            raise ValueError(f"does not know {', '.join(sorted(unknown))}; known are {', '.join(known)}, or none")
        return value

    @field_validator("DATABASE_URL")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            database_settings(value.get_secret_value(), pool_size=1)
        return value

    @field_validator("REDIS_URL")
    @classmethod
    def _check_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_redis_url(value.get_secret_value())
        return value

    @field_validator("EKLAVYA_SECRET_KEY")
    @classmethod
    def _check_secret_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("is shorter than 32 characters; unset it to have one made")
        return value

    @field_validator(*EGRESS_LISTS.values(), "EKLAVYA_WEBHOOK_HOSTS")
    @classmethod
    def _check_egress(cls, value: str) -> str:
        parse_rules(value)
        return value

    @field_validator("EKLAVYA_SECRET_KEYS")
    @classmethod
    def _check_secret_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and any(len(key) < 32 for key in _keys(value.get_secret_value(), ",")):
            raise ValueError("has a key shorter than 32 characters; unset it to have one made")
        return value

    @field_validator("EKLAVYA_PUBLIC_URL", "ANTHROPIC_BASE_URL")
    @classmethod
    def _check_http_url(cls, value: str | None) -> str | None:
        if value and not (urlsplit(value).scheme in {"http", "https"} and urlsplit(value).hostname):
            raise ValueError("must look like https://host or http://host:port")
        return value.rstrip("/") if value else value

    @model_validator(mode="after")
    def _check_ports(self) -> "Env":
        names = [f"EKLAVYA_{name}_PORT" for name in ("WEB", "GATEWAY", "REHEARSAL", "EGRESS")]
        if len({getattr(self, name) for name in names}) < len(names):
            raise ValueError(f"{', '.join(names[:-1])} and {names[-1]} must differ")
        return self

    @property
    def rehearsal(self) -> bool:
        """True while no model key is there: the rehearsal model plays every role."""
        return self.ANTHROPIC_API_KEY is None

    @property
    def public_url(self) -> str:
        """Address of the portal, without a slash at its end."""
        return self.EKLAVYA_PUBLIC_URL or f"http://127.0.0.1:{self.EKLAVYA_WEB_PORT}"

    @property
    def preview_domain(self) -> str:
        """Host, and port where it has one, below which previews answer."""
        return self.EKLAVYA_PREVIEW_DOMAIN or f"preview.localhost:{self.EKLAVYA_WEB_PORT}"

    @property
    def model_url(self) -> str:
        """Base address that the model gateway forwards to."""
        if self.ANTHROPIC_BASE_URL:
            return self.ANTHROPIC_BASE_URL
        rehearsal = f"http://127.0.0.1:{self.EKLAVYA_REHEARSAL_PORT}"
        return rehearsal if self.rehearsal else "https://api.anthropic.com"

    @property
    def egress(self) -> dict[str, str]:
        """The allow-list of each egress class, as text."""
        return {name: getattr(self, variable) for name, variable in EGRESS_LISTS.items()}

    @property
    def keyed_model_url(self) -> str:
        """Base address of the model for whoever has a key of their own, whether the house has one or not."""
        return self.ANTHROPIC_BASE_URL or "https://api.anthropic.com"

    @property
    def allowed_hosts(self) -> list[str]:
        """Django's ALLOWED_HOSTS: the listed ones, the public address's and the previews'."""
        public = urlsplit(self.public_url).hostname or ""
        preview = "." + self.preview_domain.rsplit(":", 1)[0]
        # health checks of this machine come as 127.0.0.1
        return list(dict.fromkeys([*self.EKLAVYA_ALLOWED_HOSTS, public, preview, "127.0.0.1"]))

    def exported(self) -> dict[str, str]:
        """The same environment for another process, whatever that finds in a .env file."""
        values = {name: _text(getattr(self, name)) for name in type(self).model_fields}
        return {**values, "EKLAVYA_ENV_FILE": "", "DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}

    @cached_property
    def services(self) -> Services:
        """Addresses of the embedded servers, as recorded when they were started; empty while none run."""
        return read_services(self.EKLAVYA_VAR)

    @cached_property
    def database_url(self) -> str:
        """The given database, or the embedded one, whether it runs or not."""
        if self.DATABASE_URL:
            return self.DATABASE_URL.get_secret_value()
        return self.services.get("DATABASE_URL", postgres_url(self.EKLAVYA_VAR))

    @cached_property
    def databases(self) -> dict[str, dict[str, Any]]:
        """Django's DATABASES."""
        # A pool tries again for seconds: not where nothing runs, so that a command fails at once.
        runs = bool(self.DATABASE_URL or self.services)
        return {"default": database_settings(self.database_url, pool_size=self.EKLAVYA_DB_POOL_SIZE * runs)}

    @cached_property
    def redis_url(self) -> str:
        """Address of Redis in redis-py's form (redis://, rediss://, unix://)."""
        if self.REDIS_URL:
            return self.REDIS_URL.get_secret_value()
        return self.services.get("REDIS_URL", valkey_url(self.EKLAVYA_VAR))

    @cached_property
    def celery_broker_url(self) -> str:
        """The same address in kombu's form, which has a scheme of its own for sockets."""
        address = urlsplit(self.redis_url)
        return f"redis+socket://{address.path}" if address.scheme == "unix" else self.redis_url

    @cached_property
    def secret_key(self) -> str:
        """The given secret key, or the one kept in ``secret_key`` (mode 0600), made on first use."""
        if self.EKLAVYA_SECRET_KEY:
            return self.EKLAVYA_SECRET_KEY.get_secret_value()
        return _kept_secret(self.EKLAVYA_VAR / "secret_key")

    @cached_property
    def secret_keys(self) -> list[str]:
        """The keys of stored secrets, the newest first: those given, or those of ``secret_keys`` (mode 0600)."""
        if self.EKLAVYA_SECRET_KEYS:
            return _keys(self.EKLAVYA_SECRET_KEYS.get_secret_value(), ",")
        path = self.EKLAVYA_VAR / "secret_keys"
        keys = _keys(_kept_secret(path), "\n")
        if any(len(key) < 32 for key in keys):
            raise EnvError(f"eklavya: {path} has a key shorter than 32 characters: every line is one key")
        return keys


def _limits(value: object, what: str, known: Collection[str], *, such_as: str) -> object:
    """Return what a variable says of several at once: "browser=2, claude_code=8". Raises ValueError."""
    if not isinstance(value, str):
        return value
    limits: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, _, most = (word.strip() for word in part.partition("="))
        if name not in known or not (most.isascii() and most.isdigit() and 1 <= int(most) <= 1000):
            raise ValueError(f"wants {what} and a number from 1 to 1000, such as {such_as}; known: {', '.join(known)}")
        if name in limits:
            raise ValueError(f"names {name} twice")
        limits[name] = int(most)
    return limits


def _text(value: object) -> str:
    """Return a field's value as its variable says it."""
    match value:
        case None:
            return ""
        case SecretStr():
            return value.get_secret_value()
        case list():
            return ",".join(value)
        case dict():
            return ",".join(f"{name}={one}" for name, one in value.items())
        case _:
            return str(value)


def _keys(text: str, separator: str) -> list[str]:
    """Split keys; of nothing but separators there is one empty key, which is too short."""
    return [key.strip() for key in text.split(separator) if key.strip()] or [""]


def read_services(var: Path) -> Services:
    """What ``manage.py run`` recorded about its embedded servers; empty while none run."""
    try:
        recorded: Services = json.loads((var / "run" / "services.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recorded


# Over TCP a server that forgot us, or a network that lets nothing pass, is noticed within half a minute: whoever waits
# for an answer would otherwise do so for two hours. libpq ignores it at a socket.
_NOTICED = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000"}


def database_settings(url: str, *, pool_size: int) -> dict[str, Any]:
    """Django's settings of one database from a libpq URI, with a pool of at most ``pool_size``
    connections (0: none).

    Raises ValueError, worded for the person who wrote the URI.
    """
    try:
        parts = conninfo_to_dict(url) if url.startswith(("postgres://", "postgresql://")) else {}
    except ProgrammingError as error:
        raise ValueError(f"cannot be read: {str(error).strip()}") from None
    if not parts.get("dbname"):
        raise ValueError("must look like postgres://user:password@host:5432/name")
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    own = {key: str(parts.pop(name, "") or "") for name, key in names.items()}
    pool = {"pool": {"min_size": 1, "max_size": pool_size, "timeout": 15}} if pool_size else {}
    return {
        "ENGINE": "django.db.backends.postgresql",
        **own,
        # a pooled connection may have died with its server: look before handing it out
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**_NOTICED, **parts, **pool},
    }


def check_redis_url(url: str) -> None:
    """Raises ValueError unless redis-py and kombu both understand ``url``."""
    address = urlsplit(url)
    if address.scheme == "unix" and address.path.startswith("/"):
        return
    if address.scheme not in {"redis", "rediss"} or not address.hostname:
        raise ValueError("must look like redis://host:6379/0, rediss://host:6379/0 or unix:///path/of/socket")


def _sentence(error: Any) -> str:
    """One pydantic error as '<VARIABLE> <what is wrong>', without the value, which may be a secret."""
    variable = ".".join(str(part) for part in error["loc"])
    return f"{variable} {error['msg'].removeprefix('Value error, ')}".strip()


def _kept_secret(path: Path) -> str:
    """The content of ``path``. Written aside and linked into place, so that of two first starts one wins."""
    try:
        if not path.exists():
            # private as a whole: databases, repositories and logs are kept here too
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(50), encoding="utf-8")
            _link_unless_there(draft, path)
        key = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        problem = f"cannot write {path} ({error.strerror})"
        raise EnvError(f"eklavya: {problem}: {way_out(error)}") from None
    if len(key) < 32:
        raise EnvError(f"eklavya: {path} holds no usable key; remove it to have a new one made")
    return key


def _link_unless_there(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
