from django.apps import AppConfig


class WebVMConfig(AppConfig):
    name = "webvm"

    def ready(self) -> None:
        # Every Django process sends its tasks through our Celery application, not through a default one.
        from webvm import celery  # noqa: F401
