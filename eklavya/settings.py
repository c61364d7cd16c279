"""Settings of the whole. What can be set from outside is in `eklavya.env` and explained in `.env.example`."""

import gc
import os
import socket
from datetime import timedelta

# Nothing that is loaded now goes away: until all apps are there (`eklavya.apps`) the collector would look in vain.
gc.disable()

from eklavya.env import BASE_DIR, Env  # noqa: E402

env = Env()

SECRET_KEY = env.secret_key
DEBUG = env.EKLAVYA_DEBUG
ALLOWED_HOSTS = env.allowed_hosts

INSTALLED_APPS = [
    "eklavya.admin_config.PortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "axes",
    "channels",
    "csp",
    "drf_spectacular",
    "rest_framework",
    "django_celery_beat",
    "django_htmx",
    "pgtrigger",
    "accounts",
    "projects",
    "billing",
    "agents",
    "demos",
    "learning",
    "eklavya",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Every page needs a login unless its view says otherwise: forgetting is safe.
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "eklavya.reloads.middleware",
    # Last: it replaces the answer of a sign-in that is locked out.
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "eklavya.urls"
ASGI_APPLICATION = "eklavya.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "eklavya.context_processors.shell",
            ],
        },
    },
]

DATABASES = env.databases
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.redis_url
# Counters of rate limits, shared by all processes. Nothing is kept there that may not be lost.
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "cache"},
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "eklavya"},
    },
}

# -- Celery: messages are hints, the rows in PostgreSQL are the truth (docs/architecture.md)
CELERY_BROKER_URL = env.celery_broker_url
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False  # a lost message is swept up; a redelivered one would only lose the claim
# A message that waits in a worker for longer than this is delivered once more, to another: whoever puts the first lease
# on the run does it (leases.hold_run). Far longer than any message waits, and acknowledged before the work begins, so
# that the length of a run has no part in it.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": timedelta(hours=12).total_seconds()}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "eklavya"
# This machine among the workers; each has a queue of its own for runs.
EKLAVYA_WORKER_NAME = env.EKLAVYA_WORKER_NAME or f"{socket.gethostname()}-{env.EKLAVYA_WEB_PORT}"
EKLAVYA_WORKER_CAPACITY = env.EKLAVYA_WORKER_CAPACITY or env.EKLAVYA_MAX_CONCURRENT_RUNS
EKLAVYA_PREVIEWS = env.EKLAVYA_PREVIEWS
EKLAVYA_STANDBYS, EKLAVYA_STANDBY_SECONDS = env.EKLAVYA_STANDBYS, env.EKLAVYA_STANDBY_SECONDS
EKLAVYA_MACHINE_ID = env.EKLAVYA_MACHINE_ID
# Tells two workers on one machine apart.
EKLAVYA_MACHINE_PART = f"{env.EKLAVYA_VAR}:{env.EKLAVYA_WEB_PORT}"
EKLAVYA_WORKER_TRUST = env.EKLAVYA_WORKER_TRUST
EKLAVYA_MIN_DISK_MB, EKLAVYA_MIN_MEMORY_MB = env.EKLAVYA_MIN_DISK_MB, env.EKLAVYA_MIN_MEMORY_MB
EKLAVYA_WORKER_QUEUE = f"runs.{EKLAVYA_WORKER_NAME}"
# What a worker of this environment takes (docs/adr/0010-queues-and-pools.md).
EKLAVYA_WORKER = env.EKLAVYA_WORKER
_queues = {
    "all": (CELERY_TASK_DEFAULT_QUEUE, EKLAVYA_WORKER_QUEUE),
    "light": (CELERY_TASK_DEFAULT_QUEUE,),
    "runs": (EKLAVYA_WORKER_QUEUE,),
}
CELERY_TASK_QUEUES = {name: {"exchange": name, "routing_key": name} for name in _queues[EKLAVYA_WORKER]}
if EKLAVYA_WORKER == "light":
    CELERY_WORKER_POOL = "prefork"
    CELERY_WORKER_CONCURRENCY = os.cpu_count() or 1
else:
    # A run holds its thread for as long as it lasts; the rest are for everything else.
    CELERY_WORKER_POOL = "threads"
    # Those of remote workers too, which are supervised here.
    CELERY_WORKER_CONCURRENCY = max(EKLAVYA_WORKER_CAPACITY, env.EKLAVYA_MAX_CONCURRENT_RUNS) + 8
