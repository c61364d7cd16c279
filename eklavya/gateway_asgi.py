"""The agent gateway: `uvicorn eklavya.gateway_asgi:application`. The only port that sandboxes reach."""

import gc
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "eklavya.settings")
# Before the gateway is imported: it uses models, and MCP sets up a log of its own where none is configured.
django.setup()

from agents.gateway.app import build  # noqa: E402

application = build()
# What was loaded so far stays: a collection that looks through all of it would stop every stream for a moment.
gc.collect()
gc.freeze()
