"""Known configuration mistakes: what was written, the key in the error, and the essentials of its remedy.

The tests make each mistake. `python tests/config/mistakes.py docs/mistakes.md` makes them too, and writes the page.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine, text

from monitor.app import App, open_database
from monitor.config import load_config
from monitor.errors import ConfigError, MonitorError

GLOO = """
#top
[schedule]
#schedule
[[targets]]
name = "gloo-prod"
provider = "gloo"
publisher_id = "p1"
auth = { client_id = "id", client_secret = "s3cret" }
#target
[targets.sync_log]
url = "sqlite:///pipeline.db"
#sync_log
[targets.check]
#check
#end
"""
"""A valid file. A mistake replaces one of its comments or lines."""

GENERIC = """
[[targets]]
name = "docs"
provider = "generic"
base_url = "https://api.example"
auth = { api_key = "s3cret" }
statuses = { completed = ["done"] }
item = { path = "/documents/{item_id}" }
#target
"""
"""A valid file for the generic provider."""

OPENAI = """
[[targets]]
name = "store"
provider = "openai"
params = { vector_store_id = "vs_abc123" }
auth = { api_key = "s3cret" }
#target
[targets.sync_log]
url = "sqlite:///pipeline.db"
#sync_log
"""
"""A valid file for a provider that is built in by a description."""

BEDROCK = """
[[targets]]
name = "store"
provider = "bedrock"
base_url = "https://bedrock-agent.eu-central-1.amazonaws.com"
params = { knowledge_base_id = "ABCDEFGHIJ", data_source_id = "KLMNOPQRST" }
#target
"""
"""A valid file for an API whose requests are signed."""

AUTH = 'auth = { client_id = "id", client_secret = "s3cret" }'
URL = 'url = "sqlite:///pipeline.db"'
ITEM = 'item = { path = "/documents/{item_id}" }'
HOOK = '[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "https://hooks.example/x"\n'
MAIL = (
    '[[channels]]\nname = "mail"\ntype = "email"\nhost = "smtp.example.com"\nfrom = "monitor@example.com"\n'
    'to = ["oncall@example.com"]\n'
)
ALERTS = '[[channels]]\nname = "alerts"\ntype = "alertmanager"\nurl = "https://alertmanager:9093"\n'
PLAIN_ALERTS = ALERTS.replace("https:", "http:")
ONCALL = '[[channels]]\nname = "oncall"\n'
OUTAGE = '[[rules]]\ncause = "outage"\n'
SLO = '[[slos]]\nname = "in time"\nobjective = 0.95\nwithin = "15m"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A mistake, and what its error must say."""

    wrote: str | bytes
    key: str
    """The start of the error. `…/` is the folder of the file."""
    fix: str
    """The essentials of the remedy, as in the error."""
    shown: str = ""
    """What the page shows instead of `wrote`."""
    instead_of: str = ""
    """What `wrote` replaces in `file`; empty: `wrote` is the whole file."""
    file: str = GLOO
    name: str = "monitor.toml"
    """The file with the mistake."""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self):
        """A name for tests: the place and what was written there."""
        wrote = self.wrote if isinstance(self.wrote, str) else self.wrote.decode("latin-1")
        return f"{self.key} {wrote}"[:80]

    @property
    def content(self):
        """The file's content."""
        if not self.instead_of:
            return self.wrote if isinstance(self.wrote, bytes) else self.wrote.encode()
        assert self.file.count(self.instead_of) == 1
        return self.file.replace(self.instead_of, self.wrote).encode()


def _rows(instead_of, prefix, *rows, file=GLOO):
    """Mistakes at one place, each `(wrote, key, fix)` or `(wrote, key, fix, shown)`."""
    return [
        Mistake(wrote=wrote, key=prefix + key, fix=fix, shown="".join(shown), instead_of=instead_of, file=file)
        for wrote, key, fix, *shown in rows
    ]


FILES = [
    Mistake(wrote=b'environment = = "production"', key="…/monitor.toml", fix="fix the syntax"),
    Mistake(wrote=b"environment = production", key="…/monitor.toml", fix="fix the syntax (text needs quotes"),
    Mistake(wrote=b'environment = "production', key="…/monitor.toml", fix="fix the syntax"),
    Mistake(wrote=b'environment = "a"\nenvironment = "b"', key="…/monitor.toml", fix="fix the syntax"),
    Mistake(wrote=b'[targets]\nname = "gloo-prod"', key="targets", fix="write [[targets]]"),
    Mistake(wrote='environment = "Zürich"'.encode("latin-1"), key="…/monitor.toml", fix="save it as UTF-8"),
    Mistake(wrote=b'environment = "production"', key="targets", fix="describe what to watch", shown="no targets"),
    Mistake(wrote=b"GLOO_CLIENT_ID=id\n'GLOO_CLIENT_SECRET s3cret", key="…/.env", fix="write NAME=value", name=".env"),
    Mistake(wrote="NAME=Zürich".encode("latin-1"), key="…/.env", fix="save it as UTF-8", name=".env"),
]


def _variable(name, value, key, fix, **others):
    variables = {name: value, **others}
    wrote = "\n".join(f"{each}={value}" for each, value in variables.items())
    return Mistake(wrote=GLOO, shown=wrote, key=key, fix=fix, variables=variables)


def _gloo_variable(key, fix, **variables):
    """A mistake in the variables that describe a target without a file."""
    wrote = "\n".join(f"{name}={value}" for name, value in variables.items())
    return Mistake(wrote="", shown=wrote, key=key, fix=fix, variables=variables, name="")


