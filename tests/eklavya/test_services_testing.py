"""The servers of the test run itself."""

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from eklavya.services.testing import Services


def test_postgres_has_pgvector(services: Services) -> None:
    with psycopg.connect(services.database_url.replace(":///eklavya?", ":///postgres?")) as database:
        extensions = {name for (name,) in database.execute("SELECT name FROM pg_available_extensions")}
    assert "vector" in extensions


def test_valkey_speaks_redis(services: Services) -> None:
    with redis.Redis.from_url(services.redis_url) as client:
        assert client.info("server")["valkey_version"].startswith("9.")


@pytest.mark.django_db
def test_database_is_a_test_database() -> None:
    assert connection.settings_dict["NAME"].startswith("test_")


def test_data_directory_is_the_runs_own(services: Services) -> None:
    assert services.var == settings.EKLAVYA_VAR
    assert "eklavya-tests-" in str(services.var)
