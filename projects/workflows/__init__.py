"""Workflows as data, and the engine that executes them (docs/workflows.md)."""
