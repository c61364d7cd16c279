from django.apps import AppConfig


class EklavyaConfig(AppConfig):
    name = "eklavya"

    def ready(self) -> None:
        """Tie the apps together. The import waits until all of their models are there."""
        from eklavya.wiring import connect  # noqa: PLC0415

        connect()
