"""The Celery application; `celery -A webvm.celery worker` runs the jobs."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webvm.settings")

app = Celery("webvm")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
