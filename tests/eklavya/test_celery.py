"""What Celery does with connections that break, on a real broker."""

import pytest

from eklavya.celery import app

QUEUE = "test-celery"


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut off", "connected"])
def test_a_message_that_nobody_began_ends_no_worker_that_is_cut_off(is_cut: bool) -> None:
    """It goes back into its queue where there is a way to it."""
    with app.connection_for_write() as writing:
        queue = writing.SimpleQueue(QUEUE)
        queue.clear()
        queue.put({"a": "hint"})

    reading = app.connection_for_read()
    assert reading.default_channel.basic_get(QUEUE) is not None
    if is_cut:
        # As kombu does when a command fails (`collect`), where the channel's own end has failed at the same connection.
        reading._do_close_transport()
    reading.close()

    with app.connection_for_read() as reading:
        assert (reading.default_channel.basic_get(QUEUE, no_ack=True) is None) == is_cut
