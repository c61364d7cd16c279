"""The product's settings, on data and servers that belong to this test run alone.

Only the environment differs, so it is arranged here, before the product's settings read it. `conftest.py`
starts the servers. Each process of a parallel run has a data directory and a Valkey of its own; they
share one PostgreSQL, where each has its own database. DATABASE_URL_TEST names another PostgreSQL.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from eklavya.services.sockets import postgres_url

KEPT = {"EKLAVYA_IMAGE", "EKLAVYA_TEST_BASE"}

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if not WORKER:
    os.environ["EKLAVYA_TEST_BASE"] = tempfile.mkdtemp(prefix="eklavya-tests-")
    atexit.register(shutil.rmtree, os.environ["EKLAVYA_TEST_BASE"], ignore_errors=True)
BASE = Path(os.environ["EKLAVYA_TEST_BASE"])

for _name in [name for name in os.environ if name.startswith("EKLAVYA_") and name not in KEPT]:
    del os.environ[_name]
for _name in ("REDIS_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
    os.environ.pop(_name, None)
os.environ |= {
    "EKLAVYA_ENV_FILE": "",
    "EKLAVYA_VAR": str(BASE / (WORKER or "main")),
    "EKLAVYA_SECRET_KEY": "of-the-tests-" * 4,
    # a pool's threads would keep the database of the test run open
    "EKLAVYA_DB_POOL_SIZE": "0",
    "DATABASE_URL": os.environ.get("DATABASE_URL_TEST") or postgres_url(BASE / "postgres"),
}

from eklavya.settings import *  # noqa: E402, F403  # the environment had to come first

MIDDLEWARE = [
    "tests.static.StaticFiles" if name == "servestatic.middleware.ServeStaticMiddleware" else name
    for name in MIDDLEWARE  # noqa: F405
]
PASSWORD_HASHERS = ["tests.hashing.CheapArgon2", *PASSWORD_HASHERS[1:]]  # noqa: F405