CELERY_BEAT_SCHEDULER = "eklavya.beat.SoleScheduler"  # of several beats one sends
CELERY_BEAT_MAX_LOOP_INTERVAL = 5  # seconds
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"

# -- People
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "account_login"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # of accounts made before; rehashed when they sign in
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_LINK_MINUTES = 15

ACCOUNT_ADAPTER = "accounts.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]  # nobody signs up; this only says that no mail is asked for
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = None  # the form asks
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300  # seconds
# Above what axes locks at, so that a lock-out is one that admins see and can clear.
ACCOUNT_RATE_LIMITS = {"login_failed": "30/m/ip,10/5m/key"}
MFA_ADAPTER = "accounts.adapters.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_FORMS = {
    "add_webauthn": "accounts.mfa_forms.AddKeyForm",
    "authenticate_webauthn": "accounts.mfa_forms.KeyForm",
    "login_webauthn": "accounts.mfa_forms.LoginKeyForm",
    "reauthenticate_webauthn": "accounts.mfa_forms.ConfirmKeyForm",
}

AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
# A guesser locks out themselves and not the person, who comes from elsewhere.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "accounts.lock_outs.typed_name"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True  # the audit log has it
AXES_ENABLE_ADMIN = False  # shown and cleared in the portal, with a record
AXES_LOCKOUT_TEMPLATE = "account/locked_out.html"
AXES_VERBOSE = False

# -- Browsers
_PUBLIC_IS_HTTPS = env.public_url.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _PUBLIC_IS_HTTPS
# With the prefix a browser takes the cookie from this very host alone: no preview beside it can plant one.
_HOST_ONLY = "__Host-" if _PUBLIC_IS_HTTPS else ""
SESSION_COOKIE_NAME = f"{_HOST_ONLY}eklavya_session"
CSRF_COOKIE_NAME = f"{_HOST_ONLY}csrftoken"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not _PUBLIC_IS_HTTPS  # browsers themselves allow localhost alone
CSRF_TRUSTED_ORIGINS = [env.public_url]
SECURE_HSTS_SECONDS = 31_536_000 if _PUBLIC_IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _PUBLIC_IS_HTTPS
# Being on browsers' preload list is a promise for the whole domain, for years: its owner's to give, not ours.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
# uvicorn takes the scheme from X-Forwarded-Proto, of the proxies that FORWARDED_ALLOW_IPS names (127.0.0.1).
SECURE_SSL_REDIRECT = _PUBLIC_IS_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]  # asked on this machine, without TLS
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
_PREVIEW_SOURCE = f"{'https' if _PUBLIC_IS_HTTPS else 'http'}://*.{env.preview_domain}"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-src": [_PREVIEW_SOURCE],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
        "manifest-src": ["'self'"],
    },
}
# A brief of a megabyte is refused at its field, in any script: a form sends up to six bytes for one of text.
DATA_UPLOAD_MAX_MEMORY_SIZE = 7_000_000
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
DATA_UPLOAD_MAX_NUMBER_FILES = 10

# -- Programs (eklavya/api)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.api.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    # A view that names no scope lets nobody in: forgetting is safe.
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": "1200/min"},
    "EXCEPTION_HANDLER": "eklavya.api.errors.handle",
    "URL_FORMAT_OVERRIDE": None,  # no ?format=
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Eklavya",
    "VERSION": "1",
    "DESCRIPTION": "Send `Authorization: Bearer ek_live_…`. Errors are {error: {code, message, fields}}.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "ProjectStatusEnum": "projects.states.ProjectStatus",
        "TaskStatusEnum": "projects.states.TaskStatus",
        "RunStatusEnum": "agents.states.RunStatus",
        "ApprovalStatusEnum": "projects.states.ApprovalStatus",
        "WebhookStatusEnum": "projects.states.WebhookStatus",
        "DeliveryStatusEnum": "projects.states.DeliveryStatus",
        "ExecutionStatusEnum": "projects.states.ExecutionStatus",
    },
}

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = env.EKLAVYA_VAR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
SERVESTATIC_USE_FINDERS = True

