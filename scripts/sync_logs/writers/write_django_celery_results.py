"""django-celery-results: one finished task per document, whose result names it, and one that failed."""

from datetime import UTC, datetime
from uuid import uuid5

import django
from celery import Celery
from django.conf import settings
from django.core.management import call_command
from documents import DELETED, DOCUMENTS, SQLITE_PATH, record

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": SQLITE_PATH}},
    INSTALLED_APPS=["django_celery_results"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    CELERY_RESULT_BACKEND="django-db",
)
django.setup()
call_command("migrate", verbosity=0)
app = Celery()
app.config_from_object("django.conf:settings", namespace="CELERY")
rows = []
for each in DOCUMENTS:
    began = datetime.now(UTC)
    app.backend.store_result(str(uuid5(each.uuid, "task")), {"item_id": each.id}, "SUCCESS")
    rows.append((each.id, began, datetime.now(UTC)))
for each in DELETED:
    app.backend.store_result(str(uuid5(each.uuid, "task")), ValueError("refused"), "FAILURE")
record(rows)
