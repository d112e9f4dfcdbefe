import os

import pytest

CAUSES = (
    '"spending_limit", "unauthorized", "forbidden", "wrong_scope", "rate_limited", "outage", "bad_response", '
    '"bad_request", "items_failed", "items_missing", "items_stuck", "items_invalid" or "sync_log_unreadable"'
)
AUTH = 'auth = { client_id = "id", client_secret = "s3cret" }'
IN_SYNC_LOG = 'url = "sqlite:///pipeline.db"'
HOOK = '[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "https://hooks.example/x"\n'

MISTAKES = {
    # what is wrong: (what to replace in the valid file, by what, the sentence)
    "an unknown key": ("#top", 'databse = "x"', 'databse is not a known key; did you mean "database"?'),
    "an unknown key near nothing": (
        "#schedule",
        "jitter = 1",
        "schedule.jitter is not a known key; known here: cron, every, timezone",
    ),
    "an unknown key in a target": (
        "#check",
        'deadlin = "3m"',
        'targets.gloo-prod.check.deadlin is not a known key; did you mean "deadline"?',
    ),
    "an unknown key beside credentials": (
        AUTH,
        'auth = { client_id = "id", client_secret = "s3cret", client_scret_file = "x" }',
        'targets.gloo-prod.auth.client_scret_file is not a known key; did you mean "client_secret_file"?',
    ),
    "a key with control characters": (
        "#schedule",
        '"ev\\u001bry" = 1',
        'schedule.ev?ry is not a known key; did you mean "every"?',
    ),
    "an option of a later version": (
        "#check",
        'rate = "50/s"',
        "targets.gloo-prod.check.rate is not available in this version: remove it",
    ),
    "a share of the rate": (
        "#check",
        "rate_share = 0.5",
        "targets.gloo-prod.check.rate_share is not available in this version: remove it",
    ),
    "the fast client": (
        "#check",
        'http = "fast"',
        'targets.gloo-prod.check.http must be "httpx": "fast" is not available in this version',
    ),
    "the list strategy": (
        "#check",
        'strategy = "list"',
        'targets.gloo-prod.check.strategy must be "items" or "auto": "list" is not available in this version',
    ),
    "an unknown strategy": (
        "#check",
        'strategy = "item"',
        'targets.gloo-prod.check.strategy is not a known value; did you mean "items"?',
    ),
    "a bad duration": (
        "#check",
        'deadline = "4 minutes"',
        'targets.gloo-prod.check.deadline must be a duration such as "30s", "5m" or "1h30m"',
    ),
    "a bare number for a duration": (
        "#check",
        "deadline = 240",
        'targets.gloo-prod.check.deadline must be a duration such as "30s", "5m" or "1h30m"',
    ),
    "a duration of nothing": ("#schedule", 'every = "0s"', "schedule.every must be between 1s and 7d"),
    "a duration beyond sense": (
        "#check",
        'stuck_after = "31d"',
        "targets.gloo-prod.check.stuck_after must be between 1s and 30d",
    ),
    "no concurrency": ("#check", "concurrency = 0", "targets.gloo-prod.check.concurrency must be 1 or more"),
    "too much concurrency": (
        "#check",
        "concurrency = 1025",
        "targets.gloo-prod.check.concurrency must be 1024 or less",
    ),
    "a word for a number": (
        "#check",
        'max_attempts = "many"',
        "targets.gloo-prod.check.max_attempts must be a whole number",
    ),
    "half an attempt": ("#check", "max_attempts = 1.5", "targets.gloo-prod.check.max_attempts must be a whole number"),
    "a word for a yes": ("#target", 'allow_http = "maybe"', "targets.gloo-prod.allow_http must be true or false"),
    "a list for a yes": ("#target", "allow_http = []", "targets.gloo-prod.allow_http must be true or false"),
    "a number for a text": ("#top", "environment = 5", "environment must be text in quotes"),
    "a blank text": ("#top", 'environment = " "', "environment must be printable text, and not blank"),
    "an endless text": (
        "#top",
        f'environment = "{"x" * 201}"',
        "environment must be no longer than 200 characters",
    ),
    "a text for a table": ("[schedule]\n#schedule", 'schedule = "5m"', "schedule must be a table"),
    "a text for a list": ("#end", '[[channels]]\nname = "log"\ntype = "log"\n[[routes]]\nchannels = "log"',
                          "routes[0].channels must be a list"),
    "a text for a mapping": ("#target", 'statuses = "x"', "targets.gloo-prod.statuses must be a table"),
    "a text for credentials": (
        AUTH,
        'auth = "s3cret"',
        'targets.gloo-prod.auth must be a table, such as { client_id = "…", client_secret_file = "…" }',
    ),
    "both schedules": (
        "#schedule",
        'every = "5m"\ncron = "*/5 * * * *"',
        "schedule.every can't stand beside cron: keep one of them",
    ),
    "a bad cron expression": (
        "#schedule",
        'cron = "*/5 * * *"',
        'schedule.cron must be a cron expression of five fields, for dates that exist, such as "*/5 * * * *"',
    ),
    "cron with a bad field": (
        "#schedule",
        'cron = "*/5 * * * MOO"',
        'schedule.cron must be a cron expression of five fields, for dates that exist, such as "*/5 * * * *"',
    ),
    "cron for a date that never comes": (
        "#schedule",
        'cron = "0 0 30 2 *"',
        'schedule.cron must be a cron expression of five fields, for dates that exist, such as "*/5 * * * *"',
    ),
    "an unknown time zone": (
        "#schedule",
        'timezone = "Europe/Pariss"',
        'schedule.timezone must be a time zone\'s name, such as "Europe/Paris" or "UTC"',
    ),
    "a path for a time zone": (
        "#sync_log",
        'timezone = "../../etc/passwd"',
        'targets.gloo-prod.sync_log.timezone must be a time zone\'s name, such as "Europe/Paris" or "UTC"',
    ),
    "a folder of time zones": (
        "#schedule",
        'timezone = "America"',
        'schedule.timezone must be a time zone\'s name, such as "Europe/Paris" or "UTC"',
    ),
    "no name": ('name = "gloo-prod"', "", "targets[0].name is missing: give the target a name, such as gloo-prod"),
    "a bad name": (
        'name = "gloo-prod"',
        'name = "gloo prod"',
        "targets[0].name may hold only letters, digits, dots, underscores and hyphens: 1 to 100 of them",
    ),
    "no provider": ('provider = "gloo"', "", 'targets.gloo-prod.provider is missing: say which API it is: "gloo"'),
    "an unknown provider": ('provider = "gloo"', 'provider = "gloop"', 'targets.gloo-prod.provider must be "gloo"'),
    "a provider of a later version": (
        'provider = "gloo"',
        'provider = "uppzy"',
        'targets.gloo-prod.provider must be "gloo": "uppzy" is not available in this version',
    ),
    "no publisher": (
        'publisher_id = "p1"',
        "",
        "targets.gloo-prod.publisher_id is missing: give the id of the publisher whose items are watched",
    ),
    "plain http": (
        "#target",
        'base_url = "http://gateway.example"',
        "targets.gloo-prod.base_url must use https; plain http goes only to this machine, or with allow_http = true",
    ),
    "a base URL that is none": (
        "#target",
        'base_url = "platform.ai.gloo.com"',
        'targets.gloo-prod.base_url must be a URL such as "https://platform.ai.gloo.com"',
    ),
    "credentials in the base URL": (
        "#target",
        'base_url = "https://me:s3cret@host"',
        "targets.gloo-prod.base_url must hold only scheme, host and path: credentials belong under auth",
    ),
    "no credentials": (
        AUTH,
        "",
        ("targets.gloo-prod.auth is missing: give the credentials, as in "
        'auth = { client_id = "…", client_secret_file = "…" }'),
    ),
    "neither form of credentials": (
        AUTH,
        "auth = {}",
        ("targets.gloo-prod.auth is missing: give client_id and client_secret (or client_secret_file), "
        "or api_key (or api_key_file)"),
    ),
    "both forms of credentials": (
        AUTH,
        'auth = { client_id = "id", client_secret = "s3cret", api_key = "s3cret" }',
        "targets.gloo-prod.auth holds both an API key and client credentials: keep one of them",
    ),
    "no client secret": (
        AUTH,
        'auth = { client_id = "id" }',
        ("targets.gloo-prod.auth.client_secret is missing: give it, "
        "or client_secret_file with the path of a file that holds it"),
    ),
    "no client id": (
        AUTH,
        'auth = { client_secret = "s3cret" }',
        "targets.gloo-prod.auth.client_id is missing: give the id that belongs to the client secret",
    ),
    "an empty secret": (
        AUTH,
        'auth = { api_key = "" }',
        "targets.gloo-prod.auth.api_key is empty: give it a value",
    ),
    "a secret with a line break": (
        AUTH,
        'auth = { api_key = "s3cret\\n" }',
        "targets.gloo-prod.auth.api_key holds control characters: was it copied with a line break?",
    ),
    "a key that no header carries": (
        AUTH,
        'auth = { api_key = "s3crét" }',
        "targets.gloo-prod.auth.api_key holds characters that no HTTP header can carry: was it copied whole?",
    ),
    "a secret twice": (
        AUTH,
        'auth = { api_key = "s3cret", api_key_file = "key" }',
        "targets.gloo-prod.auth.api_key_file can't stand beside the secret itself: keep one of them",
    ),
    "a secret file that is not there": (
        AUTH,
        'auth = { api_key_file = "key" }',
        ("targets.gloo-prod.auth.api_key_file names FOLDER/key, which can't be read (No such file or directory); "
        "mend the path or its permissions"),
    ),
    "an empty secret file": (
        AUTH,
        'auth = { api_key_file = "empty" }',
        "targets.gloo-prod.auth.api_key_file names FOLDER/empty, which is empty: give it a value",
    ),
    "no sync log": (
        f"[targets.sync_log]\n{IN_SYNC_LOG}\n#sync_log",
        "",
        ("targets.gloo-prod.sync_log is missing: say where your pipeline records its uploads, "
        "with url, table and id_column"),
    ),
    "a sync log without a URL": (
        IN_SYNC_LOG,
        "",
        "targets.gloo-prod.sync_log.url is missing: give the connection URL of the database that holds your sync log",
    ),
    "an unsupported database": (
        "#top",
        'database = "mysql://me:s3cret@db/x"',
        "database must begin with sqlite:/// or postgresql://; no other database is supported",
    ),
    "a connection URL with a raw password": (
        IN_SYNC_LOG,
        'url = "postgresql://me:s3cret/x@db/x"',
        ("targets.gloo-prod.sync_log.url can't be taken apart: escape special characters in user and password "
        "(@ as %40, / as %2F)"),
    ),
    "a database in memory": (
        "#top",
        'database = "sqlite:///:memory:"',
        'database must name a file, as in "sqlite:///monitor.db"',
    ),
    "an unknown state": (
        "#target",
        'statuses = { done = ["OK"] }',
        "targets.gloo-prod.statuses.done is not a known key; known here: pending, completed, failed",
    ),
    "a status with two meanings": (
        "#target",
        'statuses = { pending = ["DONE"], completed = ["done"] }',
        "targets.gloo-prod.statuses gives one status twice: a status means one thing",
    ),
    "an unknown cause": (
        "#end",
        '[[rules]]\ncause = "unauthorised"',
        'rules[0].cause is not a known value; did you mean "unauthorized"?',
    ),
    "a cause near nothing": ("#end", '[[rules]]\ncause = "zzz"', f"rules[0].cause must be {CAUSES}"),
    "a number for a cause": ("#end", "[[rules]]\ncause = 5", f"rules[0].cause must be {CAUSES}"),
    "an unknown team": (
        "#end",
        '[[rules]]\ncause = "outage"\nteam = "pipelin"',
        'rules[0].team is not a known value; did you mean "pipeline"?',
    ),
    "a rule that can't fire": (
        "#end",
        '[[rules]]\ncause = "outage"\nruns = 3\nof = 2',
        "rules[0].of is smaller than runs, so that the rule could never open an incident: raise it, or lower runs",
    ),
    "a rule without a cause": (
        "#end",
        "[[rules]]\nruns = 3",
        "rules[0].cause is missing: say which cause the rule is for",
    ),
    "two channels of one name": (
        "#end",
        HOOK + HOOK,
        "channels[1].name repeats the name of channels[0]: give each a name of its own",
    ),
    "a channel of a later version": (
        "#end",
        '[[channels]]\nname = "oncall"\ntype = "slack"',
        'channels.oncall.type must be "log" or "webhook": "slack" is not available in this version',
    ),
    "a webhook without a URL": (
        "#end",
        '[[channels]]\nname = "hook"\ntype = "webhook"',
        "channels.hook.url is missing: give the webhook's url, or url_file with the path of a file that holds it",
    ),
    "a webhook to nowhere": (
        "#end",
        '[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "s3cret"',
        "channels.hook.url must be a URL that begins with https:// or http://",
    ),
    "a log with a URL": (
        "#end",
        '[[channels]]\nname = "hook"\ntype = "log"\nurl = "https://hooks.example/s3cret"',
        "channels.hook.url has no meaning for the log: remove it",
    ),
    "a route to a channel near one": (
        "#end",
        HOOK + '[[routes]]\nchannels = ["hok"]',
        'routes[0].channels[0] names "hok", which is no channel; did you mean "hook"?',
    ),
    "a route to a channel near none": (
        "#end",
        f'[[routes]]\nchannels = ["{"x" * 70}"]',
        f'routes[0].channels[0] names "{"x" * 59}…", which is no channel: define it under [[channels]]',
    ),
    "a route to nothing": (
        "#end",
        "[[routes]]\nchannels = []",
        "routes[0].channels is missing: name at least one channel",
    ),
    "a route by an unknown field": (
        "#end",
        HOOK + '[[routes]]\nmatch = { teem = "ops" }\nchannels = ["hook"]',
        'routes[0].match.teem is not a known key; did you mean "team"?',
    ),
    "a route that matches nothing": (
        "#end",
        HOOK + '[[routes]]\nmatch = { team = [] }\nchannels = ["hook"]',
        "routes[0].match.team is missing: give it at least one value",
    ),
    "an unset variable": (
        'publisher_id = "p1"',
        'publisher_id = "x-${PUBLISHER}"',
        ("targets.gloo-prod.publisher_id needs the variable PUBLISHER, which is not set: "
        "set it in the environment or in .env"),
    ),
    "an unset variable in a file's path": (
        AUTH,
        'auth = { api_key_file = "${KEYS}/gloo" }',
        ("targets.gloo-prod.auth.api_key_file needs the variable KEYS, which is not set: "
        "set it in the environment or in .env"),
    ),
    "a variable without a name": (
        'publisher_id = "p1"',
        'publisher_id = "${}"',
        ("targets.gloo-prod.publisher_id holds ${…} without a variable's name: write ${NAME}, "
        "or $$ for a dollar sign"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_file_is_one_sentence_with_its_key_and_a_remedy(desk, valid, mistake):
    old, new, sentence = MISTAKES[mistake]
    assert valid.count(old) == 1
    (desk.folder / "empty").touch()

    problems = desk.problems(desk.write(valid.replace(old, new)))

    assert problems == [sentence.replace("FOLDER", str(desk.folder))]


def test_all_mistakes_are_told_at_once(desk, valid):
    text = valid.replace("#top", 'environment = ""').replace("#schedule", 'every = "x"').replace("#check", "http = 1")
    again = '[[targets]]\nname = "gloo-prod"\nprovider = "gloo"\n'
    path = desk.write(text.replace("#end", again), dotenv="MONITOR_ROUTES=[")

    assert desk.problems(path, {"MONITOR_CHANNELS": '[{"name": "log", "type": "logg"}]'}) == [
        'MONITOR_ROUTES must be JSON, such as [{"name": "…"}] for a list or {"every": "5m"} for a table',
        "targets[1].name repeats the name of targets[0]: give each a name of its own",
        "environment must be printable text, and not blank",
        'schedule.every must be a duration such as "30s", "5m" or "1h30m"',
        'targets[0].check.http must be "httpx"',
        "targets[1].publisher_id is missing: give the id of the publisher whose items are watched",
        'targets[1].auth is missing: give the credentials, as in auth = { client_id = "…", client_secret_file = "…" }',
        "targets[1].sync_log is missing: say where your pipeline records its uploads, with url, table and id_column",
        'channels.log.type in MONITOR_CHANNELS is not a known value; did you mean "log"?',
    ]


def test_two_targets_of_one_name_are_told_by_position(desk, valid):
    twin = '[[targets]]\nname = "gloo-prod"\nprovider = "gloo"\npublisher_id = "p2"\n'
    twin += f"{AUTH}\n[targets.sync_log]\n{IN_SYNC_LOG.replace('pipeline', 'other')}"

    assert desk.problems(desk.write(valid.replace("#end", twin))) == [
        "targets[1].name repeats the name of targets[0]: give each a name of its own"
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a = = 1", "is not valid TOML at line 1, column 5: "),
        (b'a = "s3cret', "is not valid TOML at end of document: "),
        (b"a = 1\na = 2\n", "is not valid TOML at line 2, column 6: "),
        (b"a = " + b"[" * 100_000, "is not valid TOML where it nests too deeply: "),
    ],
    ids=["syntax", "unclosed", "repeated", "deep"],
)
def test_a_syntax_error_is_told_by_its_place_alone(desk, content, sentence):
    path = desk.folder / "monitor.toml"
    path.write_bytes(content)

    remedy = "mend what stands there (text needs quotes, tables [brackets])"
    assert desk.problems(path) == [f"{path} {sentence}{remedy}"]


def test_a_file_that_cannot_be_read_is_told_and_what_it_lacks_is_not(desk):
    path = desk.folder / "monitor.toml"

    assert desk.problems(path) == [
        f"{path} can't be read (No such file or directory): mend the path or its permissions"
    ]
    assert desk.problems(desk.folder) == [
        f"{desk.folder} can't be read (Is a directory): mend the path or its permissions"
    ]
    path.write_bytes(b"\xff")
    assert desk.problems(path) == [f"{path} is not UTF-8 text: save it as UTF-8"]
    os.truncate(path, (1 << 20) + 1)
    assert desk.problems(path) == [f"{path} is larger than 1 MiB: name a configuration file"]


def test_a_dotenv_file_that_cannot_be_read_is_told_by_line(desk, valid):
    path = desk.write(valid, dotenv="GOOD=1\n'bad s3cret\n")
    dotenv = desk.folder / ".env"
    assert desk.problems(path) == [f"{dotenv} can't be read at line 2: write NAME=value"]

    dotenv.write_bytes(b"\xff")
    assert desk.problems(path) == [f"{dotenv} is not UTF-8 text: save it as UTF-8"]


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"MONITOR_ENVIRONMENT": ""}, "MONITOR_ENVIRONMENT must be printable text, and not blank"),
        ({"monitor_environment": ""}, "monitor_environment must be printable text, and not blank"),
        ({"MONITOR_DATABASE": ""}, "MONITOR_DATABASE is empty: give it a value"),
        (
            {"MONITOR_DATABASE_FILE": "/no/such"},
            (
                "MONITOR_DATABASE_FILE names /no/such, which can't be read (No such file or directory); "
                "mend the path or its permissions"
            ),
        ),
        ({"MONITOR_SCHEDULE__EVERY": "9d"}, "MONITOR_SCHEDULE__EVERY must be between 1s and 7d"),
        ({"MONITOR_SCHEDULE": '{"every": "9d"}'}, "schedule.every in MONITOR_SCHEDULE must be between 1s and 7d"),
        (
            {"MONITOR_TARGETS": "[{s3cret"},
            'MONITOR_TARGETS must be JSON, such as [{"name": "…"}] for a list or {"every": "5m"} for a table',
        ),
        (
            {"MONITOR_TARGETS": "[" * 100_000},
            'MONITOR_TARGETS must be JSON, such as [{"name": "…"}] for a list or {"every": "5m"} for a table',
        ),
        ({"MONITOR_TARGETS": "3"}, "MONITOR_TARGETS must be a list"),
        (
            {"MONITOR_CHANNELS": '[{"name": "a", "type": "log", "x": 1}]'},
            "channels.a.x in MONITOR_CHANNELS is not a known key; known here: name, type, url, url_file",
        ),
    ],
)
def test_a_mistake_in_a_variable_is_told_by_the_variable(desk, environ, sentence):
    assert desk.problems(desk.write(), environ) == [sentence]


