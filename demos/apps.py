from django.apps import AppConfig


class DemosConfig(AppConfig):
    name = "demos"

    def ready(self) -> None:
        """Have it known what begins the stages of the main job that show something, and what decisions lead to."""
        from demos import actions  # noqa: F401, PLC0415
