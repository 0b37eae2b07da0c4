"""Settings. What differs between installations is an environment variable `WEBVM_…`; see README."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from urllib.parse import unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent


def env(name: str, default: str = "") -> str:
    """`WEBVM_<name>`, or the contents of the file that `WEBVM_<name>_FILE` names, or the default."""
    path = os.environ.get(f"WEBVM_{name}_FILE")
    if path:
        return Path(path).read_text(encoding="utf-8").strip()
    return os.environ.get(f"WEBVM_{name}", default)


def env_bool(name: str, default: bool) -> bool:
    value = env(name, "1" if default else "0").lower()
    if value not in {"0", "1", "true", "false", "yes", "no"}:
        raise ValueError(f"WEBVM_{name} must be 0 or 1, not {value!r}")
    return value in {"1", "true", "yes"}


def env_int(name: str, default: int) -> int:
    value = env(name, str(default))
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"WEBVM_{name} must be a number, not {value!r}")
    return int(value)


def env_list(name: str, default: str) -> list[str]:
    return [part.strip() for part in env(name, default).split(",") if part.strip()]


DATA_DIR = Path(env("DATA_DIR", str(BASE_DIR / "data"))).resolve()


def data_secret_key() -> str:
    """The installation's own secret key, made on first use and kept in the data directory."""
    path = DATA_DIR / "secret-key"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"secret-key.{os.getpid()}")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(new, path)  # the first of two processes that start at once wins
        except FileExistsError:
            pass
        finally:
            new.unlink()
        return path.read_text(encoding="ascii")


