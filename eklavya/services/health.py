"""Questions to a running part: does it answer? Each is quick and returns False rather than raising."""

import http.client

import psycopg
import redis
from celery import Celery
from kombu.exceptions import OperationalError


def http_answers(port: int, *, host: str = "127.0.0.1", path: str = "/healthz") -> bool:
    """True when GET ``path`` is answered by 200."""
    connection = http.client.HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def database_problem(url: str) -> str:
    """Why the database does not answer, in one line; empty when it does."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return " ".join(str(error).split())
    return ""


def redis_problem(url: str) -> str:
    """Why Redis does not answer, in one line; empty when it does."""
    client = redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5, retry=None)
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        return " ".join(str(error).split())
    finally:
        client.close()
    return ""


def worker_answers(broker_url: str, node: str) -> bool:
    """True when the Celery worker called ``node`` answers a ping."""
    app = Celery(broker=broker_url, set_as_current=False)
    try:
        # limit: return with the first answer instead of waiting for more
        return bool(app.control.inspect([node], timeout=1, limit=1).ping())
    except (OSError, OperationalError, redis.RedisError):
        return False
    finally:
        app.close()
