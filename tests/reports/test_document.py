"""A report as Markdown and as one HTML file: complete, and safe whatever its names hold."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reports import overviews
from reports.overviews import NOW, SAMPLE, facts, group, overview, row
from reports.samples import INCIDENT

from monitor.model import ItemState
from monitor.notifications.messages import one_line
from monitor.reports.changes import ItemChangeCount
from monitor.reports.document import report_document
from monitor.reports.html.report_file import report_html
from monitor.reports.overview import Changes
from monitor.reports.overview_markdown import code, escape, prose, report_markdown
from monitor.reports.overview_text import overview_text
from monitor.reports.report_message import as_message
from monitor.reports.trends import ReasonCount, StageCount, StuckItem

PAGE = "https://monitor.example.com"
HOSTILE = [
    "a|b", "@here", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "`code`", "``", "https://evil.example",
    "www.evil.example", "me@evil.example", "#12", "*b* _i_ ~~s~~", "line\nbreak\r\n| x |", "\\", "&lt;b&gt;", "{color}",
    "![i](http://evil.example/i.png)", "</style><script>alert(1)</script>", "\u202egnp.exe", "-->", "'\"",
]  # fmt: skip


def tokens(text):
    """Every token of a Markdown document as GitHub's dialect reads it, links found in plain text included."""
    for token in MarkdownIt("gfm-like").parse(text):
        yield token
        yield from token.children or ()


def cells(text):
    """The rows of all tables, each as the plain text of its cells."""
    rows = []
    for token in MarkdownIt("gfm-like").parse(text):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows and token.level >= 3:
            rows[-1].append("".join(child.content for child in token.children))
    return rows


def hostile_overview(name):
    """A report in which everything that comes from outside is this text."""
    target = facts(
        target=name,
        snapshot=row(failed=2, pending=3, stuck=1),
        group_count=1, groups=(group(name, failed=2, completed=3, pending=1),),
        stage_count=1, stages=(StageCount(stage=name, state=ItemState.FAILED, items=2),),
        reason_count=1, reasons=(ReasonCount(reason=name, items=2),),
        stuck=(StuckItem(item_id=name, pending_since=NOW - overviews.DAY, stage=name, group=name),),
        changes=Changes(
            since=NOW - overviews.DAY, first_report=False,
            items=(ItemChangeCount(to="failed", count=1, sample_ids=(name,)),),
        ),
    )  # fmt: skip
    incident = replace(INCIDENT, target=name, group=name, member_ids=(name,), member_count=2)
    return overview(target, incidents=(incident,), incident_count=1, environment=name)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown_has_what_the_report_has_in_tables_of_equal_rows():
    rows = cells(report_markdown(report_document(SAMPLE)))
    assert ["gloo", "complete", "986 completed, 12 pending (2 stuck), 2 failed, 0 not found"] in [r[:3] for r in rows]
    assert ["failed", "2", "0", "2"] in [[r[0], *r[2:]] for r in rows]
    assert ["sermons", "626", "97.8%", "12", "2", "2"] in rows
    assert ["5b7e88d0-90aa-4a52-b6f4-1c7d2e3f4003", "5 h", "EMBEDDING", "sermons"] in rows
    assert any(r[:4] == ["7", "gloo", "warning", "9 h"] for r in rows)


