"""Workflows in and out: as JSON and YAML files."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from projects.actions.workflow_files import import_workflow
from projects.actions.workflows import document_of
from projects.actors import Actor
from projects.models import Workflow
from projects.workflows.definition import InvalidWorkflow
from projects.workflows.documents import MAX_BYTES, as_json, as_yaml, read
from projects.workflows.main_job import main_job_warnings
from projects.workflows.places import with_lines

BY = Actor.system("command line")


class Command(BaseCommand):
    help = (
        "Check a file (check FILE), store it as the next version (import FILE), write a workflow (export KEY), or list "
        "all (list). Files are JSON or YAML; - is standard input or output. Ends with code 1 for a file that is none."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list")
        for verb in ("check", "import"):
            verbs.add_parser(verb).add_argument("file")
        export = verbs.add_parser("export")
        export.add_argument("key")
        export.add_argument("--number", type=int, help="the version; the newest, if none is given")
        export.add_argument("--format", choices=["yaml", "json"], default="yaml")

    def handle(self, *args: Any, **options: Any) -> None:
        match options["verb"]:
            case "list":
                self._list()
            case "check":
                self._check(options["file"])
            case "import":
                self._import(options["file"])
            case _:
                found = document_of(_find(options["key"], options["number"]))
                self.stdout.write(as_json(found) if options["format"] == "json" else as_yaml(found), ending="")

    def _list(self) -> None:
        for row in Workflow.objects.defer("definition").order_by("key", "-version"):
            self.stdout.write(f"{row.key} {row.version}  {row.name}")

    def _check(self, name: str) -> None:
        text = _text(name)
        try:
            found = read(text)
        except InvalidWorkflow as error:
            raise CommandError("\n".join(with_lines(error, text).problems)) from error
        self.stdout.write(f"{found.key}: {len(found.definition.nodes):,} nodes, nothing is wrong with it.")

    def _import(self, name: str) -> None:
        try:
            saved = import_workflow(_text(name), by=BY, now=timezone.now())
        except InvalidWorkflow as error:
            raise CommandError("\n".join(error.problems)) from error
        self.stdout.write(f"{saved.key} {saved.version}")
        for warning in main_job_warnings(saved.key, document_of(saved).definition):
            self.stderr.write(warning)


def _text(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.read(MAX_BYTES + 1)
        with Path(name).open() as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name} cannot be read: {error}") from error


def _find(key: str, version: int | None) -> Workflow:
    versions = Workflow.objects.filter(key=key).order_by("-version")
    found = (versions if version is None else versions.filter(version=version)).first()
    if found is None:
        raise CommandError(
            f"There is no workflow “{key}”{'' if version is None else f' {version}'}. See: workflow list"
        )
    return found
