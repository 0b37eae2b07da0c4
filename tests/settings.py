"""The project's settings with a data directory that is thrown away.

The tests' own choice of services (`WEBVM_DATABASE_URL` and the like) stays as it is: see
tests/integration/test_on_postgresql.py.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

_folder = tempfile.mkdtemp(prefix="webvm-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["WEBVM_DATA_DIR"] = _folder
if (_worker := os.environ.get("PYTEST_XDIST_WORKER")) and "WEBVM_REDIS_URL" in os.environ:
    # Tests beside tests: each with a database of Redis of its own (pytest-django sees to the other one).
    _redis = os.environ["WEBVM_REDIS_URL"].rpartition("/")[0]
    os.environ["WEBVM_REDIS_URL"] = f"{_redis}/{_worker.removeprefix('gw')}"

from webvm.settings import *  # noqa: E402, F403
from webvm.settings import DATABASES  # noqa: E402

# A built client with empty entries: the tests of pages do not wait for the real one.
CLIENT_DIR = Path(_folder) / "dist"
(CLIENT_DIR / ".vite").mkdir(parents=True)
(CLIENT_DIR / ".vite" / "manifest.json").write_text(
    json.dumps(
        {
            f"src/{name}/main.ts": {"file": f"{name}.js", "name": name, "isEntry": True}
            for name in ("pages", "early", "console")
        }
    )
)
if DATABASES["default"]["ENGINE"] == "webvm.sqlite":
    # A file: with SQLite in memory, threads that share it do not wait for each other's locks.
    DATABASES["default"]["TEST"] = {"NAME": str(Path(_folder) / "tests.sqlite3")}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick; nothing here is secret
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