VARIABLES = [
    _gloo_variable("targets", "no monitor.toml is in this folder: go to the folder that has it"),
    _gloo_variable("GLOO_CLIENT_SECRET", "give it, or client_secret_file", GLOO_CLIENT_ID="id", GLOO_PUBLISHER_ID="p1"),
    _gloo_variable("GLOO_CLIENT_ID with GLOO_CLIENT_SECRET, or GLOO_API_KEY", "give client_id", GLOO_PUBLISHER_ID="p1"),
    _gloo_variable("GLOO_PUBLISHER_ID", "give the id of the publisher", GLOO_API_KEY="k3y"),
    _gloo_variable("GLOO_API_KEY", "give it a value", GLOO_PUBLISHER_ID="p1", GLOO_API_KEY=""),
    _gloo_variable(
        "MONITOR_SYNC_LOG_URL",
        "no other database is supported",
        GLOO_PUBLISHER_ID="p1",
        GLOO_API_KEY="k3y",
        MONITOR_SYNC_LOG_URL="mysql:///pipeline",
    ),
    _gloo_variable(
        "MONITOR_SYNC_LOG_URL",
        "give the connection URL",
        GLOO_PUBLISHER_ID="p1",
        GLOO_API_KEY="k3y",
        MONITOR_SYNC_LOG_TABLE="uploads",
    ),
    _variable("MONITOR_DATABASE", "", "MONITOR_DATABASE", "give it a value"),
    _variable("monitor_environment", " ", "monitor_environment", "printable text"),
    _variable("MONITOR_DATABASE_FILE", "/no/such", "MONITOR_DATABASE_FILE", "fix the path"),
    _variable("MONITOR_SCHEDULE__EVERY", "9d", "MONITOR_SCHEDULE__EVERY", "between 1s and 7d"),
    _variable("MONITOR_SCHEDULE", '{"every": "9d"}', "schedule.every in MONITOR_SCHEDULE", "between 1s and 7d"),
    _variable(
        "MONITOR_CHANNELS",
        '[{"name": "a", "type": "log", "x": 1}]',
        "channels.a.x in MONITOR_CHANNELS",
        "name, type, include_api_message",
    ),
    _variable("MONITOR_TARGETS", "[{s3cret", "MONITOR_TARGETS", "JSON, such as"),
    _variable("MONITOR_TARGETS", "3", "MONITOR_TARGETS", "a list"),
]

