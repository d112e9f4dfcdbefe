"""What each cause is called and what to check, in our own words. Data only; never the API's text.

The lists follow the incident-routing rules of Uppzy's error catalogue, with what Gloo's error reference adds.
"""

from collections.abc import Mapping

from monitor.model import Cause

__all__ = ["IN_WORDS", "NOTHING_ACCEPTED", "WHAT_TO_CHECK", "in_words"]

IN_WORDS: Mapping[Cause, str] = {
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
    Cause.ITEMS_STUCK: "documents are stuck in ingestion",
    Cause.SYNC_LOG_UNREADABLE: "the sync log can't be read",
}

_OF_ONE: Mapping[Cause, str] = {
    Cause.ITEMS_FAILED: "document failed to ingest",
    Cause.ITEMS_MISSING: "document is missing at the API",
    Cause.ITEMS_STUCK: "document is stuck in ingestion",
}


def in_words(cause: Cause, members: int = 0) -> str:
    """What a cause is called; with the number of items for one that is about items (0: leave the number out)."""
    if cause not in _OF_ONE or not members:
        return IN_WORDS[cause]
    return f"1 {_OF_ONE[cause]}" if members == 1 else f"{members} {IN_WORDS[cause]}"


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
    ),
    Cause.BAD_RESPONSE: ("a change of the API or its gateway", "a proxy in between", "the configured base URL"),
    Cause.BAD_REQUEST: ("the form of the requests: API version and item ids", "the configured base URL"),
    Cause.ITEMS_FAILED: (
        "the documents named: what was last known of each, their format and size",
        "upload them again once the cause is mended, or tell the monitor to ignore them",
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
    Cause.SYNC_LOG_UNREADABLE: ("the sync log's URL, table and columns", "the reader's permissions"),
}

NOTHING_ACCEPTED = "credentials: nothing at all was accepted, so a rejected, malformed or rotated key fits too"
"""Added to `forbidden` when not one request of the run was accepted (Gloo answers a malformed token with 403)."""
