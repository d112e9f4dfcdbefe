"""Django: a model with a UUIDField, saved by the ORM."""

import django
from django.conf import settings
from django.db import connection, models
from documents import DOCUMENTS, POSTGRES, SQLITE_PATH, URL

if POSTGRES:
    from urllib.parse import urlsplit

    parts = urlsplit(URL)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password,
        "HOST": parts.hostname,
        "PORT": parts.port,
    }
else:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": SQLITE_PATH}
settings.configure(DATABASES={"default": database}, USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()


class Upload(models.Model):  # noqa: DJ008  # nothing shows it
    api_id = models.UUIDField(unique=True)
    uploaded_at = models.DateTimeField()
    collection = models.CharField(max_length=40)

    class Meta:
        app_label = "library"


with connection.schema_editor() as editor:
    editor.create_model(Upload)
Upload.objects.bulk_create(
    Upload(api_id=each.uuid, uploaded_at=each.uploaded_at, collection=each.collection) for each in DOCUMENTS
)
