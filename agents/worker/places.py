"""How an assignment names places that only the worker knows: by words that it puts its own in for."""

from collections.abc import Mapping

DOORS = "doors.eklavya.invalid"
"""The host under which sandboxes find the gateway and the egress proxy, before a colon and the server's port."""
HOME = "/eklavya.invalid/home"
WORKSPACE = "/eklavya.invalid/workspace"
PROGRAM = "/eklavya.invalid/program"
"""Where this repository lies."""


def filled_in(text: str, places: Mapping[str, str]) -> str:
    """Return a text with the worker's own places, the longest words first: a door's port goes with its host."""
    for word in sorted(places, key=len, reverse=True):
        text = text.replace(word, places[word])
    return text
