"""Every mistake that we know people make in configuring the monitor, and the sentence that each gets.

The tests try each of them; `python tests/config/mistakes.py docs/mistakes.md` makes the page from the same table.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
"""A valid file; mistakes take the place of its comments and lines."""

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
"""Another, for an API that is described by settings alone."""

AUTH = 'auth = { client_id = "id", client_secret = "s3cret" }'
URL = 'url = "sqlite:///pipeline.db"'
HOOK = '[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "https://hooks.example/x"\n'
MAIL = (
    '[[channels]]\nname = "mail"\ntype = "email"\nhost = "smtp.example.com"\nfrom = "monitor@example.com"\n'
    'to = ["oncall@example.com"]\n'
)
ALERTS = '[[channels]]\nname = "alerts"\ntype = "alertmanager"\nurl = "http://alertmanager:9093"\n'
CAUSES = (
    '"spending_limit", "unauthorized", "forbidden", "wrong_scope", "rate_limited", "outage", "bad_response", '
    '"bad_request", "items_failed", "items_missing", "items_regressed", "items_stuck", "items_invalid", '
    '"unrecognised_status", "too_many_unknown", "sync_log_unreadable", "sync_log_empty", "run_missed" or "channel_failing"'
)
PROXY = 'must be a URL that begins with http://, https:// or socks5h:// and names a host, or "direct"'
NOT_TOML = "mend what stands there (text needs quotes, tables [brackets])"
NOT_JSON = 'must be JSON, such as [{"name": "…"}] for a list or {"every": "5m"} for a table'
NO_TARGET = (
    "targets is missing: describe what to watch, in [[targets]] of monitor.toml (`ingestion-monitor init` writes one); "
    "or set GLOO_PUBLISHER_ID, GLOO_CLIENT_ID and GLOO_CLIENT_SECRET"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A mistake in a line of the file, or one that shows when the line is used."""

    title: str
    instead_of: str
    wrote: str
    sentence: str
    """FOLDER stands for the file's folder."""
    file: str = GLOO

    @property
    def text(self):
        assert self.file.count(self.instead_of) == 1
        return self.file.replace(self.instead_of, self.wrote)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadFile:
    """A file, `monitor.toml` or `.env`, that can't be read at all."""

    title: str
    name: str = "monitor.toml"
    content: bytes | None
    """None: there is no such file."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadVariables:
    """A mistake in the environment or `.env`."""

    title: str
    variables: Mapping[str, str] = field(default_factory=dict)
    sentences: tuple[str, ...]
    file: str | None = GLOO
    """None: without any file."""


FILES = [
    BadFile(
        title="a file that is not there",
        content=None,
        sentence="FOLDER/monitor.toml can't be read (No such file or directory): mend the path or its permissions",
    ),
    BadFile(
        title="a slip in the syntax",
        content=b'environment = = "production"\n',
        sentence=f"FOLDER/monitor.toml is not valid TOML at line 1, column 15: {NOT_TOML}",
    ),
    BadFile(
        title="a text without quotes",
        content=b"environment = production\n",
        sentence=f"FOLDER/monitor.toml is not valid TOML at line 1, column 15: {NOT_TOML}",
    ),
    BadFile(
        title="a text that does not end",
        content=b'environment = "production',
        sentence=f"FOLDER/monitor.toml is not valid TOML at end of document: {NOT_TOML}",
    ),
    BadFile(
        title="a key twice",
        content=b'environment = "a"\nenvironment = "b"\n',
        sentence=f"FOLDER/monitor.toml is not valid TOML at line 2, column 18: {NOT_TOML}",
    ),
    BadFile(
        title="a list of tables with one bracket",
        content=b'[targets]\nname = "gloo-prod"\n',
        sentence="targets must be a list of tables: write [[targets]], with two brackets each side",
    ),
    BadFile(
        title="another encoding",
        content='environment = "Zürich"\n'.encode("latin-1"),
        sentence="FOLDER/monitor.toml is not UTF-8 text: save it as UTF-8",
    ),
    BadFile(title="nothing to watch", content=b'environment = "production"\n', sentence=NO_TARGET),
    BadFile(
        title="a line of .env that is none",
        name=".env",
        content=b"GLOO_CLIENT_ID=id\n'GLOO_CLIENT_SECRET s3cret\n",
        sentence="FOLDER/.env can't be read at line 2: write NAME=value",
    ),
    BadFile(
        title=".env in another encoding",
        name=".env",
        content="NAME=Zürich\n".encode("latin-1"),
        sentence="FOLDER/.env is not UTF-8 text: save it as UTF-8",
    ),
]

VARIABLES = [
    BadVariables(title="neither a file nor a variable", file=None, sentences=(NO_TARGET,)),
    BadVariables(
        title="half of the credentials",
        file=None,
        variables={"GLOO_CLIENT_ID": "id"},
        sentences=(
            "GLOO_PUBLISHER_ID is missing: give the id of the publisher whose items are watched",
            "GLOO_CLIENT_SECRET is missing: give it, or client_secret_file with the path of a file that holds it",
        ),
    ),
    BadVariables(
        title="no credentials at all",
        file=None,
        variables={"GLOO_PUBLISHER_ID": "p1"},
        sentences=(
            (
                "GLOO_CLIENT_ID with GLOO_CLIENT_SECRET, or GLOO_API_KEY is missing: give client_id and client_secret "
                "(or client_secret_file), or api_key (or api_key_file)"
            ),
        ),
    ),
    BadVariables(
        title="an empty key, and a database that is not supported",
        file=None,
        variables={"GLOO_PUBLISHER_ID": "p1", "GLOO_API_KEY": "", "MONITOR_SYNC_LOG_URL": "mysql:///pipeline"},
        sentences=(
            "GLOO_API_KEY is empty: give it a value",
            "MONITOR_SYNC_LOG_URL must begin with sqlite:/// or postgresql://; no other database is supported",
        ),
    ),
    BadVariables(
        title="a table of the sync log, and no database",
        file=None,
        variables={"GLOO_PUBLISHER_ID": "p1", "GLOO_API_KEY": "k3y", "MONITOR_SYNC_LOG_TABLE": "uploads"},
        sentences=(
            "MONITOR_SYNC_LOG_URL is missing: give the connection URL of the database that holds your sync log",
        ),
    ),
    BadVariables(
        title="an empty variable",
        variables={"MONITOR_DATABASE": ""},
        sentences=("MONITOR_DATABASE is empty: give it a value",),
    ),
    BadVariables(
        title="a blank variable, whatever its case",
        variables={"monitor_environment": " "},
        sentences=("monitor_environment must be printable text, and not blank",),
    ),
    BadVariables(
        title="a variable that names no file",
        variables={"MONITOR_DATABASE_FILE": "/no/such"},
        sentences=(
            (
                "MONITOR_DATABASE_FILE names /no/such, which can't be read (No such file or directory); "
                "mend the path or its permissions"
            ),
        ),
    ),
    BadVariables(
        title="a duration beyond sense in a variable",
        variables={"MONITOR_SCHEDULE__EVERY": "9d"},
        sentences=("MONITOR_SCHEDULE__EVERY must be between 1s and 7d",),
    ),
    BadVariables(
        title="a mistake inside a table given as JSON",
        variables={"MONITOR_SCHEDULE": '{"every": "9d"}'},
        sentences=("schedule.every in MONITOR_SCHEDULE must be between 1s and 7d",),
    ),
    BadVariables(
        title="a key that is not known, inside JSON",
        variables={"MONITOR_CHANNELS": '[{"name": "a", "type": "log", "x": 1}]'},
        sentences=("channels.a.x in MONITOR_CHANNELS is not a known key; known here: name, type, include_api_message",),
    ),
    BadVariables(
        title="a list that is no JSON",
        variables={"MONITOR_TARGETS": "[{s3cret"},
        sentences=(f"MONITOR_TARGETS {NOT_JSON}",),
    ),
    BadVariables(
        title="a number for a list", variables={"MONITOR_TARGETS": "3"}, sentences=("MONITOR_TARGETS must be a list",)
    ),
]

LINES = {
    "Keys": [
        Mistake(
            title="an unknown key",
            instead_of="#top",
            wrote='databse = "x"',
            sentence='databse is not a known key; did you mean "database"?',
        ),
        Mistake(
            title="an unknown key near nothing",
            instead_of="#schedule",
            wrote="weekly = 1",
            sentence="schedule.weekly is not a known key; known here: cron, every, timezone, jitter",
        ),
        Mistake(
            title="an unknown key in a target",
            instead_of="#check",
            wrote='deadlin = "3m"',
            sentence='targets.gloo-prod.check.deadlin is not a known key; did you mean "deadline"?',
        ),
        Mistake(
            title="an unknown key beside credentials",
            instead_of=AUTH,
            wrote='auth = { client_id = "id", client_secret = "s3cret", client_scret_file = "x" }',
            sentence='targets.gloo-prod.auth.client_scret_file is not a known key; did you mean "client_secret_file"?',
        ),
        Mistake(
            title="a key with control characters",
            instead_of="#schedule",
            wrote='"ev\\u001bry" = 1',
            sentence='schedule.ev?ry is not a known key; did you mean "every"?',
        ),
        Mistake(
            title="a wait that is too long",
            instead_of="#top",
            wrote='group_wait = "1h"',
            sentence="group_wait must be between 0s and 10m",
        ),
    ],
    "Values": [
        Mistake(
            title="a number for a text",
            instead_of="#top",
            wrote="environment = 5",
            sentence="environment must be text in quotes",
        ),
        Mistake(
            title="a blank text",
            instead_of="#top",
            wrote='environment = " "',
            sentence="environment must be printable text, and not blank",
        ),
        Mistake(
            title="an endless text",
            instead_of="#top",
            wrote=f'environment = "{"x" * 201}"',
            sentence="environment must be no longer than 200 characters",
        ),
        Mistake(
            title="a word for a number",
            instead_of="#check",
            wrote='max_attempts = "many"',
            sentence="targets.gloo-prod.check.max_attempts must be a whole number",
        ),
        Mistake(
            title="half an attempt",
            instead_of="#check",
            wrote="max_attempts = 1.5",
            sentence="targets.gloo-prod.check.max_attempts must be a whole number",
        ),
        Mistake(
            title="no concurrency",
            instead_of="#check",
            wrote="concurrency = 0",
            sentence="targets.gloo-prod.check.concurrency must be 1 or more",
        ),
        Mistake(
            title="too much concurrency",
            instead_of="#check",
            wrote="concurrency = 1025",
            sentence="targets.gloo-prod.check.concurrency must be 1024 or less",
        ),
        Mistake(
            title="a rate without its unit",
            instead_of="#check",
            wrote="rate = 50",
            sentence='targets.gloo-prod.check.rate must be a rate above zero, such as "50/s", "100/m" or "3000/h"',
        ),
        Mistake(
            title="a rate per another unit",
            instead_of="#check",
            wrote='rate = "50/min"',
            sentence='targets.gloo-prod.check.rate must be a rate above zero, such as "50/s", "100/m" or "3000/h"',
        ),
        Mistake(
            title="a rate of nothing",
            instead_of="#check",
            wrote='rate = "0/s"',
            sentence='targets.gloo-prod.check.rate must be a rate above zero, such as "50/s", "100/m" or "3000/h"',
        ),
        Mistake(
            title="a share in percent",
            instead_of="#check",
            wrote="rate_share = 50",
            sentence="targets.gloo-prod.check.rate_share must be above 0 and at most 1, such as 0.5",
        ),
        Mistake(
            title="a share of nothing",
            instead_of="#check",
            wrote="rate_share = 0.0",
            sentence="targets.gloo-prod.check.rate_share must be above 0 and at most 1, such as 0.5",
        ),
        Mistake(
            title="a word for a share",
            instead_of="#check",
            wrote='rate_share = "half"',
            sentence="targets.gloo-prod.check.rate_share must be a number",
        ),
        Mistake(
            title="a word for a yes",
            instead_of="#target",
            wrote='allow_http = "maybe"',
            sentence="targets.gloo-prod.allow_http must be true or false",
        ),
        Mistake(
            title="a list for a yes",
            instead_of="#target",
            wrote="allow_http = []",
            sentence="targets.gloo-prod.allow_http must be true or false",
        ),
        Mistake(
            title="a text for a table",
            instead_of="[schedule]\n#schedule",
            wrote='schedule = "5m"',
            sentence="schedule must be a table",
        ),
        Mistake(
            title="a text for a list",
            instead_of="#end",
            wrote='[[channels]]\nname = "log"\ntype = "log"\n[[routes]]\nchannels = "log"',
            sentence="routes[0].channels must be a list",
        ),
        Mistake(
            title="a text for a mapping",
            instead_of="#target",
            wrote='statuses = "x"',
            sentence="targets.gloo-prod.statuses must be a table",
        ),
        Mistake(
            title="an unknown strategy",
            instead_of="#check",
            wrote='strategy = "item"',
            sentence='targets.gloo-prod.check.strategy is not a known value; did you mean "items"?',
        ),
        Mistake(
            title="an HTTP client of another name",
            instead_of="#check",
            wrote='http = "curl"',
            sentence='targets.gloo-prod.check.http must be "fast" or "httpx"',
        ),
    ],
    "Durations and schedules": [
        Mistake(
            title="a bad duration",
            instead_of="#check",
            wrote='deadline = "4 minutes"',
            sentence='targets.gloo-prod.check.deadline must be a duration such as "30s", "5m" or "1h30m"',
        ),
        Mistake(
            title="a bare number for a duration",
            instead_of="#check",
            wrote="deadline = 240",
            sentence='targets.gloo-prod.check.deadline must be a duration such as "30s", "5m" or "1h30m"',
        ),
        Mistake(
            title="a duration of nothing",
            instead_of="#schedule",
            wrote='every = "0s"',
            sentence="schedule.every must be between 1s and 7d",
        ),
        Mistake(
            title="a duration beyond sense",
            instead_of="#check",
            wrote='stuck_after = "31d"',
            sentence="targets.gloo-prod.check.stuck_after must be between 1s and 30d",
        ),
        Mistake(
            title="a past that is shorter than rules look back",
            instead_of="#top",
            wrote='[retention]\nsnapshots = "30d"',
            sentence="retention.snapshots must be between 31d and 36500d",
        ),
        Mistake(
            title="a past of hours",
            instead_of="#top",
            wrote='[retention]\nitem_events = "12h"',
            sentence="retention.item_events must be between 1d and 36500d",
        ),
        Mistake(
            title="a number of days without its unit",
            instead_of="#top",
            wrote="[retention]\nitem_events = 90",
            sentence='retention.item_events must be a duration such as "30s", "5m" or "1h30m"',
        ),
        Mistake(
            title="retention of something else",
            instead_of="#top",
            wrote='[retention]\nincidents = "90d"',
            sentence="retention.incidents is not a known key; known here: snapshots, item_events, notifications",
        ),
        Mistake(
            title="both schedules",
            instead_of="#schedule",
            wrote='every = "5m"\ncron = "*/5 * * * *"',
            sentence="schedule.every can't stand beside cron: keep one of them",
        ),
        Mistake(
            title="a jitter that would take one run to the next",
            instead_of="#schedule",
            wrote='every = "1m"\njitter = "1m"',
            sentence="schedule.jitter must be shorter than the time between two runs, 1m",
        ),
        Mistake(
            title="the same by cron",
            instead_of="#schedule",
            wrote='cron = "0,10 * * * *"\njitter = "15m"',
            sentence="schedule.jitter must be shorter than the time between two runs, 10m",
        ),
        Mistake(
            title="a jitter beyond sense",
            instead_of="#schedule",
            wrote='cron = "0 0 * * 1"\njitter = "2d"',
            sentence="schedule.jitter must be between 0s and 1d",
        ),
        Mistake(
            title="a target's own schedule that says no times",
            instead_of="#target",
            wrote='schedule = { jitter = "10s" }',
            sentence=(
                "targets.gloo-prod.schedule must say every or cron: a target's own schedule takes nothing from the "
                "common one"
            ),
        ),
        Mistake(
            title="a bad cron expression",
            instead_of="#schedule",
            wrote='cron = "*/5 * * *"',
            sentence=(
                'schedule.cron must be a cron expression of five fields, for dates that exist, such as "*/5 * * * *"'
            ),
        ),
        Mistake(
            title="cron with a bad field",
            instead_of="#schedule",
            wrote='cron = "*/5 * * * MOO"',
            sentence=(
                'schedule.cron must be a cron expression of five fields, for dates that exist, such as "*/5 * * * *"'
            ),
        ),
        Mistake(
            title="cron for a date that never comes",
            instead_of="#schedule",
            wrote='cron = "0 0 30 2 *"',
            sentence=(
                'schedule.cron must be a cron expression of five fields, for dates that exist, such as "*/5 * * * *"'
            ),
        ),
        Mistake(
            title="an unknown time zone",
            instead_of="#schedule",
            wrote='timezone = "Europe/Pariss"',
            sentence='schedule.timezone must be a time zone\'s name, such as "Europe/Paris" or "UTC"',
        ),
        Mistake(
            title="a path for a time zone",
            instead_of="#sync_log",
            wrote='timezone = "../../etc/passwd"',
            sentence='targets.gloo-prod.sync_log.timezone must be a time zone\'s name, such as "Europe/Paris" or "UTC"',
        ),
        Mistake(
            title="a folder of time zones",
            instead_of="#schedule",
            wrote='timezone = "America"',
            sentence='schedule.timezone must be a time zone\'s name, such as "Europe/Paris" or "UTC"',
        ),
    ],
    "Health endpoints": [
        Mistake(
            title="a port alone to listen on",
            instead_of="#top",
            wrote='[web]\nlisten = ":8990"',
            sentence='web.listen must be a host and a port, such as "127.0.0.1:8990" or "[::1]:8990", or "off"',
        ),
        Mistake(
            title="no port to listen on",
            instead_of="#top",
            wrote='[web]\nlisten = "127.0.0.1"',
            sentence='web.listen must be a host and a port, such as "127.0.0.1:8990" or "[::1]:8990", or "off"',
        ),
        Mistake(
            title="a port that there is none of",
            instead_of="#top",
            wrote='[web]\nlisten = "127.0.0.1:65536"',
            sentence='web.listen must be a host and a port, such as "127.0.0.1:8990" or "[::1]:8990", or "off"',
        ),
        Mistake(
            title="an IPv6 address to listen on, without brackets",
            instead_of="#top",
            wrote='[web]\nlisten = "::1:8990"',
            sentence='web.listen must be a host and a port, such as "127.0.0.1:8990" or "[::1]:8990", or "off"',
        ),
        Mistake(
            title="a URL to listen on",
            instead_of="#top",
            wrote='[web]\nlisten = "http://127.0.0.1:8990"',
            sentence='web.listen must be a host and a port, such as "127.0.0.1:8990" or "[::1]:8990", or "off"',
        ),
        Mistake(
            title="a number to listen on",
            instead_of="#top",
            wrote="[web]\nlisten = 8990",
            sentence="web.listen must be text in quotes",
        ),
        Mistake(
            title="switching the endpoints off with false",
            instead_of="#top",
            wrote="[web]\nlisten = false",
            sentence="web.listen must be text in quotes",
        ),
        Mistake(
            title="an unknown key beside where to listen",
            instead_of="#top",
            wrote="[web]\nport = 8990",
            sentence="web.port is not a known key; known here: listen",
        ),
    ],
    "Targets": [
        Mistake(
            title="no name",
            instead_of='name = "gloo-prod"',
            wrote="",
            sentence="targets[0].name is missing: give the target a name, such as gloo-prod",
        ),
        Mistake(
            title="a bad name",
            instead_of='name = "gloo-prod"',
            wrote='name = "gloo prod"',
            sentence="targets[0].name may hold only letters, digits, dots, underscores and hyphens: 1 to 100 of them",
        ),
        Mistake(
            title="two targets of one name",
            instead_of="#end",
            wrote=(
                '[[targets]]\nname = "gloo-prod"\nprovider = "gloo"\npublisher_id = "p2"\nauth = { '
                'client_id = "id", client_secret = "s3cret" }'
            ),
            sentence="targets[1].name repeats the name of targets[0]: give each a name of its own",
        ),
        Mistake(
            title="no provider",
            instead_of='provider = "gloo"',
            wrote="",
            sentence='targets.gloo-prod.provider is missing: say which API it is: "gloo", or "generic" for any other',
        ),
        Mistake(
            title="an unknown provider",
            instead_of='provider = "gloo"',
            wrote='provider = "gloop"',
            sentence='targets.gloo-prod.provider is not a known provider; did you mean "gloo"?',
        ),
        Mistake(
            title="an API that is not built in",
            instead_of='provider = "gloo"',
            wrote='provider = "ragie"',
            sentence=(
                'targets.gloo-prod.provider must be "gloo" or "generic": "ragie" is not built in, but '
                '"generic" can be told how to ask it'
            ),
        ),
        Mistake(
            title="no publisher",
            instead_of='publisher_id = "p1"',
            wrote="",
            sentence="targets.gloo-prod.publisher_id is missing: give the id of the publisher whose items are watched",
        ),
        Mistake(
            title="plain http",
            instead_of="#target",
            wrote='base_url = "http://gateway.example"',
            sentence=(
                "targets.gloo-prod.base_url must use https; plain http goes only to this machine, or "
                "with allow_http = true"
            ),
        ),
        Mistake(
            title="a base URL that is none",
            instead_of="#target",
            wrote='base_url = "platform.ai.gloo.com"',
            sentence='targets.gloo-prod.base_url must be a URL such as "https://platform.ai.gloo.com"',
        ),
        Mistake(
            title="credentials in the base URL",
            instead_of="#target",
            wrote='base_url = "https://me:s3cret@host"',
            sentence="targets.gloo-prod.base_url must hold only scheme, host and path: credentials belong under auth",
        ),
        Mistake(
            title="an unknown state",
            instead_of="#target",
            wrote='statuses = { done = ["OK"] }',
            sentence="targets.gloo-prod.statuses.done is not a known key; known here: pending, completed, failed",
        ),
        Mistake(
            title="a status with two meanings",
            instead_of="#target",
            wrote='statuses = { pending = ["DONE"], completed = ["done"] }',
            sentence="targets.gloo-prod.statuses gives one status twice: a status means one thing",
        ),
        Mistake(
            title="settings of the generic provider",
            instead_of="#target",
            wrote='headers = { X-Version = "2" }',
            sentence="targets.gloo-prod.headers has no meaning for gloo, only for generic: remove it",
        ),
        Mistake(
            title="options for a built-in provider",
            instead_of="#target",
            wrote='options = { region = "eu" }',
            sentence="targets.gloo-prod.options has no meaning for gloo, which is built in: remove it",
        ),
    ],
    "Credentials": [
        Mistake(
            title="no credentials",
            instead_of=AUTH,
            wrote="",
            sentence=(
                "targets.gloo-prod.auth is missing: give the credentials, as in auth = { client_id = "
                '"…", client_secret_file = "…" }'
            ),
        ),
        Mistake(
            title="neither form of credentials",
            instead_of=AUTH,
            wrote="auth = {}",
            sentence=(
                "targets.gloo-prod.auth is missing: give client_id and client_secret (or "
                "client_secret_file), or api_key (or api_key_file)"
            ),
        ),
        Mistake(
            title="both forms of credentials",
            instead_of=AUTH,
            wrote='auth = { client_id = "id", client_secret = "s3cret", api_key = "s3cret" }',
            sentence="targets.gloo-prod.auth holds both an API key and client credentials: keep one of them",
        ),
        Mistake(
            title="a text for credentials",
            instead_of=AUTH,
            wrote='auth = "s3cret"',
            sentence='targets.gloo-prod.auth must be a table, such as { client_id = "…", client_secret_file = "…" }',
        ),
        Mistake(
            title="no client secret",
            instead_of=AUTH,
            wrote='auth = { client_id = "id" }',
            sentence=(
                "targets.gloo-prod.auth.client_secret is missing: give it, or client_secret_file with "
                "the path of a file that holds it"
            ),
        ),
        Mistake(
            title="no client id",
            instead_of=AUTH,
            wrote='auth = { client_secret = "s3cret" }',
            sentence="targets.gloo-prod.auth.client_id is missing: give the id that belongs to the client secret",
        ),
        Mistake(
            title="an empty secret",
            instead_of=AUTH,
            wrote='auth = { api_key = "" }',
            sentence="targets.gloo-prod.auth.api_key is empty: give it a value",
        ),
        Mistake(
            title="a secret with a line break",
            instead_of=AUTH,
            wrote='auth = { api_key = "s3cret\\n" }',
            sentence="targets.gloo-prod.auth.api_key holds control characters: was it copied with a line break?",
        ),
        Mistake(
            title="a key that no header carries",
            instead_of=AUTH,
            wrote='auth = { api_key = "s3crét" }',
            sentence=(
                "targets.gloo-prod.auth.api_key holds characters that no HTTP header can carry: was it copied whole?"
            ),
        ),
        Mistake(
            title="a secret twice",
            instead_of=AUTH,
            wrote='auth = { api_key = "s3cret", api_key_file = "key" }',
            sentence="targets.gloo-prod.auth.api_key_file can't stand beside the secret itself: keep one of them",
        ),
        Mistake(
            title="a secret file that is not there",
            instead_of=AUTH,
            wrote='auth = { api_key_file = "key" }',
            sentence=(
                "targets.gloo-prod.auth.api_key_file names FOLDER/key, which can't be read (No such "
                "file or directory); mend the path or its permissions"
            ),
        ),
        Mistake(
            title="an empty secret file",
            instead_of=AUTH,
            wrote='auth = { api_key_file = "empty" }',
            sentence="targets.gloo-prod.auth.api_key_file names FOLDER/empty, which is empty: give it a value",
        ),
        Mistake(
            title="a header that carries no key",
            instead_of=AUTH,
            wrote='auth = { api_key = "s3cret", header = "Host" }',
            sentence=(
                "targets.gloo-prod.auth.header must be the name of a header that carries a key, such "
                'as "X-API-Key"; "Host" is none'
            ),
        ),
        Mistake(
            title="a scheme of two words",
            instead_of=AUTH,
            wrote='auth = { api_key = "s3cret", scheme = "my key" }',
            sentence='targets.gloo-prod.auth.scheme must be one word such as "Bearer", or "" for the bare key',
        ),
        Mistake(
            title="a token endpoint on another host",
            instead_of=AUTH,
            wrote='auth = { client_id = "id", client_secret = "s3cret", token_path = "https://login.example/token" }',
            sentence=(
                'targets.gloo-prod.auth.token_path must begin with one "/" and hold neither spaces '
                'nor "#": escape them as %20 and %23'
            ),
        ),
    ],
    "Certificates and proxies": [
        Mistake(
            title="a file of authorities that is not there",
            instead_of="#target",
            wrote='tls = { ca_file = "corp.pem" }',
            sentence="targets.gloo-prod.tls.ca_file names FOLDER/corp.pem, which can't be read (No such file or "
            "directory); mend the path or its permissions",
        ),
        Mistake(
            title="a folder for a file of authorities",
            instead_of="#target",
            wrote='tls = { ca_file = "." }',
            sentence="targets.gloo-prod.tls.ca_file names FOLDER, which is not a regular file",
        ),
        Mistake(
            title="a certificate that is not in PEM form",
            instead_of="#target",
            wrote='tls = { ca_file = "empty" }',
            sentence="targets.gloo-prod.tls.ca_file names FOLDER/empty, which holds no certificate in PEM form",
        ),
        Mistake(
            title="a key without its certificate",
            instead_of="#target",
            wrote='tls = { key_file = "empty" }',
            sentence="targets.gloo-prod.tls.key_file has no meaning without cert_file: give the certificate that the "
            "key belongs to",
        ),
        Mistake(
            title="a certificate itself instead of its file",
            instead_of="#target",
            wrote='tls = { ca = "s3cret" }',
            sentence="targets.gloo-prod.tls.ca is not a known key; known here: ca_file, cert_file, key_file",
        ),
        Mistake(
            title="a file for the table tls",
            instead_of="#target",
            wrote='tls = "corp.pem"',
            sentence="targets.gloo-prod.tls must be a table",
        ),
        Mistake(
            title="a proxy without its scheme",
            instead_of="#target",
            wrote='proxy = "user:s3cret@proxy:3128"',
            sentence=f"targets.gloo-prod.proxy {PROXY}",
        ),
        Mistake(
            title="a proxy of a kind that is not supported",
            instead_of="#target",
            wrote='proxy = "ftp://user:s3cret@proxy:3128"',
            sentence=f"targets.gloo-prod.proxy {PROXY}",
        ),
        Mistake(
            title="a proxy without a host",
            instead_of="#target",
            wrote='proxy = "http://user:s3cret@:3128"',
            sentence=f"targets.gloo-prod.proxy {PROXY}",
        ),
        Mistake(
            title="a slash in a proxy's password",
            instead_of="#target",
            wrote='proxy = "http://user@proxy/s3cret"',
            sentence="targets.gloo-prod.proxy must hold only scheme, user, password, host and port: escape special "
            "characters (/ as %2F)",
        ),
        Mistake(
            title="a proxy for the environment to say",
            instead_of="#target",
            wrote="proxy = true",
            sentence="targets.gloo-prod.proxy must be text in quotes",
        ),
        Mistake(
            title="a proxy twice",
            instead_of="#target",
            wrote='proxy = "http://proxy:3128"\nproxy_file = "proxy"',
            sentence="targets.gloo-prod.proxy_file can't stand beside the secret itself: keep one of them",
        ),
        Mistake(
            title="a heartbeat to nowhere",
            instead_of="#target",
            wrote='heartbeat = "s3cret"',
            sentence='targets.gloo-prod.heartbeat must be a URL such as "https://hc-ping.com/your-check"',
        ),
        Mistake(
            title="a heartbeat that anybody on the way can read",
            instead_of="#target",
            wrote='heartbeat = "http://hc.example/s3cret"',
            sentence="targets.gloo-prod.heartbeat must use https; plain http goes only to this machine, or with "
            "allow_http = true",
        ),
        Mistake(
            title="a heartbeat with a fragment",
            instead_of="#target",
            wrote='heartbeat = "https://hc.example/s3cret#nightly"',
            sentence="targets.gloo-prod.heartbeat must hold no fragment (#…): it is never sent",
        ),
        Mistake(
            title="a heartbeat twice",
            instead_of="#target",
            wrote='heartbeat = "https://hc.example/s3cret"\nheartbeat_file = "heartbeat"',
            sentence="targets.gloo-prod.heartbeat_file can't stand beside the secret itself: keep one of them",
        ),
        Mistake(
            title="a proxy's file that is not there",
            instead_of="#target",
            wrote='proxy_file = "proxy"',
            sentence="targets.gloo-prod.proxy_file names FOLDER/proxy, which can't be read (No such file or "
            "directory); mend the path or its permissions",
        ),
    ],
    "Other APIs: the generic provider": [
        Mistake(
            title="no item",
            instead_of='item = { path = "/documents/{item_id}" }',
            wrote="",
            sentence=(
                "targets.docs.item is missing: say how one item is asked for, in [targets.item], as "
                'in path = "/documents/{item_id}"'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="no base URL",
            instead_of='base_url = "https://api.example"',
            wrote="",
            sentence=(
                "targets.docs.base_url is missing: give the URL that all paths of the API begin with, "
                'such as "https://api.example"'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="no statuses",
            instead_of='statuses = { completed = ["done"] }',
            wrote="",
            sentence=(
                "targets.docs.statuses.completed is missing: say which statuses mean that an item is "
                'done, as in statuses = { completed = ["done"] }'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="statuses without a good one",
            instead_of='statuses = { completed = ["done"] }',
            wrote='statuses = { failed = ["broken"] }',
            sentence=(
                "targets.docs.statuses.completed is missing: say which statuses mean that an item is "
                'done, as in statuses = { completed = ["done"] }'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="an item without a path",
            instead_of='item = { path = "/documents/{item_id}" }',
            wrote='item = { status = "state" }',
            sentence='targets.docs.item.path is missing: give the path of one item, such as "/documents/{item_id}"',
            file=GENERIC,
        ),
        Mistake(
            title="a path without the item's id",
            instead_of='item = { path = "/documents/{item_id}" }',
            wrote='item = { path = "/documents" }',
            sentence=(
                'targets.docs.item.path must hold {item_id} once, where the id belongs, as in "/documents/{item_id}"'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="a path with another host",
            instead_of='item = { path = "/documents/{item_id}" }',
            wrote='item = { path = "https://other.example/{item_id}" }',
            sentence=(
                'targets.docs.item.path must begin with one "/" and hold neither spaces nor "#": '
                "escape them as %20 and %23"
            ),
            file=GENERIC,
        ),
        Mistake(
            title="a path with unknown braces",
            instead_of='item = { path = "/documents/{item_id}" }',
            wrote='item = { path = "/{tenant}/{item_id}" }',
            sentence=(
                "targets.docs.item.path holds braces around something else: only {item_id} and "
                "{publisher_id} may stand in them"
            ),
            file=GENERIC,
        ),
        Mistake(
            title="a path that names no publisher",
            instead_of='item = { path = "/documents/{item_id}" }',
            wrote='item = { path = "/{publisher_id}/{item_id}" }',
            sentence="targets.docs.item.path names {publisher_id}, and the target has none: give publisher_id",
            file=GENERIC,
        ),
        Mistake(
            title="an item's id in the list's path",
            instead_of="#target",
            wrote='list = { path = "/documents/{item_id}" }',
            sentence="targets.docs.list.path holds braces around something else: only {publisher_id} may stand in them",
            file=GENERIC,
        ),
        Mistake(
            title="a bad dotted path",
            instead_of="#target",
            wrote='list = { path = "/documents", items = "data..rows" }',
            sentence=(
                'targets.docs.list.items must be names with dots between them, such as "status" or "document.status"'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="a bad id pattern",
            instead_of='item = { path = "/documents/{item_id}" }',
            wrote='item = { path = "/documents/{item_id}", id_pattern = "doc_[0-9" }',
            sentence="targets.docs.item.id_pattern must be a regular expression as Python reads them",
            file=GENERIC,
        ),
        Mistake(
            title="an unknown page rule",
            instead_of="#target",
            wrote='list = { path = "/documents", page = { by = "pages" } }',
            sentence='targets.docs.list.page.by must be "none", "link", "cursor", "offset" or "number"',
            file=GENERIC,
        ),
        Mistake(
            title="a setting of another page rule",
            instead_of="#target",
            wrote='list = { path = "/documents", page = { by = "number", next = "cursor" } }',
            sentence='targets.docs.list.page.next has no meaning where pages go by "number": remove it',
            file=GENERIC,
        ),
        Mistake(
            title="a parameter that is none",
            instead_of="#target",
            wrote='list = { path = "/documents", page = { by = "number", parameter = "a&b" } }',
            sentence=(
                'targets.docs.list.page.parameter must be the name of a query parameter, such as "page" or "limit"'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="the list strategy without a list",
            instead_of="#target",
            wrote='check = { strategy = "list" }',
            sentence=(
                'targets.docs.check.strategy can\'t be "list" without [targets.list], which says how '
                'all items are asked for: describe it, or use "items"'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="a header of the client's own",
            instead_of="#target",
            wrote='headers = { Authorization = "Bearer s3cret" }',
            sentence=(
                'targets.docs.headers names "Authorization", which the monitor sets itself: remove it '
                "(credentials belong under auth)"
            ),
            file=GENERIC,
        ),
        Mistake(
            title="a header that is none",
            instead_of="#target",
            wrote='headers = { "X Version" = "2" }',
            sentence=(
                'targets.docs.headers names "X Version", which is no header\'s name: use letters, digits and hyphens'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="a header with a line break",
            instead_of="#target",
            wrote='headers = { X-Version = "2\\n" }',
            sentence=(
                'targets.docs.headers gives "X-Version" a value that no header can carry: use 1 to '
                "1000 plain ASCII characters"
            ),
            file=GENERIC,
        ),
        Mistake(
            title="a header twice",
            instead_of="#target",
            wrote='headers = { X-Version = "2", x-version = "3" }',
            sentence="targets.docs.headers names one header twice: case does not count in their names",
            file=GENERIC,
        ),
        Mistake(
            title="client credentials without their endpoint",
            instead_of='auth = { api_key = "s3cret" }',
            wrote=AUTH,
            sentence=(
                "targets.docs.auth.token_path is missing: give the path of the token endpoint, such "
                'as "/oauth2/token"; or use an api_key'
            ),
            file=GENERIC,
        ),
        Mistake(
            title="options for generic",
            instead_of="#target",
            wrote='options = { region = "eu" }',
            sentence="targets.docs.options has no meaning for generic, which is built in: remove it",
            file=GENERIC,
        ),
    ],
    "Databases and sync logs": [
        Mistake(
            title="a sync log without a URL",
            instead_of='url = "sqlite:///pipeline.db"',
            wrote="",
            sentence=(
                "targets.gloo-prod.sync_log.url is missing: give the connection URL of the database "
                "that holds your sync log"
            ),
        ),
        Mistake(
            title="an unsupported database",
            instead_of="#top",
            wrote='database = "mysql://me:s3cret@db/x"',
            sentence="database must begin with sqlite:/// or postgresql://; no other database is supported",
        ),
        Mistake(
            title="a connection URL with a raw password",
            instead_of='url = "sqlite:///pipeline.db"',
            wrote='url = "postgresql://me:s3cret/x@db/x"',
            sentence=(
                "targets.gloo-prod.sync_log.url can't be taken apart: escape special characters in "
                "user and password (@ as %40, / as %2F)"
            ),
        ),
        Mistake(
            title="a database in memory",
            instead_of="#top",
            wrote='database = "sqlite:///:memory:"',
            sentence='database must name a file, as in "sqlite:///monitor.db"',
        ),
    ],
    "Rules": [
        Mistake(
            title="an unknown cause",
            instead_of="#end",
            wrote='[[rules]]\ncause = "unauthorised"',
            sentence='rules[0].cause is not a known value; did you mean "unauthorized"?',
        ),
        Mistake(
            title="a cause near nothing",
            instead_of="#end",
            wrote='[[rules]]\ncause = "zzz"',
            sentence=f"rules[0].cause must be {CAUSES}",
        ),
        Mistake(
            title="a number for a cause",
            instead_of="#end",
            wrote="[[rules]]\ncause = 5",
            sentence=f"rules[0].cause must be {CAUSES}",
        ),
        Mistake(
            title="an unknown team",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\nteam = "pipelin"',
            sentence='rules[0].team is not a known value; did you mean "pipeline"?',
        ),
        Mistake(
            title="a rule that can't fire",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\nruns = 3\nof = 2',
            sentence=(
                "rules[0].of is smaller than runs, so that the rule could never open an incident: "
                "raise it, or lower runs"
            ),
        ),
        Mistake(
            title="a rule without a cause",
            instead_of="#end",
            wrote="[[rules]]\nruns = 3",
            sentence="rules[0].cause is missing: say which cause the rule is for",
        ),
        Mistake(
            title="a rule by group that is about no items",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\nby = "group"',
            sentence=(
                'rules[0].by can\'t be "group" for outage: only items have groups (items_failed, items_missing, '
                "items_regressed, items_stuck, items_invalid, unrecognised_status); remove it"
            ),
        ),
        Mistake(
            title="a rule by something else",
            instead_of="#end",
            wrote='[[rules]]\ncause = "items_failed"\nby = "grp"',
            sentence='rules[0].by is not a known value; did you mean "group"?',
        ),
        Mistake(
            title="a rule for a target near one",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\ntarget = "glo-*"\nruns = 3',
            sentence='rules[0].target matches nothing: there is no target like "glo-*"; did you mean "gloo-prod"?',
        ),
        Mistake(
            title="a rule for targets near none",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\ntarget = ["eu-*", "us-*"]\nruns = 3',
            sentence=(
                'rules[0].target matches nothing: there is no target like "eu-*" or "us-*"; there is "gloo-prod"'
            ),
        ),
        Mistake(
            title="a rule for a channel, by its bare name",
            instead_of="#end",
            wrote=HOOK + '[[rules]]\ncause = "channel_failing"\ntarget = "hook"\nteam = "operations"',
            sentence=('rules[0].target matches nothing: there is no channel like "hook"; there is "channel:hook"'),
        ),
        Mistake(
            title="a rule for a channel, where there is none",
            instead_of="#end",
            wrote='[[rules]]\ncause = "channel_failing"\ntarget = "channel:hook"\nteam = "operations"',
            sentence=(
                'rules[0].target matches nothing: there is no channel like "channel:hook": mend it, or remove it'
            ),
        ),
        Mistake(
            title="a rule that can't fire with what is built in",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\nof = 1',
            sentence=(
                "rules[0].of is smaller than the runs in force (2, built in), so that the rule could never open an "
                "incident: raise it, or lower runs"
            ),
        ),
        Mistake(
            title="rules that can't fire together",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\nruns = 4\n[[rules]]\ncause = "outage"\ntarget = "gloo-*"\nof = 3',
            sentence=(
                "rules[1].of is smaller than the runs in force (4, rules[0]), so that the rule could never open an "
                "incident: raise it, or lower runs"
            ),
        ),
        Mistake(
            title="a span that no window holds",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\nspan = "2h"',
            sentence=(
                "rules[0].span is longer than the window in force (1h, built in): no two runs lie so far apart in it; "
                "shorten it, or lengthen window"
            ),
        ),
        Mistake(
            title="a window that holds no span",
            instead_of="#end",
            wrote='[[rules]]\ncause = "outage"\nwindow = "1m"',
            sentence=(
                "rules[0].window is shorter than the span in force (3m, built in): no two runs lie so far apart in it; "
                "lengthen it, or shorten span"
            ),
        ),
    ],
    "Channels and routes": [
        Mistake(
            title="two channels of one name",
            instead_of="#end",
            wrote=HOOK + HOOK,
            sentence="channels[1].name repeats the name of channels[0]: give each a name of its own",
        ),
        Mistake(
            title="a channel of no known type",
            instead_of="#end",
            wrote='[[channels]]\nname = "oncall"\ntype = "teams"',
            sentence=(
                'channels.oncall.type must be "log", "webhook", "slack", "email", "pagerduty", "alertmanager" or '
                '"apprise"'
            ),
        ),
        Mistake(
            title="a slip in a channel's type",
            instead_of="#end",
            wrote='[[channels]]\nname = "oncall"\ntype = "slak"\nurl = "https://hooks.example/x"',
            sentence='channels.oncall.type is not a known value; did you mean "slack"?',
        ),
        Mistake(
            title="a channel without a type",
            instead_of="#end",
            wrote='[[channels]]\nname = "oncall"\nurl = "https://hooks.example/x"',
            sentence=(
                'channels.oncall.type is missing: say what it is: "log", "webhook", "slack", "email", "pagerduty", '
                '"alertmanager" or "apprise"'
            ),
        ),
        Mistake(
            title="a webhook without a URL",
            instead_of="#end",
            wrote='[[channels]]\nname = "hook"\ntype = "webhook"',
            sentence=(
                "channels.hook.url is missing: give the webhook's url, or url_file with the path of a "
                "file that holds it"
            ),
        ),
        Mistake(
            title="Slack without a URL",
            instead_of="#end",
            wrote='[[channels]]\nname = "oncall"\ntype = "slack"',
            sentence=(
                "channels.oncall.url is missing: give the url of Slack's incoming webhook, or "
                "url_file with the path of a file that holds it"
            ),
        ),
        Mistake(
            title="a webhook to nowhere",
            instead_of="#end",
            wrote='[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "s3cret"',
            sentence="channels.hook.url must be a URL that begins with https:// or http://",
        ),
        Mistake(
            title="a log with a URL",
            instead_of="#end",
            wrote='[[channels]]\nname = "hook"\ntype = "log"\nurl = "https://hooks.example/s3cret"',
            sentence='channels.hook.url has no meaning for the type "log": remove it',
        ),
        Mistake(
            title="a log that is to quote the API",
            instead_of="#end",
            wrote='[[channels]]\nname = "hook"\ntype = "log"\ninclude_api_message = true',
            sentence=(
                "channels.hook.include_api_message can't be true for the log, where the API's own words never go: "
                "remove it"
            ),
        ),
        Mistake(
            title="a setting of another channel's",
            instead_of="#end",
            wrote='[[channels]]\nname = "oncall"\ntype = "slack"\nurl = "https://hooks.example/x"\nhost = "mail"',
            sentence='channels.oncall.host has no meaning for the type "slack": remove it',
        ),
        Mistake(
            title="a slip in a channel's setting",
            instead_of="#end",
            wrote=HOOK + 'secrets = "s3cret"',
            sentence='channels.hook.secrets is not a known key; did you mean "secret"?',
        ),
        Mistake(
            title="a webhook's secret of another form",
            instead_of="#end",
            wrote=HOOK + 'secret = "s3cret"',
            sentence=(
                'channels.hook.secret must begin with "whsec_", and go on with 24 to 64 bytes in base64: echo '
                "whsec_$(openssl rand -base64 32)"
            ),
        ),
        Mistake(
            title="mail without a server",
            instead_of="#end",
            wrote=MAIL.replace('host = "smtp.example.com"\n', ""),
            sentence="channels.mail.host is missing: give the mail server's name, such as smtp.example.com",
        ),
        Mistake(
            title="a mail server with its port",
            instead_of="#end",
            wrote=MAIL.replace("smtp.example.com", "smtp.example.com:25"),
            sentence=("channels.mail.host must be a host's name or address alone: the port has a setting of its own"),
        ),
        Mistake(
            title="mail to nobody",
            instead_of="#end",
            wrote=MAIL.replace('to = ["oncall@example.com"]', "to = []"),
            sentence="channels.mail.to is missing: give at least one address that mails go to",
        ),
        Mistake(
            title="mail from nobody",
            instead_of="#end",
            wrote=MAIL.replace('from = "monitor@example.com"\n', ""),
            sentence="channels.mail.from is missing: give the address that mails come from",
        ),
        Mistake(
            title="a recipient that is no address",
            instead_of="#end",
            wrote=MAIL.replace('["oncall@example.com"]', '["oncall"]'),
            sentence='channels.mail.to[0] must be a mail address alone, such as "oncall@example.com"',
        ),
        Mistake(
            title="a sender that is no address",
            instead_of="#end",
            wrote=MAIL.replace("monitor@example.com", "Monitor <monitor"),
            sentence=(
                'channels.mail.from must be a mail address, or one with a name, such as "Monitor <monitor@example.com>"'
            ),
        ),
        Mistake(
            title="mail without encryption",
            instead_of="#end",
            wrote=MAIL + 'security = "none"',
            sentence=(
                'channels.mail.security must be "starttls" or "tls"; "none" goes only to this machine, or with '
                "allow_plain = true"
            ),
        ),
        Mistake(
            title="a mail user without a password",
            instead_of="#end",
            wrote=MAIL + 'user = "monitor"',
            sentence=(
                "channels.mail.password is missing: give the user's password, or password_file with the path of a "
                "file that holds it"
            ),
        ),
        Mistake(
            title="a mail password without a user",
            instead_of="#end",
            wrote=MAIL + 'password = "s3cret"',
            sentence="channels.mail.password has no meaning without user: give the user that it belongs to",
        ),
        Mistake(
            title="a mail password that can't be sent",
            instead_of="#end",
            wrote=MAIL + 'user = "monitor"\npassword = "s3cret-ü"',
            sentence="channels.mail.password must be of ASCII, as a log-in at a mail server can carry no other",
        ),
        Mistake(
            title="PagerDuty without a key",
            instead_of="#end",
            wrote='[[channels]]\nname = "pager"\ntype = "pagerduty"',
            sentence=(
                "channels.pager.routing_key is missing: give the integration's key, or routing_key_file with the path "
                "of a file that holds it"
            ),
        ),
        Mistake(
            title="PagerDuty with a key for another of its APIs",
            instead_of="#end",
            wrote='[[channels]]\nname = "pager"\ntype = "pagerduty"\nrouting_key = "u+s3cret"',
            sentence=(
                "channels.pager.routing_key must be the 32 letters and digits of an integration of the type Events "
                "API v2"
            ),
        ),
        Mistake(
            title="PagerDuty in plain",
            instead_of="#end",
            wrote=f'[[channels]]\nname = "pager"\ntype = "pagerduty"\nrouting_key = "{"a" * 32}"\nurl = "http://p.example"',
            sentence="channels.pager.url must use https: it carries the routing key",
        ),
        Mistake(
            title="Alertmanager without an address",
            instead_of="#end",
            wrote='[[channels]]\nname = "alerts"\ntype = "alertmanager"',
            sentence=("channels.alerts.url is missing: give Alertmanager's address, such as http://alertmanager:9093"),
        ),
        Mistake(
            title="credentials in Alertmanager's address",
            instead_of="#end",
            wrote=ALERTS.replace("http://", "http://me:s3cret@"),
            sentence="channels.alerts.url must hold no credentials: give user and password, or a token",
        ),
        Mistake(
            title="Alertmanager with two proofs",
            instead_of="#end",
            wrote=ALERTS + 'user = "me"\npassword = "s3cret"\ntoken = "s3cret"',
            sentence="channels.alerts.token can't stand beside user and password: keep one of them",
        ),
        Mistake(
            title="Apprise without a URL",
            instead_of="#end",
            wrote='[[channels]]\nname = "phone"\ntype = "apprise"',
            sentence=(
                "channels.phone.url is missing: give Apprise's URL of the service, or url_file with the path of a "
                "file that holds it"
            ),
        ),
        Mistake(
            title="Apprise with something else than a URL",
            instead_of="#end",
            wrote='[[channels]]\nname = "phone"\ntype = "apprise"\nurl = "s3cret"',
            sentence=('channels.phone.url must be a URL of Apprise\'s, such as "ntfy://topic" or "tgram://token/chat"'),
        ),
        Mistake(
            title="a route to a channel near one",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nchannels = ["hok"]',
            sentence='routes[0].channels[0] names "hok", which is no channel; did you mean "hook"?',
        ),
        Mistake(
            title="a route to a channel near none",
            instead_of="#end",
            wrote=f'[[routes]]\nchannels = ["{"x" * 70}"]',
            sentence=f'routes[0].channels[0] names "{"x" * 59}…", which is no channel: define it under [[channels]]',
        ),
        Mistake(
            title="a route to nothing",
            instead_of="#end",
            wrote="[[routes]]\nchannels = []",
            sentence="routes[0].channels is missing: name at least one channel",
        ),
        Mistake(
            title="a route by an unknown field",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { teem = "ops" }\nchannels = ["hook"]',
            sentence='routes[0].match.teem is not a known key; did you mean "team"?',
        ),
        Mistake(
            title="a route that matches nothing",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { team = [] }\nchannels = ["hook"]',
            sentence="routes[0].match.team is missing: give it at least one value",
        ),
        Mistake(
            title="a route for a target near one",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { target = "glo-*" }\nchannels = ["hook"]',
            sentence=(
                'routes[0].match.target matches nothing: there is no target like "glo-*"; did you mean "gloo-prod"?'
            ),
        ),
        Mistake(
            title="a route for a target near none",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { target = ["eu-*", "us-*"] }\nchannels = ["hook"]',
            sentence=(
                'routes[0].match.target matches nothing: there is no target like "eu-*" or "us-*"; there is '
                '"channel:hook" or "gloo-prod"'
            ),
        ),
        Mistake(
            title="a route for a team that does not exist",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { team = "credential" }\nchannels = ["hook"]',
            sentence=(
                'routes[0].match.team matches nothing: there is no incident for a team like "credential"; did you '
                'mean "credentials"?'
            ),
        ),
        Mistake(
            title="a route for a severity that no rule has",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { severity = "info" }\nchannels = ["hook"]',
            sentence=(
                'routes[0].match.severity matches nothing: there is no incident of a severity like "info"; there is '
                '"critical" or "warning"'
            ),
        ),
        Mistake(
            title="a route for a status in a cause's place",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { cause = "401" }\nchannels = ["hook"]',
            sentence=('routes[0].match.cause matches nothing: there is no cause like "401": mend it, or remove it'),
        ),
        Mistake(
            title="a route for groups where there are none",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { group = "faq" }\nchannels = ["hook"]',
            sentence=(
                "routes[0].match.group matches nothing: only incidents about items (items_failed, items_missing, "
                "items_regressed, items_stuck, items_invalid, unrecognised_status) have groups, of targets whose sync "
                "log has a group_column; set one, or remove the route"
            ),
        ),
        Mistake(
            title="a route for what never comes together",
            instead_of="#end",
            wrote=HOOK + '[[routes]]\nmatch = { team = "credentials", cause = "outage" }\nchannels = ["hook"]',
            sentence=(
                'routes[0].match matches nothing: there is no incident with team "credentials" and cause "outage"; '
                "`rules list` has the rules in force"
            ),
        ),
        Mistake(
            title="a route behind one that takes everything",
            instead_of="#end",
            wrote=HOOK
            + '[[routes]]\nchannels = ["hook"]\n[[routes]]\nmatch = { team = "account" }\nchannels = ["log"]',
            sentence=(
                "routes[1] is never reached: routes[0] takes all that it matches; put it before that one, or say "
                "continue = true there"
            ),
        ),
        Mistake(
            title="a route behind two that take everything together",
            instead_of="#end",
            wrote=HOOK
            + '[[routes]]\nmatch = { severity = "critical" }\nchannels = ["hook"]\n'
            + '[[routes]]\nmatch = { severity = "warning" }\nchannels = ["log"]\n[[routes]]\nchannels = ["log"]',
            sentence=(
                "routes[2] is never reached: routes[0] and routes[1] take all that it matches; put it before them, "
                "or say continue = true in them"
            ),
        ),
    ],
    "Variables in the file": [
        Mistake(
            title="an unset variable",
            instead_of='publisher_id = "p1"',
            wrote='publisher_id = "x-${PUBLISHER}"',
            sentence=(
                "targets.gloo-prod.publisher_id needs the variable PUBLISHER, which is not set: set "
                "it in the environment or in .env"
            ),
        ),
        Mistake(
            title="an empty variable",
            instead_of='publisher_id = "p1"',
            wrote='publisher_id = "${EMPTY}"',
            sentence=(
                "targets.gloo-prod.publisher_id needs the variable EMPTY, which is empty: give it a "
                "value in the environment or in .env"
            ),
        ),
        Mistake(
            title="an unset variable in a file's path",
            instead_of=AUTH,
            wrote='auth = { api_key_file = "${KEYS}/gloo" }',
            sentence=(
                "targets.gloo-prod.auth.api_key_file needs the variable KEYS, which is not set: set "
                "it in the environment or in .env"
            ),
        ),
        Mistake(
            title="a variable without a name",
            instead_of='publisher_id = "p1"',
            wrote='publisher_id = "${}"',
            sentence=(
                "targets.gloo-prod.publisher_id holds ${…} without a variable's name: write ${NAME}, "
                "or $$ for a dollar sign"
            ),
        ),
    ],
}

DATABASE = [
    Mistake(
        title="a database server that does not answer",
        instead_of="#top",
        wrote='database = "postgresql://monitor:s3cret@127.0.0.1:1/monitor"',
        sentence="database PostgreSQL 127.0.0.1:1/monitor can't be reached; check that the server runs and that host "
        "and port are right",
    ),
    Mistake(
        title="a database in a folder that is not there",
        instead_of="#top",
        wrote='database = "sqlite:///no/such/monitor.db"',
        sentence="database SQLite FOLDER/no/such/monitor.db can't be locked for an upgrade (No such file or "
        "directory); check that its folder exists and that this user may write there",
    ),
    Mistake(
        title="a database that is another kind of file",
        instead_of="#top",
        wrote='database = "sqlite:///monitor.toml"',
        sentence="database SQLite FOLDER/monitor.toml is not a SQLite database, or is damaged; name another file, or "
        "restore a copy",
    ),
]
"""What shows when the monitor's own database is opened."""

