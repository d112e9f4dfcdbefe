"""What a product's own users may be told about an incident: one sentence per cause. Data only; never the API's text.

A support person may paste it and a status page may show it: it says what is affected and what to expect, and nothing of
how things work inside. It claims no more than the monitor knows: what can't be seen is not lost.
Uppzy's error catalogue asks for a small set of such sentences, so causes that look the same from outside share one.
"""

from collections.abc import Mapping

from monitor.model import Cause

__all__ = ["ALL_CLEAR", "SAFE_WORDS", "safe_words"]

_DELAYED = (
    "Document processing may be delayed for now. New documents will appear once it recovers; those that were processed "
    "before need not be uploaded again."
)
_UNSEEN = (
    "We can't tell at the moment whether new documents are ready, and they may take longer to appear. Please wait "
    "before you upload them again."
)
_OUT_OF_DATE = (
    "Our regular checks of documents are delayed, so what we can say about new ones may be out of date. There is "
    "nothing that you need to do."
)

SAFE_WORDS: Mapping[Cause, str] = {
    Cause.SPENDING_LIMIT: (
        "Document processing is paused for now. New documents will appear once it goes on; those that were processed "
        "before need not be uploaded again."
    ),
    Cause.UNAUTHORIZED: _UNSEEN,
    Cause.FORBIDDEN: _UNSEEN,
    Cause.WRONG_SCOPE: _UNSEEN,
    Cause.RATE_LIMITED: _DELAYED,
    Cause.OUTAGE: _DELAYED,
    Cause.BAD_RESPONSE: _UNSEEN,
    Cause.BAD_REQUEST: _UNSEEN,
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
    Cause.COVERAGE: _OUT_OF_DATE,
    Cause.SYNC_LOG_UNREADABLE: _OUT_OF_DATE,
    Cause.SYNC_LOG_EMPTY: (
        "We can't tell at the moment which documents were uploaded last. There is nothing that you need to do; we are "
        "looking into it."
    ),
    Cause.RUN_MISSED: _OUT_OF_DATE,
    Cause.CHANNEL_FAILING: (
        "This does not affect documents: only notices to our own staff are delayed. There is nothing that you need to "
        "do."
    ),
}

ALL_CLEAR = "The problem that was reported earlier is over."
"""What may be said of any incident once it is resolved; it does not say that there is no other."""


def safe_words(cause: Cause, *, resolved: bool = False) -> str:
    """The sentence for a product's own users: at most 200 characters.

    Args:
        cause: of the incident.
        resolved: whether it is over: then a sentence about what is wrong would be wrong.
    """
    return ALL_CLEAR if resolved else SAFE_WORDS[cause]
