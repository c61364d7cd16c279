"""One step of a periodic task that breaks keeps no other; a database that is away ends them all."""

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction

from projects.sweeping import take_each

pytestmark = pytest.mark.django_db


def times_out() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 1")
        cursor.execute("SELECT pg_sleep(5)")


def test_a_step_that_times_out_keeps_no_other() -> None:
    taken = []

    with pytest.raises(ExceptionGroup) as broken:
        take_each(times_out, lambda: taken.append(1))

    assert broken.group_contains(OperationalError)
    assert taken == [1]


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_ended_ends_all() -> None:
    taken: list[int] = []

    def loses_its_connection() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    def closed() -> None:
        raise InterfaceError

    for step in (loses_its_connection, closed):
        with pytest.raises((OperationalError, InterfaceError)):
            take_each(step, lambda: taken.append(1))
        connection.close()

    assert taken == []
