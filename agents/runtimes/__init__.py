"""Sandboxes: where agents' processes run. contract.py is the page to read; registry.py chooses one."""
