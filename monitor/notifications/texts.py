"""What each cause is called and what to check, in our own words. Data only; never the API's text.

The lists follow the incident-routing rules of Uppzy's error catalogue, with what Gloo's error reference adds.
"""

from collections.abc import Mapping

from monitor.model import Cause
from monitor.model.http import plain_text

_PROCESSING_DELAYED = (
    "Document processing may be delayed for now. New documents will appear once it recovers; those that were processed "
    "before need not be uploaded again."
)
_STATE_UNKNOWN = (
    "We can't tell at the moment whether new documents are ready, and they may take longer to appear. Please wait "
    "before you upload them again."
)
_CHECKS_DELAYED = (
    "Our regular checks of documents are delayed, so what we can say about new ones may be out of date. There is "
    "nothing that you need to do."
)

SAFE_MESSAGES: Mapping[Cause, str] = {
    Cause.SPENDING_LIMIT: (
        "Document processing is paused for now. New documents will appear once it goes on; those that were processed "
        "before need not be uploaded again."
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
        "Some documents that were available are being processed again. Until that is done they may be missing; other "
        "documents are not affected."
    ),
    Cause.ITEMS_STUCK: (
        "Some documents take longer than usual to process and are not available yet. Other documents are not "
        "affected; we are looking into it."
    ),
    Cause.ITEMS_INVALID: (
        "For some documents we can't tell whether they are ready. Other documents are not affected; we are looking "
        "into it."
    ),
    Cause.UNRECOGNISED_STATUS: (
        "For some documents we can't tell yet whether they are ready. Other documents are not affected; we are "
        "looking into it."
    ),
    Cause.TOO_MANY_UNKNOWN: _CHECKS_DELAYED,
    Cause.SYNC_LOG_UNREADABLE: _CHECKS_DELAYED,
    Cause.SYNC_LOG_EMPTY: (
        "We can't tell at the moment which documents were uploaded last. There is nothing that you need to do; we are "
        "looking into it."
    ),
    Cause.RUN_MISSED: _CHECKS_DELAYED,
    Cause.CHANNEL_FAILING: (
        "This does not affect documents: only notices to our own staff are delayed. There is nothing that you need to "
        "do."
    ),
}

SAFE_MESSAGE_RESOLVED = "The problem that was reported earlier is over."
"""What may be said of any incident once it is resolved; it does not say that there is no other."""


def safe_message(cause: Cause, *, resolved: bool = False) -> str:
    """The sentence for a product's own users: at most 200 characters.

    Args:
        cause: of the incident.
        resolved: whether it is over: then a sentence about what is wrong would be wrong.
    """
    return SAFE_MESSAGE_RESOLVED if resolved else SAFE_MESSAGES[cause]


_MAX_GROUP_LENGTH = 60
_CHANNEL_PREFIX = "channel:"
"""No target's name can hold a colon."""

CAUSE_TEXTS: Mapping[Cause, str] = {
    Cause.SPENDING_LIMIT: "the plan's spending limit is reached",
    Cause.UNAUTHORIZED: "the API rejects the credentials",
    Cause.FORBIDDEN: "the API denies access",
    Cause.WRONG_SCOPE: "the API does not know what it is asked about",
    Cause.RATE_LIMITED: "the API limits the request rate",
    Cause.OUTAGE: "the API is failing or can't be reached",
    Cause.BAD_RESPONSE: "the API's answers can't be read",
    Cause.BAD_REQUEST: "the API refuses the form of the requests",
    Cause.ITEMS_FAILED: "documents failed to ingest",
    Cause.ITEMS_MISSING: "documents are missing at the API",
    Cause.ITEMS_REGRESSED: "documents went back from completed to pending",
    Cause.ITEMS_STUCK: "documents are stuck in ingestion",
    Cause.ITEMS_INVALID: "ids are none that the API can accept",
    Cause.UNRECOGNISED_STATUS: "documents are in a status that nobody has described",
    Cause.TOO_MANY_UNKNOWN: "too little was found out about the documents",
    Cause.SYNC_LOG_UNREADABLE: "the sync log can't be read",
    Cause.SYNC_LOG_EMPTY: "the sync log is empty",
    Cause.RUN_MISSED: "runs were missed",
    Cause.CHANNEL_FAILING: "messages do not get through",
}

_CAUSE_TEXTS_OF_ONE: Mapping[Cause, str] = {
    Cause.ITEMS_FAILED: "document failed to ingest",
    Cause.ITEMS_MISSING: "document is missing at the API",
    Cause.ITEMS_REGRESSED: "document went back from completed to pending",
    Cause.ITEMS_STUCK: "document is stuck in ingestion",
    Cause.ITEMS_INVALID: "id is none that the API can accept",
    Cause.UNRECOGNISED_STATUS: "document is in a status that nobody has described",
}


def describe_cause(cause: Cause, members: int = 0) -> str:
    """What a cause is called; with the number of items for one that is about items (0: leave the number out)."""
    if cause not in _CAUSE_TEXTS_OF_ONE or not members:
        return CAUSE_TEXTS[cause]
    return f"1 {_CAUSE_TEXTS_OF_ONE[cause]}" if members == 1 else f"{members} {CAUSE_TEXTS[cause]}"