def database(url: str) -> dict[str, object]:
    """Django's settings for `sqlite:///path` or `postgresql://user:password@host:port/name`."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {
            "ENGINE": "webvm.sqlite",
            "NAME": parts.path,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                " PRAGMA busy_timeout=20000;",
            },
        }
    if parts.scheme in {"postgres", "postgresql"}:
        query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path[1:]),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(query.get("host", parts.hostname or "")),
            "PORT": str(parts.port or ""),
        }
    raise ValueError(f"WEBVM_DATABASE_URL: cannot use {parts.scheme!r}; use sqlite:///… or postgresql://…")


def mail(url: str) -> dict[str, object]:
    """Django's settings for `smtp://user:password@host:587` (STARTTLS unless `?tls=0`) or `smtps://…:465`.

    Without an address, mail is written to the log.
    """
    if not url:
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    parts = urlsplit(url)
    if parts.scheme not in {"smtp", "smtps"}:
        raise ValueError(f"WEBVM_EMAIL_URL: cannot use {parts.scheme!r}; use smtp://… or smtps://…")
    is_ssl = parts.scheme == "smtps"
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname or "localhost",
        "EMAIL_PORT": parts.port or (465 if is_ssl else 587),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_SSL": is_ssl,
        "EMAIL_USE_TLS": not is_ssl and "tls=0" not in parts.query,
        "EMAIL_TIMEOUT": 10,
    }


def chunk_signing(kind: str) -> str:
    if kind not in {"secure_link", "cloudfront"}:
        raise ValueError(f"WEBVM_CHUNK_SIGNING must be secure_link or cloudfront, not {kind!r}")
    if kind == "cloudfront":
        for name in ("CLOUDFRONT_KEY_ID", "CLOUDFRONT_PRIVATE_KEY"):
            if not env(name):
                raise ValueError(f"WEBVM_CHUNK_SIGNING=cloudfront needs WEBVM_{name}")
        if not env("CHUNK_BASE_URL").startswith("https://"):
            raise ValueError("WEBVM_CHUNK_SIGNING=cloudfront needs WEBVM_CHUNK_BASE_URL=https://…")
    return kind


def chunk_signing_key(key: str) -> str:
    """The key that the CDN has too; "" for one that only this service knows."""
    if key and not re.fullmatch(r"[\w-]{32,128}", key, re.ASCII):
        raise ValueError("WEBVM_CHUNK_SIGNING_KEY must be 32 to 128 letters, digits, - or _.")
    return key


SECRET_KEY = env("SECRET_KEY") or data_secret_key()
DEBUG = env_bool("DEBUG", False)
HTTPS = env_bool("HTTPS", False)  # people reach the service by https: secure cookies and HSTS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "*")
CSRF_TRUSTED_ORIGINS = env_list("TRUSTED_ORIGINS", "")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "ninja",
    "allauth",
    "allauth.account",
    "webvm.accounts",
    "storage",
    "sessions",
    "webvm",
]
MIDDLEWARE = [
    "webvm.middleware.SecurityHeaders",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "webvm.accounts.journal.ForgetJournals",
    "webvm.middleware.ErrorPages",
]
ROOT_URLCONF = "webvm.urls"
ASGI_APPLICATION = "webvm.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "webvm" / "templates"],  # before the apps', so that ours replace allauth's
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": database(env("DATABASE_URL", f"sqlite://{DATA_DIR / 'webvm.sqlite3'}"))}
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/machines/"
ACCOUNT_ADAPTER = "webvm.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = env("EMAIL_VERIFICATION", "optional")
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if HTTPS else "http"
# How many proxies in front of the service set X-Forwarded-For; rate limits count by the address before them.
ALLAUTH_TRUSTED_PROXY_COUNT = env_int("TRUSTED_PROXIES", 0)
# allauth's own limits hold for its pages; these are for ours (webvm/accounts/limits.py).
ACCOUNT_RATE_LIMITS = {
    "sign_in_link": "20/m/ip",
    "invitation": "20/m/ip",
    "guest": "30/h/ip",
    "keep_guest": "10/m/user",
    "download": "60/m/user",
    "import": "20/m/user",
}
ADMIN_EMAIL = env("ADMIN_EMAIL", "admin@localhost")
vars().update(mail(env("EMAIL_URL")))
DEFAULT_FROM_EMAIL = env("FROM_EMAIL", "webvm@localhost")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env("REDIS_URL")
# Rate limits count in it: with several web processes they must share one.
CACHES = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    )
}
CHANNEL_LAYERS = {
    "default": (
        {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # Longer than the wait of the layer itself (5 s): redis-py's default would end an idle socket.
            "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": 15}]},
        }
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    )
}

# Celery: a folder as its broker unless Redis is there. Results live in our own models.
BROKER_DIR = DATA_DIR / "broker"
CELERY_BROKER_URL = REDIS_URL or "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {}
    if REDIS_URL
    else {
        "data_folder_in": str(BROKER_DIR / "queue"),
        "data_folder_out": str(BROKER_DIR / "queue"),
        "control_folder": str(BROKER_DIR / "control"),
        "store_processed": False,
        "polling_interval": 0.25,  # seconds; the default of 1 is felt when a job starts and ends
    }
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True


def every(seconds: float, task: str) -> dict[str, object]:
    """An entry of the schedule. A message that nobody took until the next one is dropped."""
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}


GC_EVERY_MINUTES = env_int("GC_EVERY_MINUTES", 60)
VERIFY_EVERY_HOURS = env_int("VERIFY_EVERY_HOURS", 24)
VERIFY_SAMPLE = env_int("VERIFY_SAMPLE", 2000)  # chunks in each
CELERY_BEAT_SCHEDULE = {
    "collect garbage": every(60 * GC_EVERY_MINUTES, "storage.collect_garbage"),
    "delete orphans": every(7 * 24 * 3600, "storage.delete_orphans"),
    "verify a sample": every(3600 * VERIFY_EVERY_HOURS, "storage.verify_sample"),
    "expire guests": every(3600, "webvm.accounts.expire_guests"),
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "schedule")

# Chunks: `local` (a folder) or `s3`.
CHUNK_STORE = env("CHUNK_STORE", "local")
CHUNK_DIR = Path(env("CHUNK_DIR", str(DATA_DIR / "chunks")))
CHUNK_BASE_URL = env("CHUNK_BASE_URL", "/chunks/")
# What opens private chunks at that address (docs/design/delivery.md): `secure_link` or `cloudfront`.
CLOUDFRONT_KEY_ID = env("CLOUDFRONT_KEY_ID")
CLOUDFRONT_PRIVATE_KEY = env("CLOUDFRONT_PRIVATE_KEY")  # PEM
CLOUDFRONT_COOKIE_DOMAIN = env("CLOUDFRONT_COOKIE_DOMAIN")  # one above both the site's and the CDN's host
CHUNK_SIGNING = chunk_signing(env("CHUNK_SIGNING", "secure_link"))
CHUNK_SIGNING_KEY = chunk_signing_key(env("CHUNK_SIGNING_KEY"))
S3_BUCKET = env("S3_BUCKET")
S3_ENDPOINT_URL = env("S3_ENDPOINT_URL") or None
S3_REGION = env("S3_REGION", "us-east-1")
S3_ACCESS_KEY = env("S3_ACCESS_KEY") or None  # None: boto3's usual sources
S3_SECRET_KEY = env("S3_SECRET_KEY") or None
S3_PUBLIC_URL = env("S3_PUBLIC_URL") or None  # the endpoint as browsers reach it; None: the same
S3_DIRECT_UPLOADS = env_bool("S3_DIRECT_UPLOADS", True)

# What a new tenant may have, and the personal tenant of a guest. Admins change it per tenant.
QUOTA_BYTES = env_int("QUOTA_BYTES", 5 * 1024**3)
MAX_VMS = env_int("MAX_VMS", 100)
MAX_SESSIONS = env_int("MAX_SESSIONS", 20)
GUEST_QUOTA_BYTES = env_int("GUEST_QUOTA_BYTES", 512 * 1024**2)
GUEST_MAX_VMS = env_int("GUEST_MAX_VMS", 5)
GUEST_MAX_SESSIONS = env_int("GUEST_MAX_SESSIONS", 2)

# Garbage collection: see docs/design/storage.md for what each time protects.
UNDO_DAYS = env_int("UNDO_DAYS", 30)  # what was deleted can be brought back
GC_PIN_HOURS = env_int("GC_PIN_HOURS", 24)  # an upload waits for its commit
GC_GRACE_MINUTES = env_int("GC_GRACE_MINUTES", 120)  # from condemned to deleted

# Archives of machines on their way in: web servers write them here, workers read them, so on several
# computers it is a shared folder. None may be larger than this, nor than the tenant's quota.
SPOOL_DIR = Path(env("SPOOL_DIR", str(DATA_DIR / "spool")))
MAX_ARCHIVE_BYTES = env_int("MAX_ARCHIVE_BYTES", 8 * 1024**3)
DEBIAN_MIRROR = env("DEBIAN_MIRROR")
CACHE_DIR = Path(env("CACHE_DIR", "")) if env("CACHE_DIR") else None  # None: the user's cache directory

CLIENT_DIR = BASE_DIR / "frontend" / "dist"
# Published by `up` where they are missing, the first one before it is ready; empty: none.
STARTER_RECIPES = env_list(
    "STARTER_RECIPES",
    ",".join(str(BASE_DIR / "images" / name) for name in ("starter-64.toml", "starter.toml")),
)

STATIC_URL = "/static/"
STATICFILES_DIRS = [("app", CLIENT_DIR)] if CLIENT_DIR.is_dir() else []
WHITENOISE_USE_FINDERS = True  # nothing to collect: files are served from where they are
WHITENOISE_IMMUTABLE_FILE_TEST = r"^/static/app/assets/.+-[\w-]{8}\.\w+$"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
X_FRAME_OPTIONS = "DENY"
