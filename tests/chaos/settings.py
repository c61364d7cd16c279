"""The product's settings, with leases that a short run has the time to see run out."""

import os

from eklavya.settings import *  # noqa: F403

EKLAVYA_LEASE_SECONDS = int(os.environ.get("CHAOS_LEASE_S", "20"))