WHAT_TO_CHECK: Mapping[Cause, tuple[str, ...]] = {
    Cause.SPENDING_LIMIT: ("billing limit of the plan: waiting does not cure this one",),
    Cause.UNAUTHORIZED: (
        "key rotation: was the client secret or API key rotated without telling this deployment?",
        "deployment configuration: does it carry the credentials of this environment?",
        "revoked keys: is the client or key still active at the provider?",
    ),
    Cause.FORBIDDEN: (
        "plan level and enabled capability",
        "tenant or publisher access: do the items named belong to this publisher?",
        "site access",
    ),
    Cause.WRONG_SCOPE: (
        "configured tenant, site and publisher ids, and the base URL's environment",
        "request and document ids: does the sync log belong to this publisher?",
    ),
    Cause.RATE_LIMITED: (
        "reduce concurrency, here and in the pipeline that shares the key",
        "add backoff",
        "inspect traffic spikes",
    ),
    Cause.OUTAGE: (
        "recovery of the service: the provider's status page; bounded retries stay on",
        "pause bulk jobs that can wait",
        "the configured base_url, the network and the proxy, if nothing answers at all",
    ),
    Cause.BAD_RESPONSE: ("a change of the API or its gateway", "a proxy in between", "the configured base URL"),
    Cause.BAD_REQUEST: ("the form of the requests: API version and item ids", "the configured base URL"),
    Cause.ITEMS_FAILED: (
        "the documents named: what was last known of each, their format and size",
        "upload them again once the cause is mended; what leaves the sync log is no longer watched",
    ),
    Cause.ITEMS_MISSING: (
        "the documents named: were they deleted, or did they never arrive?",
        "the configured ids: publisher, and the ids that the pipeline records",
    ),
    Cause.ITEMS_STUCK: (
        "async job volume at the provider",
        "the timeout budget: is stuck_after longer than a healthy ingestion takes?",
        "worker concurrency",
        "the documents named, by stage and age",
    ),
    Cause.ITEMS_INVALID: (
        "the ids named: does the pipeline record what the API gave it?",
        "the sync log's table and id_column",
    ),
    Cause.ITEMS_REGRESSED: (
        "the documents named: were they uploaded again, or is the provider indexing them anew?",
        "what was last known of each; a status that the provider has renamed belongs in `statuses`",
    ),
    Cause.UNRECOGNISED_STATUS: (
        "the status's name: what does the provider mean by it? Until then it counts as pending",
        "the target's `statuses`: add it there",
    ),
    Cause.TOO_MANY_UNKNOWN: (
        "the deadline: is it long enough for so many items?",
        "what ended the runs early: signals, or a process that is given too little time",
    ),
    Cause.SYNC_LOG_EMPTY: (
        "the pipeline: does it still record its uploads?",
        "the sync log's table or view: did a filter or a migration empty it?",
    ),
    Cause.RUN_MISSED: ("the daemon, cron or the CronJob: did it run, and did it end in time?",),
    Cause.CHANNEL_FAILING: (
        "the channel named: its URL and credentials, with the last error",
        "the receiver: does it still exist, and does it accept messages from here?",
    ),
    Cause.SYNC_LOG_UNREADABLE: ("the sync log's URL, table and columns", "the reader's permissions"),
}

_CREDENTIALS_CHECK = "credentials: nothing at all was accepted, so a rejected, malformed or rotated key fits too"
_POSSIBLE_CREDENTIALS_CHECK = "credentials, if nothing at all is accepted: a rejected, malformed or rotated key"


def what_to_check(cause: Cause, *, accepted: bool | None = None) -> tuple[str, ...]:
    """What to check for a cause.

    Args:
        cause: which.
        accepted: whether the API accepted anything in the run; None when that is not known. A key that is refused
            throughout may as well be malformed: Gloo answers that with 403.
    """
    checks = WHAT_TO_CHECK[cause]
    if cause is not Cause.FORBIDDEN or accepted:
        return checks
    return (*checks, _POSSIBLE_CREDENTIALS_CHECK) if accepted is None else (_CREDENTIALS_CHECK, *checks)


def channel_target(name: str) -> str:
    """What stands in a target's place for an incident about a channel: `channel:oncall`."""
    return f"{_CHANNEL_PREFIX}{name}"


def display_name(target: str, group: str = "") -> str:
    """What an incident is about, for people: the target's name, `channel oncall`, or with a group `gloo-prod (faq)`."""
    name = f"channel {target.removeprefix(_CHANNEL_PREFIX)}" if target.startswith(_CHANNEL_PREFIX) else target
    return f"{name} ({display_group(group)})" if group else name


def display_group(group: str) -> str:
    """A group as messages name it: on one line, and no longer than a title can bear."""
    return plain_text(group, _MAX_GROUP_LENGTH) or "?"


def format_items(items: int) -> str:
    """`1 item`, `12 items`."""
    return "1 item" if items == 1 else f"{items} items"