# fmt: off
LINES = {
    "Keys": [
        *_rows("#top", "",
            ('databse = "x"', "databse", 'did you mean "database"?'),
            ('group_wait = "1h"', "group_wait", "between 0s and 10m"),
        ),
        *_rows("#schedule", "schedule.",
            ("weekly = 1", "weekly", "cron, every, timezone, jitter"),
            ('"ev\\u001bry" = 1', "ev?ry", 'did you mean "every"?'),
        ),
        *_rows("#check", "targets.gloo-prod.check.", ('deadlin = "3m"', "deadlin", 'did you mean "deadline"?')),
        *_rows(AUTH, "targets.gloo-prod.auth.",
            ('auth = { client_id = "id", client_secret = "s3cret", client_scret_file = "x" }',
             "client_scret_file", 'did you mean "client_secret_file"?'),
        ),
    ],
    "Values": [
        *_rows("#top", "",
            ("environment = 5", "environment", "text in quotes"),
            ('environment = " "', "environment", "printable text, and not blank"),
            (f'environment = "{"x" * 201}"', "environment", "at most 200 characters long"),
        ),
        *_rows("#check", "targets.gloo-prod.check.",
            ('max_attempts = "many"', "max_attempts", "a whole number"),
            ("max_attempts = 1.5", "max_attempts", "a whole number"),
            ("concurrency = 0", "concurrency", "1 or more"),
            ("concurrency = 1025", "concurrency", "1024 or less"),
            ("rate = 50", "rate", 'a rate above zero, such as "50/s", "100/m"'),
            ('rate = "50/min"', "rate", 'a rate above zero, such as "50/s", "100/m"'),
            ('rate = "0/s"', "rate", 'a rate above zero, such as "50/s", "100/m"'),
            ("rate_share = 50", "rate_share", "above 0 and at most 1, such as 0.5"),
            ("rate_share = 0.0", "rate_share", "above 0 and at most 1, such as 0.5"),
            ('rate_share = "half"', "rate_share", "a number"),
            ('strategy = "item"', "strategy", 'did you mean "items"?'),
            ('http = "curl"', "http", '"fast" or "httpx"'),
        ),
        *_rows("#target", "targets.gloo-prod.",
            ('allow_http = "maybe"', "allow_http", "true or false"),
            ("allow_http = []", "allow_http", "true or false"),
            ('statuses = "x"', "statuses", "a table"),
        ),
        *_rows("[schedule]\n#schedule", "", ('schedule = "5m"', "schedule", "a table")),
        *_rows("#end", "",
            ('[[channels]]\nname = "log"\ntype = "log"\n[[routes]]\nchannels = "log"', "routes[0].channels", "a list"),
        ),
    ],
    "Durations and schedules": [
        *_rows("#check", "targets.gloo-prod.check.",
            ('deadline = "4 minutes"', "deadline", 'a duration such as "30s", "5m" or "1h30m"'),
            ("deadline = 240", "deadline", 'a duration such as "30s", "5m" or "1h30m"'),
            ('stuck_after = "31d"', "stuck_after", "between 1s and 30d"),
            ('slow_after = "0s"', "slow_after", "between 1s and 30d"),
        ),
        *_rows("#schedule", "schedule.",
            ('every = "0s"', "every", "between 1s and 7d"),
            ('every = "5m"\ncron = "*/5 * * * *"', "every", "keep one of them"),
            ('every = "1m"\njitter = "1m"', "jitter", "shorter than the time between two runs, 1m"),
            ('cron = "0,10 * * * *"\njitter = "15m"', "jitter", "shorter than the time between two runs, 10m"),
            ('cron = "0 0 * * 1"\njitter = "2d"', "jitter", "between 0s and 1d"),
            ('cron = "*/5 * * *"', "cron", "a cron expression with five fields that"),
            ('cron = "*/5 * * * MOO"', "cron", "a cron expression with five fields that"),
            ('cron = "0 0 30 2 *"', "cron", "a cron expression with five fields that"),
            ('timezone = "Europe/Pariss"', "timezone", "the name of a time zone, such as"),
            ('timezone = "America"', "timezone", "the name of a time zone, such as"),
        ),
        *_rows("#top", "retention.",
            ('[retention]\nsnapshots = "30d"', "snapshots", "between 31d and 36500d"),
            ('[retention]\nitem_events = "12h"', "item_events", "between 1d and 36500d"),
            ("[retention]\nitem_events = 90", "item_events", 'a duration such as "30s", "5m" or "1h30m"'),
            ('[retention]\nincidents = "90d"', "incidents", "snapshots, item_events, notifications"),
        ),
        *_rows("#target", "targets.gloo-prod.", ('schedule = { jitter = "10s" }', "schedule", "set every or cron")),
        *_rows("#sync_log", "targets.gloo-prod.sync_log.",
            ('timezone = "../../etc/passwd"', "timezone", "the name of a time zone, such as"),
            ('timezone = "server"', "timezone", "name the zone that the pipeline writes"),
            ('time_format = "%H:%M"', "time_format", "a pattern of strptime with year, month and day"),
            ('time_format = "seconds"', "time_format", 'must be "auto", "s", "ms", "us", "ns", "julian"'),
        ),
    ],
    "The page and the health endpoints": [
        *_rows("#top", "web.",
            ('[web]\nlisten = ":8990"', "listen", 'a host and a port, such as "127.0.0.1:8990"'),
            ('[web]\nlisten = "127.0.0.1"', "listen", 'a host and a port, such as "127.0.0.1:8990"'),
            ('[web]\nlisten = "127.0.0.1:65536"', "listen", 'a host and a port, such as "127.0.0.1:8990"'),
            ('[web]\nlisten = "::1:8990"', "listen", 'a host and a port, such as "127.0.0.1:8990"'),
            ('[web]\nlisten = "http://127.0.0.1:8990"', "listen", 'a host and a port, such as "127.0.0.1:8990"'),
            ("[web]\nlisten = 8990", "listen", "text in quotes"),
            ("[web]\nlisten = false", "listen", "text in quotes"),
            ("[web]\nport = 8990", "port", "listen"),
            ('[web]\npublic_url = "monitor.example.com"', "public_url", 'a URL such as "https://monitor.example.com"'),
            ('[web]\npublic_url = "http://monitor.example.com"', "public_url", "must use https"),
            ('[web]\npublic_url = "https://monitor.example.com/page"', "public_url", "must end with the host or port"),
            ('[web]\npublic_url = "https://monitor|<here>.example"', "public_url", "a host name of ASCII letters"),
            ('[web]\npublic_url = "https://monitor.example.com/?a=b"', "public_url", "only scheme, host and port"),
            ('[web]\ntoken = "short"', "token", "at least 16 letters, digits and signs of ASCII"),
            ('[web]\ntoken = "a token with blanks in it"', "token", "at least 16 letters, digits and signs of ASCII"),
            ('[web]\nactions = "perhaps"', "actions", "true or false"),
        ),
    ],
    "Workers": [
        *_rows("#end", "fleet.",
            ("[fleet]\nworkers = true", "workers", 'set database = "postgresql://…", or remove it'),
            ('[fleet]\nworkers = "two"', "workers", "true or false"),
            ("[fleet]\nshare = 10", "share", "100 or more"),
            ('[fleet]\nqueue = "my queue"', "queue", "1 to 40 letters, digits, dots, underscores and hyphens"),
            ('[fleet]\nstalled_after = "1s"', "stalled_after", "between 5s and 10m"),
            ("[fleet]\nshare_concurrency = 0", "share_concurrency", "1 or more"),
            ('[fleet]\nlisten_url = "sqlite:///monitor.db"', "listen_url", "start with postgresql://"),
            ('[fleet]\nlisten_url = "postgresql://me:s3cret@db"', "listen_url", "end it with /name"),
        ),
        *_rows("#end", "daemon.", ("[daemon]\nparallel_runs = 0", "parallel_runs", "1 or more")),
    ],
    "The scheduled report": [
        *_rows("#end", "report.",
            ('[report]\nchannels = ["log"]', "every", "say when the report is sent"),
            ('[report]\nevery = "1w"', "channels", "name the channels that get it"),
            ('[report]\nevery = "1w"\nchannels = ["oncall"]', "channels[0]", "which is not a channel"),
            ('[report]\nevery = "1w"\ncron = "0 8 * * 1"\nchannels = ["log"]', "every", "keep one of them"),
            ('[report]\nevery = "5m"\nchannels = ["log"]', "every", "between 1h and 35d"),
            ('[report]\nweekly = true\nevery = "1w"\nchannels = ["log"]', "weekly", "not a known key"),
        ),
    ],
    "Targets": [
        *_rows('name = "gloo-prod"', "",
            ("", "targets[0].name", "give the target a name, such as gloo-prod"),
            ('name = "gloo prod"', "targets[0].name", "1 to 100 letters, digits, dots, underscores"),
        ),
        *_rows("#end", "",
            ('[[targets]]\nname = "gloo-prod"\nprovider = "gloo"\npublisher_id = "p2"\nauth = { api_key = "s3cret" }',
             "targets[1].name", "give each a unique name"),
        ),
        *_rows('provider = "gloo"', "targets.gloo-prod.",
            ("", "provider", 'say which API it is: "gloo", or "generic"'),
            ('provider = "gloop"', "provider", 'did you mean "gloo"?'),
            ('provider = "weaviate"', "provider", '"generic" is for any API'),
        ),
        *_rows('publisher_id = "p1"', "targets.gloo-prod.",
            ("", "publisher_id", "give the id of the publisher that owns the"),
        ),
        *_rows("#target", "targets.gloo-prod.",
            ('base_url = "http://gateway.example"',
             "base_url", "use https; plain http is only allowed to this machine"),
            ('base_url = "platform.ai.gloo.com"', "base_url", 'a URL such as "https://platform.ai.gloo.com"'),
            ('base_url = "https://me:s3cret@host"', "base_url", "put credentials under auth"),
            ('statuses = { done = ["OK"] }', "statuses.done", "pending, completed, failed, not_found"),
            ('statuses = { pending = [["x"]] }', "statuses.pending[0]", "text in quotes"),
            ('statuses = { pending = [""] }', "statuses.pending[0]", 'a status that is null is called "null"'),
            ('statuses = { pending = ["DONE"], completed = ["done"] }', "statuses", "keep it in one list"),
            ('headers = { X-Version = "2", x-version = "3" }', "headers", "header names ignore case, so keep one"),
            ('item = { path = "/engine/v2/items" }', "item.path", "contain {item_id} once, as in"),
            ('options = { region = "eu" }', "options", "remove it"),
        ),
    ],
    "Credentials": [
        *_rows(AUTH, "targets.gloo-prod.",
            ("", "auth", "give the credentials, as in auth = {"),
            ("auth = {}", "auth", "give client_id and client_secret (or"),
            ('auth = { user = "me" }', "auth.password", "give it, or password_file with the path"),
            ('auth = { password = "s3cret" }', "auth.user", "give the user that the password belongs to"),
            ('auth = { user = "me:too", password = "s3cret" }', "auth.user", "use another user"),
            ('auth = { user = "me", password = "s3cret", api_key = "s3cret" }', "auth", "keep one of them"),
            ('auth = { user = "me", password = "s3cret", scheme = "Basic" }', "auth.scheme", "remove it"),
            ('auth = { client_id = "id", client_secret = "s3cret", api_key = "s3cret" }', "auth", "keep one of them"),
            ('auth = "s3cret"', "auth", 'a table, such as { client_id = "…",'),
            ('auth = { client_id = "id" }', "auth.client_secret", "give it, or client_secret_file with the path"),
            ('auth = { client_secret = "s3cret" }', "auth.client_id", "give the id that belongs to the client secret"),
            ('auth = { api_key = "" }', "auth.api_key", "give it a value"),
            ('auth = { api_key = "s3cret\\n" }', "auth.api_key", "remove them"),
            ('auth = { api_key = "s3crét" }', "auth.api_key", "check that it was copied correctly"),
            ('auth = { api_key = "s3cret", api_key_file = "key" }', "auth.api_key_file", "keep one of them"),
            ('auth = { api_key_file = "key" }', "auth.api_key_file", "fix the path or its permissions"),
            ('auth = { api_key_file = "empty" }', "auth.api_key_file", "give it a value"),
            ('auth = { api_key = "s3cret", header = "Host" }', "auth.header", 'such as "X-API-Key"'),
            ('auth = { api_key = "s3cret", scheme = "my key" }',
             "auth.scheme", 'one word such as "Bearer", or "" for the'),
            ('auth = { client_id = "id", client_secret = "s3cret", token_path = "https://login.example/token" }',
             "auth.token_path", "escape them as %20 and %23"),
            ('auth = { access_key_id = "AKIA1", secret_access_key = "s3cret" }',
             "auth.service", "name the service that signatures are for"),
        ),
        *_rows("#target", "targets.store.",
            ('auth = { access_key_id = "AKIA1" }', "auth.secret_access_key", "give both, or neither"),
            ('auth = { secret_access_key = "s3cret" }', "auth.secret_access_key", "give both, or neither"),
            ('auth = { session_token = "s3cret" }', "auth.session_token", "give access_key_id and secret_access_key"),
            ('auth = { access_key_id = "AKIA1", secret_access_key = "s3cret", profile = "p" }',
             "auth.profile", "keep one of them"),
            ('auth = { access_key_id = "AK IA", secret_access_key = "s3cret" }',
             "auth.access_key_id", "letters and digits, such as"),
            ('auth = { region = "Frankfurt" }', "auth.region", "lower-case letters, digits and hyphens"),
        file=BEDROCK),
    ],
    "Certificates and proxies": [
        *_rows("#target", "targets.gloo-prod.",
            ('tls = { ca_file = "corp.pem" }', "tls.ca_file", "fix the path or its permissions"),
            ('tls = { ca_file = "." }', "tls.ca_file", "give the path of a file"),
            ('tls = { ca_file = "empty" }', "tls.ca_file", "give a PEM file"),
            ('tls = { key_file = "empty" }', "tls.key_file", "give the certificate that the key belongs to"),
            ('tls = { ca = "s3cret" }', "tls.ca", "ca_file, cert_file, key_file"),
            ('tls = "corp.pem"', "tls", "a table"),
            ('proxy = "user:s3cret@proxy:3128"', "proxy", "a URL with http://, https:// or socks5h://"),
            ('proxy = "ftp://user:s3cret@proxy:3128"', "proxy", "a URL with http://, https:// or socks5h://"),
            ('proxy = "http://user:s3cret@:3128"', "proxy", "a URL with http://, https:// or socks5h://"),
            ('proxy = "http://user@proxy/s3cret"', "proxy", "escape @ as %40"),
            ("proxy = true", "proxy", "text in quotes"),
            ('proxy = "http://proxy:3128"\nproxy_file = "proxy"', "proxy_file", "keep one of them"),
            ('heartbeat = "s3cret"', "heartbeat", "a URL such as"),
            ('heartbeat = "http://hc.example/s3cret"',
             "heartbeat", "use https; plain http is only allowed to this machine"),
            ('heartbeat = "https://hc.example/s3cret#nightly"', "heartbeat", "remove it"),
            ('heartbeat = "https://hc.example/s3cret"\nheartbeat_file = "heartbeat"',
             "heartbeat_file", "keep one of them"),
            ('proxy_file = "proxy"', "proxy_file", "fix the path or its permissions"),
        ),
    ],
    "Other APIs: the generic provider": [
        *_rows(ITEM, "targets.docs.",
            ("", "item", "say how to request one item, in"),
            ('item = { status = "state" }', "item.path", "give the path of one item, such as"),
            ('item = { path = "/documents" }', "item.path", "contain {item_id} once, as in"),
            ('item = { path = "https://other.example/{item_id}" }', "item.path", "escape them as %20 and %23"),
            ('item = { path = "/documents/{item_id}/{item_id}" }', "item.path", "contain {item_id} once, as in"),
            ('item = { path = "/documents/{item-id}" }', "item.path", "use {item_id}, or the name of one of"),
            ('item = { path = "/documents/{item_id" }', "item.path", "write a placeholder as {name}"),
            ('item = { path = "/{tenant}/{item_id}" }', "item.path", "give params.tenant"),
            ('item = { path = "/{publisher_id}/{item_id}" }', "item.path", "give publisher_id"),
            ('item = { path = "/documents/{item_id}", id_pattern = "doc_[0-9" }',
             "item.id_pattern", "a valid regular expression"),
            ('item = { path = "/documents/{item_id}", id_pattern = "(?!tmp)doc_.*" }',
             "item.id_pattern", "without look-around and back-references"),
            ('item = { path = "/documents/{item_id}", status = "{item_id}" }',
             "item.status", "set keyed = true"),
            ('item = { path = "/documents/{item_id}", status = "documents.*.parts.*.status" }',
             "item.status", "name the elements of one array"),
            ('item = { path = "/documents/{item_id}", id = "documents.*.id" }',
             "item.id", "may stand only in status, reason, message"),
            ('item = { path = "/documents/{item_id}", body = { id = "{item_id}" } }', "item.body", "a GET has no body"),
            ('item = { method = "POST", path = "/ask", body = { at = 2026-01-01 } }',
             "item.body", "write dates and times as text in quotes"),
            ('item = { method = "POST", path = "/ask", body = { limit = nan } }', "item.body", "JSON has no nan"),
            ('item = { path = "/documents/{item_id}", status = "$.status" }', "item.status", 'no "$.", no brackets'),
            ('item = { path = "/documents/{item_id}", not_found = { values = { code = [""] } } }',
             "item.not_found.values.code[0]", "must be a number, true, false, or printable text"),
            ('item = { path = "/documents/{item_id}", batch = 10, id = "id" }', "item.batch", "add it"),
            ('item = { path = "/documents?ids={item_ids}", batch = 10 }',
             "item.id", "say where each answer of a batch"),
            ('item = { path = "/documents/{item_id}", not_found = { statuses = [401] } }',
             "item.not_found.statuses[0]", "use [[targets.errors]]"),
            ('item = { path = "/documents/{item_id}", result = { when = ["done"], path = "/results" } }',
             "item.result.path", "contain {item_id} once, as in"),
        file=GENERIC),
        *_rows(ITEM, "targets.docs.",
            ('list = { path = "/documents" }\ncheck = { strategy = "items" }',
             "check.strategy", 'add it, or use "list"'),
        file=GENERIC),
        *_rows('base_url = "https://api.example"', "targets.docs.",
            ("", "base_url", "give the URL that all paths of the API start"),
        file=GENERIC),
        *_rows('statuses = { completed = ["done"] }', "targets.docs.",
            ("", "statuses.completed", "say which statuses mean completed, as in"),
            ('statuses = { failed = ["broken"] }', "statuses.completed", "say which statuses mean completed, as in"),
        file=GENERIC),
        *_rows("#target", "targets.docs.",
            ('list = { path = "/documents/{item_id}" }', "list.path", "a list is not about one item: remove it"),
            ('list = { path = "/documents", items = "data..rows" }',
             "list.items", 'names joined by dots, such as "status" or'),
            ('list = { path = "/documents", page = { by = "pages" } }',
             "list.page.by", '"none", "link", "cursor", "offset" or'),
            ('list = { path = "/documents", page = { by = "number", next = "cursor" } }',
             "list.page.next", "remove it"),
            ('list = { path = "/documents", page = { by = "number", parameter = "a&b" } }',
             "list.page.parameter", "the name of a query parameter, such as"),
            ('list = { path = "/documents", page = { by = "number", in = "header" } }',
             "list.page.in", '"query" or "body"'),
            ('list = { path = "/documents", id = "{id}" }', "list.id", "set keyed = true"),
            ('check = { strategy = "list" }', "check.strategy", 'add it, or use "items"'),
            ('params = { tenant = "t" }', "params.tenant", "remove it"),
            ('params = { "a b" = "t" }', "params.a b", "letters, digits and underscores"),
            ('errors = [{ cause = "unauthorised", statuses = [400] }]',
             "errors[0].cause", 'did you mean "unauthorized"?'),
            ('errors = [{ cause = "unauthorized" }]', "errors[0].values", "say where in the body the values are"),
            ('errors = [{ cause = "unauthorized", path = "code" }]',
             "errors[0].values", "say which values at path mean"),
            ('errors = [{ cause = "unauthorized", path = "code", values = [2026-01-01] }]',
             "errors[0].values[0]", "must be a number, true, false, or printable text"),
            ('headers = { Authorization = "Bearer s3cret" }', "headers", "remove it (put credentials under auth)"),
            ('headers = { "X Version" = "2" }', "headers", "use letters, digits and hyphens"),
            ('headers = { X-Version = "2\\n" }', "headers", "use 1 to 1000 plain ASCII characters"),
            ('headers = { X-Version = "2", x-version = "3" }', "headers", "header names ignore case, so keep one"),
            ('headers = { X-Tenant = "a" }\nsecret_headers = { x-tenant = "s3cret" }',
             "secret_headers", "keep one of them"),
            ('secret_headers = { Authorization = "s3cret" }', "secret_headers", "put credentials under auth"),
            ('secret_headers = { "X Key" = "s3cret" }', "secret_headers", "use letters, digits and hyphens"),
            ('secret_headers = { X-Key = "s3cret\\n" }', "secret_headers.X-Key", "remove them"),
            ('secret_headers = { X-Key_file = "key" }', "secret_headers.X-Key_file", "fix the path or its permissions"),
            ('secret_headers = { X-Key = "s3cret", X-Key_file = "key" }',
             "secret_headers.X-Key_file", "keep one of them"),
            ('options = { region = "eu" }', "options", "remove it"),
        file=GENERIC),
        *_rows('auth = { api_key = "s3cret" }', "targets.docs.",
            (AUTH, "auth.token_path", "give the path of the token endpoint, such as"),
            ('auth = { api_key = "s3cret", header = "X-Key" }\nsecret_headers = { X-Key = "s3cret" }',
             "secret_headers", "keep one of them"),
        file=GENERIC),
    ],
    "Other APIs: those that are built in": [
        *_rows('params = { vector_store_id = "vs_abc123" }', "targets.store.",
            ("", "params.vector_store_id", "give the store whose files are watched, such as"),
            ('params = { vector_store_id = "vs_abc123", vector_store = "x" }',
             "params.vector_store", 'did you mean "vector_store_id"?'),
        file=OPENAI),
        *_rows('auth = { api_key = "s3cret" }', "targets.store.",
            ("", "auth", "give the key, as in auth = {"),
        file=OPENAI),
        *_rows("#target", "targets.store.",
            ('item = { path = "/files/file_id" }', "item.path", "contain {item_id} once, as in"),
            ("statuses = { completed = [] }", "statuses.completed", "say which statuses mean completed, as in"),
        file=OPENAI),
        *_rows("#sync_log", "targets.store.",
            ('param_columns = { vector_store_id = "store" }',
             "sync_log.param_columns.vector_store_id", "keep one of them"),
        file=OPENAI),
    ],
    "Canaries": [
        *_rows("#end", "targets.gloo-prod.",
            ('[targets.canary]\nevery = "10s"', "canary.every", "between 1m and 7d"),
            ('[targets.canary]\nslow_after = "1h"\ntimeout = "30m"', "canary.timeout", "longer than slow_after, 1h"),
            ('[targets.canary]\nretrieve = "x"', "canary.retrieve", "known here: every, slow_after, timeout, params"),
        ),
        *_rows("#target", "targets.docs.",
            ('[[targets.upload]]\nfile = "file"', "upload[0].path", "give the path of the request, such as"),
            ('[[targets.upload]]\npath = "/{store}/documents"\nfile = "file"', "upload[0].path", "give params.store"),
            ('[[targets.delete]]\npath = "documents/{item_id}"', "delete[0].path", 'begin with one "/"'),
        file=GENERIC),
        *_rows("#target", "targets.store.",
            ('[[targets.retrieve]]\npath = "/search"\nsnippets = "data[*].text"', "retrieve[0].snippets",
             "names and positions joined by dots"),
            ('canary = { params = { item_id = "x" } }', "canary.params.item_id", "the name of a placeholder"),
            ('canary = { params = { store = "x" } }', "canary.params.store", "is in no path and no body"),
        file=OPENAI),
    ],
    "Databases and sync logs": [
        *_rows(URL, "targets.gloo-prod.sync_log.",
            ("", "url", "give the connection URL of the database that"),
            ('url = "postgresql://me:s3cret/x@db/x"', "url", "write @ as %40"),
            ('url = "postgresql://me:s3cret@x@db/x"', "url", "write @ as %40"),
            ('url = "postgresql://me:s3cret@db/x?schema=public"', "url", "remove it; name a table outside"),
            ('url = "postgresql://me:s3cret@db/x?pgbouncer=true"', "url", "remove it, since the monitor works"),
            ('url = "postgresql://me:s3cret@db/x?sslmode=no-verify"', "url", "use disable, allow, prefer, require"),
        ),
        *_rows("#sync_log", "targets.gloo-prod.sync_log.",
            ("where = \"status = 'done'\"", "where", "must be a table of columns and values"),
            ("where = { status = [] }", "where", 'give the column "status" a text, a number, true or false'),
            ("where = { uploaded_at = 2026-11-30 }", "where", 'give the column "uploaded_at" a text, a number'),
            ('id_path = "item_id"', "id_path", '"$" with members and positions, such as "$.item_id"'),
            ('id_path = "$.ids[*]"', "id_path", '"$" with members and positions, such as "$.item_id"'),
            ('id_format = "hex"', "id_format", 'must be "auto", "as_is" or "uuid"'),
            ('preset = "djanga"', "preset", 'did you mean "django"? Known are airbyte, airflow,'),
            ('preset = "mysql"', "preset", "known are airbyte, airflow,"),
            ('duplicates = "latest"', "duplicates", 'must be "first" or "earliest"'),
        ),
        *_rows("#top", "",
            ('database = "mysql://me:s3cret@db/x"', "database", "start with sqlite:/// or postgresql://"),
            ('database = "sqlite:///:memory:"', "database", 'name a file, as in "sqlite:///monitor.db"'),
        ),
    ],
    "Rules": [
        *_rows("#end", "",
            ('[[rules]]\ncause = "unauthorised"', "rules[0].cause", 'did you mean "unauthorized"?'),
            ('[[rules]]\ncause = "zzz"', "rules[0].cause", '"spending_limit", "unauthorized",'),
            ("[[rules]]\ncause = 5", "rules[0].cause", '"spending_limit", "unauthorized",'),
            (OUTAGE + 'team = "pipelin"', "rules[0].team", 'did you mean "pipeline"?'),
            (OUTAGE + "runs = 3\nof = 2", "rules[0].of", "raise of, or lower runs"),
            ("[[rules]]\nruns = 3", "rules[0].cause", "say which cause the rule is for"),
            (OUTAGE + 'by = "group"', "rules[0].by", "only items have groups (items_failed,"),
            ('[[rules]]\ncause = "items_failed"\nby = "grp"', "rules[0].by", 'did you mean "group"?'),
            (OUTAGE + "of = 1", "rules[0].of", "raise of, or lower runs"),
            (OUTAGE + 'runs = 4\n[[rules]]\ncause = "outage"\ntarget = "gloo-*"\nof = 3',
             "rules[1].of", "raise of, or lower runs"),
            ('[[rules]]\ncause = "slo_burn"\nruns = 2', "rules[0].runs", "resolves by burn rate: remove it"),
            ('[[rules]]\ncause = "slo_burn"\nfor = "10m"', "rules[0].for", "resolves by burn rate: remove it"),
            (OUTAGE + 'span = "2h"', "rules[0].span", "is now called for: rename it"),
            (OUTAGE + 'remind_every = "2h"', "rules[0].remind_every", "is now called repeat_interval: rename it"),
            ('[[rules]]\ncause = "coverage"', "rules[0].cause", "is now called too_many_unknown: rename it"),
            (OUTAGE + 'for = "2h"', "rules[0].for", "shorten for, or lengthen window"),
            (OUTAGE + 'window = "1m"', "rules[0].window", "lengthen window, or shorten for"),
        ),
    ],
    "Service level objectives": [
        *_rows("#end", "",
            (SLO + SLO, "slos[1].name", "give each a unique name", "two objectives with one name"),
            ('[[slos]]\nobjective = 0.95\nwithin = "15m"', "slos[0].name", "say what is promised, such as"),
            ('[[slos]]\nname = "in time"\nwithin = "15m"', "slos[0].objective", "give the share of uploads"),
            ('[[slos]]\nname = "in time"\nobjective = 0.95', "slos[0].within", 'give a time, such as "15m"'),
            (SLO.replace("0.95", "95"), "slos[0].objective", "write 95% as 0.95", "`objective = 95`"),
            (SLO.replace("0.95", "1.0"), "slos[0].objective", "with 1 a single late upload", "`objective = 1.0`"),
            (SLO.replace("0.95", "0"), "slos[0].objective", "above 0 and below 1", "`objective = 0`"),
            (SLO.replace("0.95", '"95%"'), "slos[0].objective", "must be a number", '`objective = "95%"`'),
            (SLO.replace("15m", "45d"), "slos[0].within", "between 1s and 30d", '`within = "45d"`'),
            (SLO + 'window = "1d"', "slos[0].window", "between 3d and 92d", '`window = "1d"`'),
            (SLO.replace("15m", "4d") + 'window = "3d"', "slos[0].window", "must be longer than within, 4d",
             '`within = "4d"` and `window = "3d"`'),
            (SLO + 'targets = "gloo-*"', "slos[0].targets", 'did you mean "target"?', '`targets = "gloo-*"`'),
        ),
        *_rows("#schedule", "",
            ('every = "1h"\n' + SLO, "slos[0].within", "raise it, or run more often",
             '`every = "1h"` with `within = "15m"`'),
            ('cron = "0 * * * *"\n' + SLO, "slos[0].within", "raise it, or run more often",
             '`cron = "0 * * * *"` with `within = "15m"`'),
        ),
    ],
    "Channels and routes": [
        *_rows("#end", "",
            (HOOK + HOOK, "channels[1].name", "give each a unique name", "two channels with one name"),
            (ONCALL + 'type = "teams"', "channels.oncall.type", '"log", "webhook", "slack", "email",'),
            (ONCALL + 'type = "slak"\nurl = "https://hooks.example/x"',
             "channels.oncall.type", 'did you mean "slack"?'),
            (ONCALL + 'url = "https://hooks.example/x"',
             "channels.oncall.type", 'say which type it is: "log", "webhook",'),
            ('[[channels]]\nname = "hook"\ntype = "webhook"',
             "channels.hook.url", "give the webhook's url, or url_file with the"),
            (ONCALL + 'type = "slack"', "channels.oncall.url", "give the url of Slack's incoming webhook, or"),
            ('[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "s3cret"',
             "channels.hook.url", "a URL that starts with https:// or http://"),
            ('[[channels]]\nname = "hook"\ntype = "log"\nurl = "https://hooks.example/s3cret"',
             "channels.hook.url", "remove it"),
            ('[[channels]]\nname = "hook"\ntype = "log"\ninclude_api_message = true',
             "channels.hook.include_api_message", "remove it"),
            (ONCALL + 'type = "slack"\nurl = "https://hooks.example/x"\nhost = "mail"',
             "channels.oncall.host", "remove it"),
            (HOOK + 'secrets = "s3cret"', "channels.hook.secrets", 'did you mean "secret"?'),
            (HOOK + 'secret = "s3cret"', "channels.hook.secret", "run echo whsec_$(openssl rand -base64 32)"),
            (MAIL.replace('host = "smtp.example.com"\n', ""),
             "channels.mail.host", "give the mail server's name", "no host"),
            (MAIL.replace("smtp.example.com", "smtp.example.com:25"),
             "channels.mail.host", "set port separately", "`host` with a port"),
            (MAIL.replace('["oncall@example.com"]', "[]"),
             "channels.mail.to", "give at least one recipient", "`to = []`"),
            (MAIL.replace('from = "monitor@example.com"\n', ""),
             "channels.mail.from", "give the sender's address", "no from"),
            (MAIL.replace("oncall@example.com", "oncall"),
             "channels.mail.to[0]", "only a mail address", '`to = ["oncall"]`'),
            (MAIL.replace("monitor@example.com", "Monitor <monitor"),
             "channels.mail.from", "a mail address, with or without a name", '`from = "Monitor <monitor"`'),
            (MAIL.replace("monitor@example.com", "Monitor, Ingestion <monitor@example.com>"),
             "channels.mail.from", "quote a name with special characters", "a comma in the name, without quotes"),
            (MAIL + 'ehlo_name = "monitor.example.com:25"', "channels.mail.ehlo_name", "only a host name or address"),
            (MAIL + 'security = "none"', "channels.mail.security", '"none" is only allowed to this machine, or'),
            (MAIL + 'user = "monitor"', "channels.mail.password", "give the user's password, or password_file"),
            (MAIL + 'password = "s3cret"', "channels.mail.password", "give the user that the password belongs to"),
            (MAIL + 'user = "monitor"\npassword = "s3cret-ü"', "channels.mail.password", "ASCII"),
            ('[[channels]]\nname = "pager"\ntype = "pagerduty"',
             "channels.pager.routing_key", "give the integration's key, or"),
            ('[[channels]]\nname = "pager"\ntype = "pagerduty"\nrouting_key = "u+s3cret"',
             "channels.pager.routing_key", "32 letters and digits"),
            ('[[channels]]\nname = "pager"\ntype = "pagerduty"\nrouting_key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"\nurl = "http://p.example"',
             "channels.pager.url", "use https"),
            ('[[channels]]\nname = "alerts"\ntype = "alertmanager"',
             "channels.alerts.url", "give Alertmanager's address, such as"),
            ('[[channels]]\nname = "alerts"\ntype = "alertmanager"\nurl = "http://me:s3cret@alertmanager:9093"\n',
             "channels.alerts.url", "give user and password, or a token"),
            (ALERTS + 'user = "me"\npassword = "s3cret"\ntoken = "s3cret"',
             "channels.alerts.token", "keep one of them"),
            (PLAIN_ALERTS + 'user = "me"\npassword = "s3cret"', "channels.alerts.password", "use https in url"),
            (PLAIN_ALERTS + 'token = "s3cret"', "channels.alerts.token", "would be sent in the clear"),
            ('[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "http://hooks.example/s3cret"',
             "channels.hook.url", "use https; plain http is only allowed to this machine"),
            ('[[channels]]\nname = "oncall"\ntype = "slack"\nurl = "http://hooks.example/s3cret"',
             "channels.oncall.url", "use https; plain http is only allowed to this machine"),
            ('[[channels]]\nname = "phone"\ntype = "apprise"\nurl = "gotify://push.example/s3cret"',
             "channels.phone.url", 'use https, as in "gotifys://"'),
            ('[[channels]]\nname = "phone"\ntype = "apprise"',
             "channels.phone.url", "give Apprise's URL of the service, or"),
            ('[[channels]]\nname = "phone"\ntype = "apprise"\nurl = "s3cret"',
             "channels.phone.url", 'an Apprise URL, such as "ntfy://topic" or'),
            (HOOK + '[[routes]]\nchannels = ["hok"]', "routes[0].channels[0]", 'did you mean "hook"?'),
            (f'[[routes]]\nchannels = ["{"x" * 70}"]', "routes[0].channels[0]", "define it under [[channels]]"),
            ("[[routes]]\nchannels = []", "routes[0].channels", "name at least one channel"),
            (HOOK + '[[routes]]\nmatch = { teem = "ops" }\nchannels = ["hook"]',
             "routes[0].match.teem", 'did you mean "team"?'),
            (HOOK + '[[routes]]\nmatch = { team = [] }\nchannels = ["hook"]',
             "routes[0].match.team", "give it at least one value"),
            (HOOK + '[[routes]]\nmatch = { team = "credential" }\nchannels = ["hook"]',
             "routes[0].match.team", 'did you mean "credentials"?'),
            (HOOK + '[[routes]]\nmatch = { cause = "coverage" }\nchannels = ["hook"]',
             "routes[0].match.cause", "is now called too_many_unknown: rename it"),
            (HOOK + '[[routes]]\nmatch = { cause = "401" }\nchannels = ["hook"]',
             "routes[0].match.cause", 'use "spending_limit", "unauthorized",'),
        ),
    ],
    "Variables in the file": [
        *_rows('publisher_id = "p1"', "targets.gloo-prod.",
            ('publisher_id = "x-${PUBLISHER}"', "publisher_id", "set it in the environment or in .env"),
            ('publisher_id = "${EMPTY}"', "publisher_id", "give it a value in the environment or in .env"),
            ('publisher_id = "${}"', "publisher_id", "write ${NAME}, or $$ for a dollar sign"),
        ),
        *_rows(AUTH, "targets.gloo-prod.auth.",
            ('auth = { api_key_file = "${KEYS}/gloo" }', "api_key_file", "set it in the environment or in .env"),
        ),
    ],
}
# fmt: on