SYNC_LOG = [
    Mistake(
        title="a sync log on a server that does not answer",
        instead_of=URL,
        wrote='url = "postgresql://reader:s3cret@127.0.0.1:1/pipeline"',
        sentence="sync log 127.0.0.1:1/pipeline can't be reached; check that the server runs and that host and port "
        "are right",
    ),
    Mistake(
        title="a sync log that does not exist",
        instead_of=URL,
        wrote='url = "sqlite:///pipelin.db"',
        sentence="sync log FOLDER/pipelin.db does not exist; correct the path in the sync log's url, or start the "
        "pipeline that writes it",
    ),
    Mistake(
        title="a sync log that is another kind of file",
        instead_of=URL,
        wrote='url = "sqlite:///monitor.toml"',
        sentence="sync log FOLDER/monitor.toml is not a SQLite database, or is damaged; correct the path in the sync "
        "log's url",
    ),
    Mistake(
        title="a slip in the table's name",
        instead_of="#sync_log",
        wrote='table = "synclog"',
        sentence='sync log FOLDER/pipeline.db has no table "synclog"; did you mean "sync_log"?',
    ),
    Mistake(
        title="a table that is not there",
        instead_of="#sync_log",
        wrote='table = "documents"',
        sentence='sync log FOLDER/pipeline.db has no table "documents"; there is "sync_log"',
    ),
    Mistake(
        title="a slip in the id's column",
        instead_of="#sync_log",
        wrote='id_column = "itemid"',
        sentence='sync log FOLDER/pipeline.db, table "sync_log": it has no column "itemid"; did you mean "item_id"?',
    ),
    Mistake(
        title="a column that is not there",
        instead_of="#sync_log",
        wrote='group_column = "customer"',
        sentence='sync log FOLDER/pipeline.db, table "sync_log": it has no column "customer"; '
        'there is "item_id" or "uploaded_at"',
    ),
]
"""What shows when the sync log is read: it holds one table, sync_log(item_id, uploaded_at)."""

