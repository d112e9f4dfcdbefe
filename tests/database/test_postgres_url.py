"""PostgreSQL connection URLs: what libpq takes is taken, and what it would misread is refused."""

import re

import pytest

from monitor.database.postgres_url import connection_parameters, describe_server, has_secret, parse_postgres_url

SPECIAL = ["@", ":", "/", "?", "#", "@@", "@/", "/@", "?@", "#@", ":@", "/?", "?sslmode=x@", "%", " "]


@pytest.mark.parametrize("between", SPECIAL)
@pytest.mark.parametrize("user_info", ["me:Hrs3{}Btry", "Hrs3{}Btry:secret", "me:12{}Btry", "Hrs3{}Btry", "me:{}Btry"])
@pytest.mark.parametrize("rest", ["@db/pipeline", "@a:1,b:2/pipeline?sslmode=require", "@%2Frun%2Fpg/pipeline"])
def test_a_user_or_password_that_is_not_escaped_is_refused_without_a_part_of_it(between, user_info, rest):
    if user_info == "Hrs3{}Btry" and between == ":":
        return  # a user and a password

    with pytest.raises(ValueError, match=r"escape|write a percent sign as %25") as caught:
        parse_postgres_url(f"postgresql://{user_info.format(between)}{rest}")

    assert not re.search("Hrs3|Btry|secret|12", str(caught.value))


@pytest.mark.parametrize("character", "@:/?#% ")
def test_the_same_password_escaped_is_the_password(character):
    url = parse_postgres_url(f"postgresql://u%40x:a%{ord(character):02X}b@db/pipeline")

    assert connection_parameters(url) == {
        "host": "db", "user": "u@x", "password": f"a{character}b", "dbname": "pipeline"
    }  # fmt: skip
    assert describe_server(url) == "db:5432/pipeline"


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://a:1,b:2/d", {"host": "a,b", "port": "1,2", "dbname": "d"}),
        ("postgresql://a,b/d?port=7", {"host": "a,b", "port": "7,7", "dbname": "d"}),
        ("postgresql:///d?host=a:1&host=b:2", {"host": "a,b", "port": "1,2", "dbname": "d"}),
        ("postgresql:///d?host=/run/pg&port=7", {"host": "/run/pg", "port": "7", "dbname": "d"}),
        ("postgresql://%2Frun%2Fpg/d", {"host": "/run/pg", "dbname": "d"}),
        ("postgresql://db/d?", {"host": "db", "dbname": "d"}),
        ("postgresql://db/d?ssl=true", {"host": "db", "dbname": "d", "sslmode": "require"}),
        ("postgresql://db/d?options=-csearch_path%3Dx", {"host": "db", "dbname": "d", "options": "-csearch_path=x"}),
        ("postgresql://?dbname=d&user=u", {"dbname": "d", "user": "u"}),
    ],
)
def test_what_libpq_takes_is_taken(url, parameters):
    assert connection_parameters(parse_postgres_url(url)) == parameters


def test_a_service_file_names_host_and_database(tmp_path, monkeypatch):
    (tmp_path / "services").write_text("[pipeline]\nhost=db\ndbname=x\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))

    assert describe_server(parse_postgres_url("postgresql://?service=pipeline")) == "service pipeline"
    with pytest.raises(ValueError, match=r"service other which libpq does not find"):
        parse_postgres_url("postgresql://?service=other")


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("schema=public", r'the parameter "schema", which libpq .* search_path'),
        ("pgbouncer=true&connection_limit=1", r'the parameter "pgbouncer", .* works behind PgBouncer'),
        ("connection_limit=1", r'the parameter "connection_limit"'),
        ("prepare_threshold=0", r'the parameter "prepare_threshold"'),
        ("ssl=require", r'the parameter "ssl", .* write sslmode=require'),
        ("currentSchema=x", r'the parameter "currentSchema"'),
        ("sslmod=require", r'the parameter "sslmod", .* did you mean sslmode\?'),
        ("made_up=1", r'the parameter "made_up", .* remove it'),
        ("sslmode=no-verify", r"a value of sslmode .* verify-full"),
        ("target_session_attrs=primry", r"a value of target_session_attrs"),
        ("connect_timeout=soon", r"a value of connect_timeout that is not a whole number"),
        ("sslmode", r"a query that is not name=value"),
        ("port=x", r"a port that is no number"),
        ("port=70000", r"a port that is no number"),
        ("port=1,2", r"not one port for each host"),
        ("hostaddr=a%40b", r"a host with an @"),
    ],
)
def test_a_parameter_that_libpq_does_not_know_is_named_with_a_remedy(query, fault):
    with pytest.raises(ValueError, match=fault):
        parse_postgres_url(f"postgresql://u:canary@db/d?{query}")


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("postgresql://u@db/d", False),
        ("postgresql://u:p@db/d", True),
        ("postgresql://db/d?password=p", True),
        ("postgresql://db/d?sslpassword=p", True),
        ("postgresql://db/d?passfile=/x", False),
    ],
)
def test_a_url_holds_a_secret_if_it_has_a_password_of_any_kind(url, secret):
    assert has_secret(parse_postgres_url(url)) is secret