OPENED = [
    *_rows(
        "#top",
        "database ",
        (
            'database = "postgresql://monitor:s3cret@127.0.0.1:1/monitor"',
            "PostgreSQL 127.0.0.1:1/monitor",
            "check that the server runs",
        ),
        ('database = "sqlite:///no/such/monitor.db"', "SQLite …/no/such/monitor.db", "check that its folder exists"),
        ('database = "sqlite:///monitor.toml"', "SQLite …/monitor.toml", "name another file"),
    ),
    *_rows(
        URL,
        "sync log ",
        (
            'url = "postgresql://reader:s3cret@127.0.0.1:1/pipeline"',
            "127.0.0.1:1/pipeline",
            "check that the server runs",
        ),
        ('url = "sqlite:///pipelin.db"', "…/pipelin.db", "correct the path"),
        ('url = "sqlite:///monitor.toml"', "…/monitor.toml", "correct the path"),
    ),
    *_rows(
        "#sync_log",
        "sync log …/pipeline.db",
        ('table = "synclog"', " has no table", 'did you mean "sync_log"?'),
        ('table = "documents"', " has no table", '"sync_log"'),
        ('id_column = "itemid"', ', table "sync_log"', 'did you mean "item_id"?'),
        ('group_column = "customer"', ', table "sync_log"', '"item_id" or "uploaded_at"'),
        ('updated_at_column = "upload_at"', ', table "sync_log"', 'did you mean "uploaded_at"?'),
        ('where = { status = "done" }', ', table "sync_log"', '"item_id" or "uploaded_at"'),
    ),
]
"""Mistakes that show when the databases are opened. The sync log is sync_log(item_id, uploaded_at)."""


