from django.apps import AppConfig


class EklavyaConfig(AppConfig):
    name = "eklavya"

    def ready(self) -> None:
        """Tie the apps together. The imports wait until all of their models are there."""
        # Whoever sends a task needs the application: shared tasks of a process without one go nowhere.
        from eklavya.celery import app  # noqa: PLC0415
        from eklavya.wiring import connect  # noqa: PLC0415

        app.set_default()
        connect()