def test_markdown_links_incidents_of_the_page_and_nothing_else():
    linked = [token.attrs["href"] for token in tokens(report_markdown(report_document(SAMPLE, public_url=PAGE)))
              if token.type == "link_open"]  # fmt: skip
    assert linked == [f"{PAGE}/incidents/7"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_table_or_becomes_live(name):
    text = report_markdown(report_document(hostile_overview(name)))
    found = list(tokens(text))
    assert {token.type for token in found} & {
        "link_open",
        "image",
        "html_inline",
        "html_block",
        "em_open",
        "s_open",
    } == set()
    plain = "".join(token.content for token in found if token.type == "text")
    assert re.search(r"[@#]\w", plain) is None
    widths = {len(line) for line in cells(text)}
    assert widths <= {2, 3, 4, 5, 6, 7}
    assert [one_line(name), "1 d 0 h", one_line(name), one_line(name)] in [
        [cell if n != 1 else "1 d 0 h" for n, cell in enumerate(line)] for line in cells(text) if len(line) == 4
    ]


@given(st.text(max_size=20))
@pytest.mark.no_cover
def test_a_name_in_a_cell_is_shown_as_it_is(name):
    ((_,), (shown,)) = cells(f"| head |\n| --- |\n| {code(name)} |\n")
    assert shown == re.sub(" +$|^ +", "", one_line(name)) or shown.strip() == one_line(name).strip()


def test_a_command_in_a_sentence_is_code():
    found = list(tokens(prose("3 of `a*b`: run `ingestion-monitor notifications dead`.")))
    shown = [(each.type, each.content) for each in found if each.type in {"text", "code_inline"}]
    assert [each for each in shown if each[0] == "code_inline"] == [
        ("code_inline", "a*b"), ("code_inline", "ingestion-monitor notifications dead"),
    ]  # fmt: skip
    assert "`" not in "".join(content for _, content in shown)


@given(st.text(alphabet="`a b|@*<[", max_size=12))
@pytest.mark.no_cover
def test_a_sentence_with_any_backticks_is_text_and_code(sentence):
    found = list(tokens(f"It says {prose(sentence)}."))
    assert {token.type for token in found} <= {
        "paragraph_open", "paragraph_close", "inline", "text", "text_special", "softbreak", "code_inline",
    }  # fmt: skip


@given(st.text(max_size=20))
@pytest.mark.no_cover
def test_an_escaped_sentence_is_plain_text(sentence):
    found = list(tokens(f"It says {escape(sentence)}."))
    assert {token.type for token in found} <= {
        "paragraph_open",
        "paragraph_close",
        "inline",
        "text",
        "text_special",
        "softbreak",
    }


# --- HTML -------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements, attributes and text of a file."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts, self.style = [], [], [], ""
        self._inside = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in {"meta", "br", "path", "rect", "link", "input"}:
            self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside and self._inside[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    def all_of(self, *names):
        return [(tag, value) for tag, name, value in self.attributes if name in names]


def test_the_file_loads_nothing_and_says_so_in_its_policy():
    page = Page(report_html(SAMPLE, public_url=PAGE))
    assert {"script", "link", "img", "iframe", "object", "form", "base"} & set(page.elements) == set()
    assert page.all_of("src", "srcset", "style", "action", "data", "xlink:href") == []
    assert {value for _, value in page.all_of("href")} == {"#content", "#target-1", "#target-2", f"{PAGE}/incidents/7"}
    assert re.findall(r"url\((?!#)|@import", page.style) == []
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert ("meta", f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'") in (
        page.all_of("content")
    )


def test_the_file_has_the_figures_of_the_text_and_its_charts():
    page = Page(report_html(SAMPLE))
    shown = " ".join(" ".join(page.texts).split())
    for part in ("986", "98.6%", "2016", "4 min ago", "2026-03-07 12:00", "626", "97.8%", "doc-1"):
        assert part in shown
        assert part in " ".join(overview_text(SAMPLE).split())
    assert page.elements.count("figure") >= 4
    ids = [value for _, value in page.all_of("id")]
    assert len(set(ids)) == len(ids)


def test_ids_are_unique_with_several_targets():
    several = overview(facts(target="a", samples=SAMPLE.targets[0].facts.samples),
                       facts(target="b", samples=SAMPLE.targets[0].facts.samples))  # fmt: skip
    ids = [value for _, value in Page(report_html(several)).all_of("id")]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_stays_text(name):
    plain = Page(report_html(hostile_overview("plain")))
    page = Page(report_html(hostile_overview(name)))
    assert page.elements == plain.elements
    assert [(tag, attribute) for tag, attribute, _ in page.attributes] == [(t, a) for t, a, _ in plain.attributes]


def test_before_the_first_run_both_say_what_to_do():
    nothing = overview(facts(last_run=None, snapshot=None))
    assert "No run yet" in report_markdown(report_document(nothing))
    assert "No run yet" in report_html(nothing)


def test_before_there_is_a_trend_the_summary_has_the_completed_share():
    first = overview(facts(snapshot=row(failed=81)))
    assert ["gloo", "complete", "919 completed, 0 pending, 81 failed, 0 not found", "91.9%"] in cells(
        report_markdown(report_document(first))
    )


def test_a_run_in_progress_is_said_in_every_format():
    running = overview(facts(running_since=NOW))
    assert "A run has been in progress since" in report_markdown(report_document(running))
    assert "a run has been in progress" in report_html(running)


# --- many targets -----------------------------------------------------------------------------------------------------


def many(count):
    return overview(*(facts(target=f"t{n}", snapshot=row(failed=n)) for n in range(count)))


def test_of_many_targets_the_worst_have_details_and_the_summary_has_all():
    document = report_document(many(5), details=2)
    assert [section.name for section in document.sections] == ["t4", "t3"]
    assert len(document.summary.rows) == 5
    assert "Details of 2 of 5 targets follow." in document.sentences


def test_a_message_has_at_most_50_targets_and_says_how_many_there_are():
    message = as_message(many(53), public_url=PAGE)
    assert message.title == "Report over the last 7 d: 53 targets, no open incidents"
    names = [label for label, _ in message.facts]
    assert (len(names), names[0], names[-2:]) == (52, "t52", ["…", "open incidents"])
    assert dict(message.facts)["…"] == "3 more targets"
    assert (len(message.report.data["targets"]), message.report.data["targets_total"]) == (50, 53)
    assert message.report.text.endswith("and 3 more targets: `ingestion-monitor report`")


def test_a_message_names_the_state_the_trend_and_the_first_incidents():
    incidents = tuple(replace(INCIDENT, id=n) for n in range(1, 13))
    message = as_message(replace(SAMPLE, incidents=incidents, incident_count=12))
    lines = dict(message.facts)
    assert lines["gloo"].endswith("· completed 89.5% ······▂▂▃▄▅▆▇███▇▆▅▄·▃▂▁▁▂▂█ 98.6%")
    assert lines["uppzy"] == "no results yet · never ran"
    assert lines["open incidents"].startswith("#1 gloo: 2 documents failed to ingest; #2 ")
    assert lines["open incidents"].endswith("; 2 more")
