"""Passwords of tests: hashed as the product does it, for next to nothing."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class CheapArgon2(Argon2PasswordHasher):
    """A hash of the product's is slow by design, and tests sign in a hundred times."""

    time_cost = 1
    memory_cost = 64  # KiB
    parallelism = 1