# -- Eklavya
EKLAVYA_VAR = env.EKLAVYA_VAR
EKLAVYA_RUNTIME = env.EKLAVYA_RUNTIME
EKLAVYA_IMAGE = env.EKLAVYA_IMAGE
EKLAVYA_ALLOW_LOCAL_RUNTIME = env.EKLAVYA_ALLOW_LOCAL_RUNTIME or DEBUG
EKLAVYA_PUBLIC_URL = env.public_url
EKLAVYA_PREVIEW_DOMAIN = env.preview_domain
EKLAVYA_GATEWAY_PORT = env.EKLAVYA_GATEWAY_PORT
EKLAVYA_EGRESS_PORT = env.EKLAVYA_EGRESS_PORT
EKLAVYA_EGRESS = env.egress
EKLAVYA_EGRESS_CONNECTIONS = env.EKLAVYA_EGRESS_CONNECTIONS
EKLAVYA_EGRESS_BYTES = env.EKLAVYA_EGRESS_MB * 2**20
EKLAVYA_WEBHOOK_HOSTS = env.EKLAVYA_WEBHOOK_HOSTS
EKLAVYA_WEBHOOK_HTTP = env.EKLAVYA_WEBHOOK_HTTP
EKLAVYA_WEBHOOK_HOURS = env.EKLAVYA_WEBHOOK_HOURS
EKLAVYA_TRANSCRIPT_DAYS = env.EKLAVYA_TRANSCRIPT_DAYS
EKLAVYA_MODEL_URL = env.model_url
EKLAVYA_MODEL_KEY = env.ANTHROPIC_API_KEY.get_secret_value() if env.ANTHROPIC_API_KEY else "rehearsal"
EKLAVYA_MODEL_FIELDS = frozenset(name.strip() for name in env.EKLAVYA_MODEL_FIELDS.split(",") if name.strip())
EKLAVYA_KEYED_MODEL_URL = env.keyed_model_url
EKLAVYA_SECRET_KEYS = env.secret_keys
EKLAVYA_MODEL_MODE = "rehearsal" if env.rehearsal else "real"
EKLAVYA_MAX_CONCURRENT_RUNS = env.EKLAVYA_MAX_CONCURRENT_RUNS
EKLAVYA_TOOL_LIMITS = env.EKLAVYA_TOOL_LIMITS
EKLAVYA_ROLE_LIMITS = env.EKLAVYA_ROLE_LIMITS
EKLAVYA_MAX_FILE_MB = env.EKLAVYA_MAX_FILE_MB
EKLAVYA_MAX_CHANGE_MB = env.EKLAVYA_MAX_CHANGE_MB
EKLAVYA_MAX_FILES = env.EKLAVYA_MAX_FILES
EKLAVYA_BUDGET_LIMIT = env.EKLAVYA_BUDGET_LIMIT
EKLAVYA_ACCOUNT_LIMIT = 40 * env.EKLAVYA_BUDGET_LIMIT
EKLAVYA_CURRENCY = "USD"
EKLAVYA_DEFAULT_MODEL = "claude-sonnet-4-5"
EKLAVYA_BRIEF_MAX_CHARS = 100_000
EKLAVYA_LEASE_SECONDS = env.EKLAVYA_LEASE_SECONDS
EKLAVYA_LOOP_CALLS, EKLAVYA_NO_DIFF_MINUTES = env.EKLAVYA_LOOP_CALLS, env.EKLAVYA_NO_DIFF_MINUTES
EKLAVYA_CHECKPOINT_MINUTES = env.EKLAVYA_CHECKPOINT_MINUTES
EKLAVYA_RECOVER = env.EKLAVYA_RECOVER
EKLAVYA_RECOVERIES_PER_TASK = env.EKLAVYA_RECOVERIES_PER_TASK
EKLAVYA_RECOVERIES_PER_HOUR = env.EKLAVYA_RECOVERIES_PER_HOUR
EKLAVYA_RESTARTS_PER_HOUR = env.EKLAVYA_RESTARTS_PER_HOUR
EKLAVYA_STALL_SECONDS = env.EKLAVYA_STALL_SECONDS
EKLAVYA_MODEL_PATIENCE_SECONDS = 45  # so long the gateway asks a model again that is overloaded or away
EKLAVYA_DEMO_DAYS = 7

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "axes": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "mcp": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
    },
}
