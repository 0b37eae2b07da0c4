from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "webvm.accounts"
    label = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from webvm.accounts import journal, signals  # noqa: F401 - connects the receivers