def test_a_mistake_on_the_command_line_is_told_by_its_key(desk):
    problems = desk.problems(desk.write(), {"MONITOR_SCHEDULE__EVERY": "9d"}, schedule={"every": "8d"})

    assert problems == ["schedule.every must be between 1s and 7d"]


@pytest.mark.parametrize(
    ("environ", "sentences"),
    [
        (
            {},
            [
                (
                    "targets is missing: describe what to watch, in [[targets]] of monitor.toml; or set "
                    "GLOO_PUBLISHER_ID, GLOO_CLIENT_ID, GLOO_CLIENT_SECRET and MONITOR_SYNC_LOG_URL"
                )
            ],
        ),
        (
            {"GLOO_CLIENT_ID": "id"},
            [
                "GLOO_PUBLISHER_ID is missing: give the id of the publisher whose items are watched",
                "GLOO_CLIENT_SECRET is missing: give it, or client_secret_file with the path of a file that holds it",
                "MONITOR_SYNC_LOG_URL is missing: give the connection URL of the database that holds your sync log",
            ],
        ),
        (
            {"GLOO_PUBLISHER_ID": "p", "MONITOR_SYNC_LOG_URL": "sqlite:///p.db"},
            [
                (
                    "GLOO_CLIENT_ID with GLOO_CLIENT_SECRET, or GLOO_API_KEY is missing: give client_id and "
                    "client_secret (or client_secret_file), or api_key (or api_key_file)"
                )
            ],
        ),
        (
            {"GLOO_PUBLISHER_ID": "p", "MONITOR_SYNC_LOG_URL": "mysql:///p", "GLOO_API_KEY": ""},
            [
                "GLOO_API_KEY is empty: give it a value",
                "MONITOR_SYNC_LOG_URL must begin with sqlite:/// or postgresql://; no other database is supported",
            ],
        ),
    ],
    ids=["nothing", "half", "no credentials", "wrong values"],
)
def test_without_a_file_what_the_environment_lacks_is_told_by_its_variables(desk, environ, sentences):
    assert desk.problems(None, environ) == sentences


def test_one_bracket_too_few_is_told_as_such(desk):
    path = desk.write('[targets]\nname = "gloo"\n')
    assert desk.problems(path) == ["targets must be a list of tables: write [[targets]], with two brackets each side"]