def make(mistake, folder):
    """Writes the files of a mistake; returns the path of the configuration file, if there is one."""
    (folder / "empty").touch()
    (folder / ".env").write_text("EMPTY=\n")
    path = folder / "monitor.toml"
    if not mistake.name:
        return None
    path.write_text(GLOO)
    (folder / mistake.name).write_bytes(mistake.content)
    return path


def errors_of(mistake, folder):
    """The exit code and the errors of `config check`, or of the first use of the databases."""
    try:
        config = load_config(make(mistake, folder), mistake.variables)
        _read_databases(config, folder)
    except ConfigError as error:
        return error.exit_code, _without(folder, error.problems)
    except MonitorError as error:
        return error.exit_code, _without(folder, [str(error)])
    return 0, []


def _without(folder, problems):
    return [problem.replace(str(folder), "…") for problem in problems]


def _read_databases(config, folder):
    log = create_engine(f"sqlite:///{folder}/pipeline.db")
    with log.begin() as conn:
        conn.execute(text("CREATE TABLE IF NOT EXISTS sync_log (item_id TEXT, uploaded_at TEXT)"))
    log.dispose()
    engine = open_database(config)
    try:
        list(App(config=config, engine=engine).read_log(config.targets[0]))
    finally:
        engine.dispose()


