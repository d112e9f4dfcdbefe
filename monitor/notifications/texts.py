"""The name of each cause, what to check, and what a product's own users may read. Data only; never the API's text.

The checks follow the incident-routing rules of Uppzy's error catalogue and Gloo's error reference.
"""

from collections.abc import Mapping

from monitor.model import Cause, Incident
from monitor.model.http import plain_text

_PROCESSING_DELAYED = (
    "Document processing may be delayed. New documents will appear once it recovers. Documents that are already "
    "available need no new upload."
)
_STATE_UNKNOWN = (
    "We can't tell at the moment whether new documents are ready, and they may take longer to appear. Please wait "
    "before you upload them again."
)
_SOME_UNKNOWN = (
    "For some documents we can't tell whether they are ready. Other documents are not affected; we are looking into it."
)
_CHECKS_DELAYED = (
    "Our regular checks of documents are delayed, so our information about new ones may be out of date. You don't need "
    "to do anything."
)

SAFE_MESSAGES: Mapping[Cause, str] = {
    Cause.SPENDING_LIMIT: (
        "Document processing is paused. New documents will appear once it resumes. Documents that are already "
        "available need no new upload."
    ),
    Cause.UNAUTHORIZED: _STATE_UNKNOWN,
    Cause.FORBIDDEN: _STATE_UNKNOWN,
    Cause.WRONG_SCOPE: _STATE_UNKNOWN,
    Cause.RATE_LIMITED: _PROCESSING_DELAYED,
    Cause.OUTAGE: _PROCESSING_DELAYED,
    Cause.BAD_RESPONSE: _STATE_UNKNOWN,
    Cause.BAD_REQUEST: _STATE_UNKNOWN,
    Cause.ITEMS_FAILED: (
        "Some documents could not be processed and are not available. Other documents are not affected; we are "
        "looking into it."
    ),
    Cause.ITEMS_MISSING: (
        "Some documents that were uploaded can't be found and are not available. Other documents are not affected; "
        "we are looking into it."
    ),
    Cause.ITEMS_REGRESSED: (
        "Some documents that were available are being processed again and may be missing until that is done. Other "
        "documents are not affected."
    ),
    Cause.ITEMS_STUCK: (
        "Some documents take longer than usual to process and are not available yet. Other documents are not "
        "affected; we are looking into it."
    ),
    Cause.ITEMS_INVALID: _SOME_UNKNOWN,
    Cause.ITEMS_UNVERIFIED: _SOME_UNKNOWN,
    Cause.UNRECOGNISED_STATUS: _SOME_UNKNOWN,
    Cause.POLLING_TIMEOUTS: _PROCESSING_DELAYED,
    Cause.CANARY_FAILED: _STATE_UNKNOWN,
    Cause.CANARY_SLOW: _PROCESSING_DELAYED,
    Cause.INDEXING_SLOW: _PROCESSING_DELAYED,
    Cause.SLO_BURN: _PROCESSING_DELAYED,
    Cause.TOO_MANY_UNKNOWN: _CHECKS_DELAYED,
    Cause.SYNC_LOG_UNREADABLE: _CHECKS_DELAYED,
    Cause.SYNC_LOG_EMPTY: (
        "We can't tell at the moment which documents were uploaded last. You don't need to do anything; we are looking "
        "into it."
    ),
    Cause.RUN_MISSED: _CHECKS_DELAYED,
    Cause.RUN_CRASHING: _CHECKS_DELAYED,
    Cause.CHANNEL_FAILING: (
        "Documents are not affected: only notices to our own staff are delayed. You don't need to do anything."
    ),
}

SAFE_MESSAGE_RESOLVED = "The problem that was reported earlier is resolved."
"""For every cause. It does not claim that there is no other problem."""


def safe_message(cause: Cause, *, resolved: bool = False) -> str:
    """The sentence for a product's own users about an incident: at most 200 characters."""
    return SAFE_MESSAGE_RESOLVED if resolved else SAFE_MESSAGES[cause]


_MAX_GROUP_LENGTH = 60
_CHANNEL_PREFIX = "channel:"
"""No target's name can hold a colon."""