PAGE = """\
# Mistakes, and what the monitor says to them

`ingestion-monitor config check` tells every problem of the configuration at once, each with its key and a remedy, and
contacts nothing; `ingestion-monitor doctor` goes on to try databases, credentials and channels. No sentence holds a
secret or a connection URL.

This page is made from the table that the tests try, sentence by sentence: `python tests/config/mistakes.py
docs/mistakes.md` makes it anew. `…/` stands for the folder of `monitor.toml`.

{sections}"""


def page():
    """docs/mistakes.md."""
    sections = [_section("Files", [_bad_file(each) for each in FILES])]
    sections += [_section(title, [_line(each) for each in mistakes]) for title, mistakes in LINES.items()]
    sections.append(_section("Variables", [_bad_variables(each) for each in VARIABLES]))
    tried = [_line(each) for each in [*DATABASE, *SYNC_LOG]]
    sections.append(_section("What shows when databases are opened", tried))
    return PAGE.format(sections="\n".join(sections))


def _section(title, entries):
    return f"## {title}\n\n" + "\n".join(entries)


def _entry(title, language, block, sentences):
    said = "\n>\n".join(f"> {sentence.replace('FOLDER', '…')}" for sentence in sentences)
    return f"**{title[0].upper()}{title[1:]}**\n\n{_fenced(language, block)}\n{said}\n"


def _fenced(language, block):
    return f"```{language}\n{block}\n```\n" if block else ""


def _line(mistake):
    wrote = mistake.wrote.strip() or "\n".join(
        f"# left out: {line}" for line in mistake.instead_of.splitlines() if line and not line.startswith("#")
    )
    return _entry(mistake.title, "toml", wrote if len(wrote) < 200 else f"{wrote[:60]}…", [mistake.sentence])


def _bad_file(bad):
    shown = bad.content.decode("latin-1").strip() if bad.content is not None else ""
    return _entry(bad.title, "toml" if bad.name.endswith(".toml") else "sh", shown, [bad.sentence])


def _bad_variables(bad):
    return _entry(bad.title, "sh", "\n".join(f"{name}={value}" for name, value in bad.variables.items()), bad.sentences)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