PAGE = """\
# Configuration mistakes

What `ingestion-monitor config check` reports, and how to fix it. It reports every problem at once, each with its key,
and contacts nothing; commands exit with code 2. The mistakes in the [last table](#databases) show when the databases
are opened: `ingestion-monitor doctor` finds them, and commands exit with code 3. No message contains a secret or a
connection URL.

`make docs` writes this page by making every mistake. `…` is the folder of `monitor.toml`.
{sections}"""


def page():
    """docs/mistakes.md."""
    sections = {"Files": FILES, **LINES, "Environment variables": VARIABLES, "Databases": OPENED}
    return PAGE.format(sections="".join(_section(title, mistakes) for title, mistakes in sections.items()))


def _section(title, mistakes):
    settings = {}  # mistakes with the same error share a row
    for each in mistakes:
        settings.setdefault(tuple(_split(each)), []).append(_shown(each))
    rows = "".join(f"| {'<br>or '.join(shown)} | {' | '.join(cells)} |\n" for cells, shown in settings.items())
    return f"\n## {title}\n\n| setting | what you see | fix |\n|---|---|---|\n{rows}"


def _split(mistake):
    """An error before and from its remedy, for table cells."""
    with tempfile.TemporaryDirectory() as folder:
        _, (problem,) = errors_of(mistake, Path(folder).resolve())
    before, _, after = problem.partition(mistake.fix)
    words = before.rstrip(" :;(")
    cut = "" if before.endswith((": ", "; ")) or not words else " …"
    return [cell.replace("|", "\\|").replace("<", "&lt;") for cell in (words + cut, mistake.fix + after)]


def _shown(mistake):
    wrote = mistake.wrote if isinstance(mistake.wrote, str) else mistake.wrote.decode("latin-1")
    lines = mistake.shown or _added(wrote)
    if not lines:
        missing = next((line for line in mistake.instead_of.splitlines() if line), "")
        return f"no `{missing.partition(' =')[0]}`" if missing else "no file and no variables"
    if "`" in lines or not set("=[") & set(lines):
        return lines
    return "<br>".join(f"`{line if len(line) < 90 else line[:60] + '…'}`" for line in lines.splitlines() if line)


def _added(wrote):
    """The written text, without the valid channel before it."""
    for valid in (HOOK, MAIL, ALERTS):
        wrote = wrote.removeprefix(valid) or wrote
    return wrote.strip()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