CAUSE_TEXTS: Mapping[Cause, str] = {
    Cause.SPENDING_LIMIT: "the plan's spending limit is reached",
    Cause.UNAUTHORIZED: "the API rejects the credentials",
    Cause.FORBIDDEN: "the API denies access",
    Cause.WRONG_SCOPE: "the API does not find the configured ids",
    Cause.RATE_LIMITED: "the API limits the request rate",
    Cause.OUTAGE: "the API is failing or can't be reached",
    Cause.BAD_RESPONSE: "the API's responses can't be read",
    Cause.BAD_REQUEST: "the API rejects the requests as invalid",
    Cause.ITEMS_FAILED: "documents failed to ingest",
    Cause.ITEMS_MISSING: "documents are missing at the API",
    Cause.ITEMS_REGRESSED: "documents went back from completed to pending",
    Cause.ITEMS_STUCK: "documents are stuck in ingestion",
    Cause.ITEMS_INVALID: "ids are not valid for the API",
    Cause.ITEMS_UNVERIFIED: "documents can't be verified: the API fails for them alone",
    Cause.UNRECOGNISED_STATUS: "documents have an unrecognised status",
    Cause.POLLING_TIMEOUTS: "waits for documents run out of time",
    Cause.CANARY_FAILED: "the canary document fails",
    Cause.CANARY_SLOW: "the canary document is indexed too slowly",
    Cause.INDEXING_SLOW: "uploads are indexed too slowly",
    Cause.SLO_BURN: "too many uploads miss their objective",
    Cause.TOO_MANY_UNKNOWN: "the state of too many documents is unknown",
    Cause.SYNC_LOG_UNREADABLE: "the sync log can't be read",
    Cause.SYNC_LOG_EMPTY: "the sync log is empty",
    Cause.RUN_MISSED: "runs were missed",
    Cause.RUN_CRASHING: "runs end by an internal error",
    Cause.CHANNEL_FAILING: "messages can't be delivered",
}

_CAUSE_TEXTS_OF_ONE: Mapping[Cause, str] = {
    Cause.ITEMS_FAILED: "document failed to ingest",
    Cause.ITEMS_MISSING: "document is missing at the API",
    Cause.ITEMS_REGRESSED: "document went back from completed to pending",
    Cause.ITEMS_STUCK: "document is stuck in ingestion",
    Cause.ITEMS_INVALID: "id is not valid for the API",
    Cause.ITEMS_UNVERIFIED: "document can't be verified: the API fails for it alone",
    Cause.UNRECOGNISED_STATUS: "document has an unrecognised status",
}


_FIRST_LOOK_WORDS: Mapping[Cause, str] = {
    Cause.ITEMS_FAILED: "failed",
    Cause.ITEMS_MISSING: "missing",
    Cause.ITEMS_STUCK: "stuck",
    Cause.ITEMS_REGRESSED: "pending again",
    Cause.ITEMS_INVALID: "with an invalid id",
    Cause.UNRECOGNISED_STATUS: "with an unrecognised status",
}


def describe_first_look(items_by_cause: Mapping[Cause, int]) -> str:
    """What the first run of a target found: `first look: 57 failed, 12 missing, 43 stuck`."""
    found = [f"{count} {_FIRST_LOOK_WORDS.get(cause, CAUSE_TEXTS[cause])}" for cause, count in items_by_cause.items()]
    return f"first look: {', '.join(found)}"


def describe_cause(cause: Cause, members: int = 0) -> str:
    """The name of a cause; for a cause about items with their number, unless it is 0."""
    if cause not in _CAUSE_TEXTS_OF_ONE or not members:
        return CAUSE_TEXTS[cause]
    return f"1 {_CAUSE_TEXTS_OF_ONE[cause]}" if members == 1 else f"{members} {CAUSE_TEXTS[cause]}"


