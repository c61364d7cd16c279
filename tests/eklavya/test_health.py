import pytest
from django.test import Client


def test_healthz_answers_anybody(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.django_db
def test_readyz_says_that_database_and_redis_answer(client: Client) -> None:
    response = client.get("/readyz")

    assert (response.status_code, response.json()) == (200, {"checks": {"database": True, "redis": True}})


@pytest.mark.django_db
def test_readyz_says_that_redis_does_not_answer(client: Client, settings: object) -> None:
    settings.REDIS_URL = "unix:///nowhere"  # type: ignore[attr-defined]

    response = client.get("/readyz")

    assert (response.status_code, response.json()["checks"]["redis"]) == (503, False)
