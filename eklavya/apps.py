import gc

from django.apps import AppConfig

# Objects made before the collector looks at the young ones, and its rounds before it looks at older ones. Python's own
# (700, 10, 10) are for small programs: a page or a migration makes tens of thousands, most of which go by themselves.
COLLECTOR = (10_000, 20, 20)


class EklavyaConfig(AppConfig):
    name = "eklavya"

    def ready(self) -> None:
        """Tie the apps together. The imports wait until all of their models are there."""
        # Whoever sends a task needs the application: shared tasks of a process without one go nowhere.
        from eklavya.celery import app  # noqa: PLC0415
        from eklavya.wiring import connect  # noqa: PLC0415

        app.set_default()
        connect()
        _collect_from_now_on()


def _collect_from_now_on() -> None:
    """End what the settings began: what is loaded stays, so the collector need not look through it again and again."""
    gc.set_threshold(*COLLECTOR)
    gc.freeze()
    gc.enable()