WHAT_TO_CHECK: Mapping[Cause, tuple[str, ...]] = {
    Cause.SPENDING_LIMIT: ("billing limit of the plan: waiting does not help",),
    Cause.UNAUTHORIZED: (
        "key rotation: was the client secret or API key rotated, but not updated in this deployment?",
        "deployment configuration: does it hold the credentials of this environment?",
        "revoked keys: is the client or key still active at the provider?",
    ),
    Cause.FORBIDDEN: (
        "plan level and enabled capability",
        "tenant or publisher access: do the documents named belong to this publisher?",
        "site access",
    ),
    Cause.WRONG_SCOPE: (
        "configured tenant, site and publisher ids, and the environment of the base URL",
        "the base URL's path and the API's version: 410 or 404 for everything may be a retired version or a wrong path",
        "request and document ids: does the sync log belong to this target?",
    ),
    Cause.RATE_LIMITED: (
        "reduce concurrency, here and in the pipeline that shares the key",
        "add backoff",
        "inspect traffic spikes",
    ),
    Cause.OUTAGE: (
        "recovery of the service: see the provider's status page; bounded retries stay on",
        "pause bulk jobs that can wait",
        "the configured base_url, the network and the proxy, if there is no response at all",
    ),
    Cause.BAD_RESPONSE: (
        "a change of the API or its gateway",
        "a gateway, proxy or login page in between: its page's title is in `incidents show`",
        "the configured base URL, its port and path; a client certificate, if the gateway asks for one",
    ),
    Cause.BAD_REQUEST: (
        "the form of the requests: API version and item ids",
        "the configured base URL",
        "the credentials: some APIs answer a rejected key with 400; code and message are in `incidents show`",
    ),
    Cause.ITEMS_FAILED: (
        "the documents named: reason, last known status, format and size",
        "upload them again after the cause is fixed; documents that leave the sync log are no longer checked",
    ),
    Cause.ITEMS_MISSING: (
        "the documents named: were they deleted, or did they never arrive?",
        "the configured ids (publisher, site, store), and the ids that the pipeline records",
    ),
    Cause.ITEMS_STUCK: (
        "async job volume at the provider",
        "the timeout budget: is stuck_after longer than a healthy ingestion takes?",
        "worker concurrency",
        "the documents named, by stage and age",
    ),
    Cause.ITEMS_INVALID: (
        "the ids named: does the pipeline record the ids that the API returns?",
        "the sync log's table and id_column",
    ),
    Cause.ITEMS_UNVERIFIED: (
        "the documents named: give their ids, codes and request ids to the provider's support",
        "the API answers about other documents: nothing is wrong with the service or the credentials",
        "a document that nobody needs: delete it there, or run `items ignore`",
    ),
    Cause.ITEMS_REGRESSED: (
        "the documents named: were they uploaded again, or does the provider index them again?",
        "their last known status: if the provider renamed it, add the new name to `statuses`",
    ),
    Cause.UNRECOGNISED_STATUS: (
        "the name of the status: what does the provider mean by it? Until then it counts as pending",
        "the target's `statuses`: add it there",
    ),
    Cause.POLLING_TIMEOUTS: (
        "async job volume at the provider",
        "the user timeout budget: is `--timeout` longer than a healthy ingestion takes?",
        "worker concurrency",
    ),
    Cause.CANARY_FAILED: (
        "the step that failed: upload, indexing, retrieval or clean-up, with its code",
        "other incidents of this target: they may have the same reason",
    ),
    Cause.CANARY_SLOW: (
        "async job volume at the provider, and its status page",
        "`slow_after` of the canary: is it longer than a healthy ingestion takes?",
    ),
    Cause.INDEXING_SLOW: (
        "async job volume at the provider, and its status page",
        "which uploads are slow: `ingestion-monitor report` names groups and documents",
        "`slow_after`: is it longer than a healthy ingestion and the time between two runs take?",
    ),
    Cause.SLO_BURN: (
        "the objective, its error budget and how fast it burns: `ingestion-monitor slo`",
        "what is late: documents stuck, failed or missing, by group and stage",
        "async job volume at the provider",
    ),
    Cause.TOO_MANY_UNKNOWN: (
        "the deadline: is it long enough for so many items?",
        "why runs end early: signals, or a time limit on the process",
    ),
    Cause.SYNC_LOG_EMPTY: (
        "the pipeline: does it still record its uploads?",
        "the sync log's table or view: did a filter or a migration empty it?",
        "row-level security: does a policy let the monitor's user see the rows?",
    ),
    Cause.RUN_MISSED: ("the daemon, cron or the CronJob: did it run, and did it end in time?",),
    Cause.RUN_CRASHING: (
        "`run_crashed` in the log: report it with the lines of code that it names",
        "what changed last: this program's version, a provider of your own, the target's data",
    ),
    Cause.CHANNEL_FAILING: (
        "the channel named: its URL and credentials, and the last error",
        "the receiver: does it still exist, and does it accept messages from here?",
    ),
    Cause.SYNC_LOG_UNREADABLE: ("the sync log's URL, table and columns", "the permissions of its database user"),
}

_CREDENTIALS_CHECK = "credentials: the API accepted no request at all: look for a rejected, malformed or rotated key"
_POSSIBLE_CREDENTIALS_CHECK = "credentials, if no request at all is accepted: a rejected, malformed or rotated key"


def what_to_check(cause: Cause, *, accepted: bool | None = None) -> tuple[str, ...]:
    """What to check for a cause. If the API `accepted` no request of the run (None: not known), the key may be
    malformed: Gloo answers such a key with 403.
    """
    checks = WHAT_TO_CHECK[cause]
    if cause is not Cause.FORBIDDEN or accepted:
        return checks
    return (*checks, _POSSIBLE_CREDENTIALS_CHECK) if accepted is None else (_CREDENTIALS_CHECK, *checks)


def checks_of(incident: Incident) -> tuple[str, ...]:
    """What to check about an incident, the most likely first."""
    return what_to_check(incident.cause, accepted=incident.accepted)


def channel_target(name: str) -> str:
    """The target of an incident about a channel: `channel:oncall`."""
    return f"{_CHANNEL_PREFIX}{name}"


def display_name(target: str, group: str = "") -> str:
    """A target for people: its name, `channel oncall`, or with a group `gloo-prod (faq)`."""
    name = f"channel {target.removeprefix(_CHANNEL_PREFIX)}" if target.startswith(_CHANNEL_PREFIX) else target
    return f"{name} ({display_group(group)})" if group else name


def display_group(group: str) -> str:
    """A group's name on one line, cut to 60 characters."""
    return plain_text(group, _MAX_GROUP_LENGTH) or "?"


def format_items(items: int) -> str:
    """`1 item`, `12 items`."""
    return "1 item" if items == 1 else f"{items} items"
