"""Turns the API's answers to the probe into findings: connection, credentials, one item, and the list. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from monitor.cli.doctor.findings import Finding, Level, finding_at, with_full_stop
from monitor.cli.doctor.locations import SettingLocations
from monitor.cli.doctor.synclog import right_id
from monitor.client.api_errors import parse_api_error, parse_unusable
from monitor.client.classify import accepts_credentials, cause_of, is_absent, is_invalid_id, rejects_credentials
from monitor.config import ClientCredentialsConfig, TargetConfig
from monitor.model import BadBody, Cause, ItemState, ItemStatus
from monitor.model.http import UNUSABLE_CREDENTIALS, ApiError, CallResult, Meaning, NetworkFault
from monitor.notifications.texts import CAUSE_TEXTS, format_items, what_to_check
from monitor.providers import Provider, is_list_only
from monitor.providers.registry import GENERIC
from monitor.runs.strategy import AUTO_LIST_THRESHOLD, Strategy, list_failure_ends_run

_FAULTS: Mapping[NetworkFault | None, tuple[str, str]] = {
    NetworkFault.DNS: ("its name can't be resolved", "fix the name, or this machine's DNS"),
    NetworkFault.REFUSED: ("it refuses connections", "check host and port, firewall and HTTPS_PROXY"),
    NetworkFault.TLS: (
        "its certificate is not trusted: expired, self-signed, for another name, or a proxy's",
        "fix the certificate; or trust its authority: its PEM file in SSL_CERT_FILE; or use the scheme of the server",
    ),
    NetworkFault.TIMEOUT: ("it did not answer in time", "check the network, firewall and HTTPS_PROXY"),
    NetworkFault.RESET: ("it drops the connection", "check host and port, and any proxy in between"),
    NetworkFault.PROTOCOL: ("it does not speak HTTP", "check scheme, host and port"),
    NetworkFault.TOO_LARGE: ("its answer is too large", "check that this is the API"),
}
_SETTINGS: Mapping[Cause, str] = {
    Cause.UNAUTHORIZED: "auth",
    Cause.FORBIDDEN: "params",
    Cause.WRONG_SCOPE: "params",
    Cause.OUTAGE: "base_url",
    Cause.BAD_RESPONSE: "base_url",
    Cause.BAD_REQUEST: "base_url",
    Cause.RATE_LIMITED: "check",
    Cause.SPENDING_LIMIT: "auth",
}
_ERRORS_IN_200 = (
    "if this API answers errors with 200, say what they mean (`ingestion-monitor docs providers/descriptions`); else "
)
_MAX_CODE_LENGTH = 60
_MAX_PAGE_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAnswer:
    """The answer to the list request."""

    error: ApiError | None = None
    bad_body: BadBody | None = None
    items: int = 0
    complete: bool = False
    known_ids: int = 0
    """Of the sample ids, those in it."""
    accepted: bool = False
    """It shows that the API accepts the credentials: it could be read, and did not come out of a cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAnswer:
    """The answer about one item, after the second question if there is one."""

    item_id: str
    result: CallResult
    status: ItemStatus | BadBody | Meaning | None = None
    """What the provider reads in it; None: it is an error."""

    @property
    def error(self) -> ApiError | None:
        """Why there is no status; also a 2xx that means something else."""
        if isinstance(self.status, Meaning) and self.result.reply is not None:
            said = parse_api_error(self.result.reply, redact=self.result.redact)
            return replace(said, meaning=self.status, page=None)
        return self.result.error


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAnswers:
    """All answers of the API; None: not asked."""

    replies: int
    """Answers over HTTP, of any status."""
    fault: NetworkFault | None = None
    """Of the last attempt, if it had no answer."""
    refusal: ApiError | None = None
    """Why there is no token, or no key to send."""
    item_answers: tuple[ItemAnswer, ...] = ()
    """One by one, until the API knew an item."""
    list_: ListAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _FindingsBuilder:
    target: TargetConfig
    provider: Provider
    locations: SettingLocations
    row: int
    answers: ApiAnswers
    sample: tuple[str, ...]

    def connection(self) -> Finding:
        host = urlsplit(self.target.base_url).netloc
        if self.answers.replies:
            return self._finding("connection", Level.OK, f"{host} answers.")
        if self.answers.fault is None:
            return self._finding("connection", Level.NOT_TRIED, f"not tried: {self._skip_reason()}.")
        what, remedy = _FAULTS[self.answers.fault]
        return self._finding("connection", Level.PROBLEM, f"{host}: {what}.", "base_url", remedy)

    def credentials(self) -> Finding:
        auth, refusal = self.target.auth, self.answers.refusal
        if refusal is not None and (refusal.status is not None or refusal.is_local(UNUSABLE_CREDENTIALS)):
            return self._refused("credentials", refusal)
        if not self.answers.replies:
            return self._finding("credentials", Level.NOT_TRIED, f"not tried: {self._skip_reason()}.")
        if (rejected := next((each for each in self._errors() if rejects_credentials(each)), None)) is not None:
            return self._refused("credentials", rejected) if auth else self._credentials_missing(rejected)
        if auth is None:
            return self._finding("credentials", Level.OK, "none are set, and the API asks for none.")
        what = "a token was issued" if self._has_token() else "the key"
        if self._accepted():
            return self._finding("credentials", Level.OK, f"{what}{' and' if self._has_token() else ' was'} accepted.")
        if self._has_token():
            return self._finding(
                "credentials", Level.OK, "a token was issued; no answer shows whether the API accepts it."
            )
        if (denied := self._denied()) is not None:
            message = f"nothing was accepted ({_error_text(denied)}): the API may reject the key itself."
            remedy = "check first for a rejected, malformed or rotated key; then the plan and access"
            return self._finding("credentials", Level.WARNING, message, "auth", remedy)
        return self._finding("credentials", Level.NOT_TRIED, "no answer shows whether the key is accepted.")

    def _credentials_missing(self, error: ApiError) -> Finding:
        message = f"none are set, but the API requires them ({_error_text(error)})."
        return self._finding("credentials", Level.PROBLEM, message, "auth", "add auth to the target")

    def item(self) -> Finding:
        if is_list_only(self.provider):
            return self._finding("item", Level.OK, "the API has no question for one item; its list answers for all.")
        answer = self.answers.item_answers[-1] if self.answers.item_answers else None
        error = answer.error if answer else None
        if answer is None or self._reported_elsewhere(error):
            return self._finding("item", Level.NOT_TRIED, f"not tried: {self._skip_reason()}.")
        if error is not None and is_absent(error):
            return self._not_found(error)
        if error is not None and is_invalid_id(error):
            message = (
                f"the API does not accept {answer.item_id} as an id ({_error_text(error)}).{right_id(self.target)}"
            )
            return self._finding(
                "item", Level.PROBLEM, message, "sync_log.id_column", "is this the column of the API's ids?"
            )
        if error is not None:
            return self._refused("item", error)
        return self._read(answer)

    def list_(self) -> Finding:
        answers, strategy = self.answers.list_, Strategy(self.target.check.strategy)
        if is_list_only(self.provider):
            strategy = Strategy.LIST  # there is nothing to fall back to
        if self.provider.list_request() is None:
            return self._finding("list", Level.OK, "no list endpoint is known; runs ask about each item by itself.")
        if strategy is Strategy.ITEMS:
            return self._finding("list", Level.NOT_TRIED, 'not tried: the strategy is "items".')
        if answers is None or self._reported_elsewhere(answers.error):
            return self._finding("list", Level.NOT_TRIED, f"not tried: {self._skip_reason()}.")
        if answers.error is not None:
            return self._list_refused(answers.error, strategy)
        if answers.bad_body is not None:
            level = Level.PROBLEM if strategy is Strategy.LIST else Level.WARNING
            setting = "list" if self.target.list_ else "check.strategy"
            return self._finding(
                "list", level, f"it can't be read: {answers.bad_body.reason}.{_fallback_text(strategy)}", setting
            )
        return self._list_read(answers, strategy)

    def _list_read(self, answers: ListAnswer, strategy: Strategy) -> Finding:
        size = format_items(answers.items) if answers.complete else f"the first {format_items(answers.items)} of it"
        use = "every run" if strategy is Strategy.LIST else f"runs with over {AUTO_LIST_THRESHOLD} due items"
        if answers.complete and self.sample and not answers.known_ids:
            message = f"it has {size}, but none of {len(self.sample)} ids from the sync log."
            remedy = "does the sync log belong to this target?"
            return self._finding("list", Level.WARNING, message, self._setting(Cause.WRONG_SCOPE), remedy)
        text = f"{size} could be read" if answers.items else "it can be read, and is empty"
        return self._finding("list", Level.OK, f"{text}; {use} will use it.")

    def _list_refused(self, error: ApiError, strategy: Strategy) -> Finding:
        cause = cause_of(error)
        # without a sample item, only the list shows that a key is refused
        denied = cause is Cause.FORBIDDEN and not self.sample
        is_problem = cause is Cause.WRONG_SCOPE or denied or list_failure_ends_run(strategy, cause)
        finding = self._refused("list", error)
        if is_problem:
            return finding
        return self._finding(
            "list", Level.WARNING, f"{finding.message}{_fallback_text(strategy)}", self._setting(cause), finding.remedy
        )

    def _not_found(self, error: ApiError) -> Finding:
        count = len(self.answers.item_answers)
        if count == 1:
            message = f"the API answers, but does not know {self.answers.item_answers[0].item_id} ({_absence(error)})."
            return self._finding("item", Level.OK, message)
        message = f"the API knows none of {count} ids from the sync log ({_absence(error)}).{right_id(self.target)}"
        setting = self._setting(Cause.WRONG_SCOPE)
        return self._finding("item", Level.WARNING, message, setting, _what_to_check(Cause.WRONG_SCOPE))

    def _read(self, answer: ItemAnswer) -> Finding:
        item_id, status, redact = answer.item_id, answer.status, answer.result.redact
        if not isinstance(status, ItemStatus):
            unusable = status if isinstance(status, BadBody) else BadBody(reason="it has no status")
            message = f"the API answers about {item_id}, but {_with_words(answer.result, unusable)}."
            described_here = self.target.provider == GENERIC
            remedy = (_ERRORS_IN_200 if described_here else "") + _what_to_check(Cause.BAD_RESPONSE)
            setting = "item" if described_here else "base_url"
            return self._finding("item", Level.PROBLEM, message, setting, remedy)
        if not status.recognised:
            message = f"{item_id} has the unknown status {redact(status.stage)}: it counts as pending."
            return self._finding("item", Level.WARNING, message, "statuses", "add the status there")
        meaning = "" if status.stage.casefold() == status.state.value else f" ({_STATE_TEXTS[status.state]})"
        return self._finding("item", Level.OK, f"{item_id} is {redact(status.stage)}{meaning}.")

    def _skip_reason(self) -> str:
        if self.answers.refusal is not None and self.answers.fault is None:
            return "no credentials work"
        if any(map(rejects_credentials, self._errors())):
            return "the credentials are rejected"
        return "nothing answers" if self.answers.fault else "there is no usable id"

    def _reported_elsewhere(self, error: ApiError | None) -> bool:
        """Whether another finding is about this error."""
        if error is None:
            return False
        return rejects_credentials(error) or (error.status is None and not self.answers.replies)

    def _errors(self) -> list[ApiError]:
        errors = [answer.error for answer in self.answers.item_answers]
        errors += [self.answers.list_.error] if self.answers.list_ else []
        return [error for error in errors if error is not None]

    def _has_token(self) -> bool:
        return isinstance(self.target.auth, ClientCredentialsConfig) and self.answers.refusal is None

    def _accepted(self) -> bool:
        """Whether an answer shows that the credentials are accepted: any but a refusal, a limit and an outage."""
        accepted = [_is_accepted(answer) for answer in self.answers.item_answers]
        accepted += [self.answers.list_.accepted] if self.answers.list_ else []
        return any(accepted) or any(accepts_credentials(error) for error in self._errors())

    def _denied(self) -> ApiError | None:
        """A 403 of the API, while nothing was accepted: Gloo answers that to a rejected or malformed key."""
        return next((each for each in self._errors() if cause_of(each) is Cause.FORBIDDEN), None)

    def _refused(self, part: str, error: ApiError) -> Finding:
        if error.is_local(UNUSABLE_CREDENTIALS):
            return self._finding(part, Level.PROBLEM, with_full_stop(error.message or ""), "auth")
        cause, accepted = cause_of(error), self._has_token() or self._accepted()
        where = "the token endpoint: " if error.from_token_endpoint else ""
        # a key that nothing accepts may be malformed: Gloo answers that with 403
        setting = "auth" if cause is Cause.FORBIDDEN and not accepted else self._setting(cause)
        remedy = _what_to_check(cause, accepted=accepted)
        return self._finding(
            part, Level.PROBLEM, f"{where}{CAUSE_TEXTS[cause]} ({_error_text(error)}).", setting, remedy
        )

    def _setting(self, cause: Cause) -> str:
        """The setting to look at first; of the ids of publisher, site or store the one that the target has."""
        setting = _SETTINGS[cause]
        if setting != "params" or self.target.params:
            return setting
        return "publisher_id" if self.target.publisher_id else "base_url"

    def _finding(self, part: str, level: Level, message: str, setting: str | None = None, remedy: str = "") -> Finding:
        at = self.locations.of("targets", self.row, *setting.split(".")) if setting else None
        return finding_at(at, part, level, message, remedy)


_STATE_TEXTS = {ItemState.COMPLETED: "completed", ItemState.PENDING: "pending", ItemState.FAILED: "failed"}


def api_findings(
    answers: ApiAnswers,
    *,
    target: TargetConfig,
    provider: Provider,
    locations: SettingLocations,
    row: int,
    sample: tuple[str, ...],
) -> list[Finding]:
    """The findings about connection, credentials, one item, and the list. `sample`: ids of the sync log."""
    builder = _FindingsBuilder(
        target=target, provider=provider, locations=locations, row=row, answers=answers, sample=sample
    )
    return [builder.connection(), builder.credentials(), builder.item(), builder.list_()]


def _is_accepted(answer: ItemAnswer) -> bool:
    return isinstance(answer.status, ItemStatus | Meaning) and not answer.result.cached


def _what_to_check(cause: Cause, *, accepted: bool = True) -> str:
    """What to check, on one line: of each check the words before its explanation."""
    return "check: " + "; ".join(check.partition(":")[0] for check in what_to_check(cause, accepted=accepted))


def _absence(error: ApiError) -> str:
    """The answer for an item that is not there; its code only where it decided."""
    return _error_text(error) if error.meaning is not None else f"HTTP {error.status}"


def _error_text(error: ApiError) -> str:
    if error.status is None:
        return _FAULTS[error.network][0] if error.network else "no answer in time"
    parts = [f"HTTP {error.status}"]
    parts += [f"code {error.code[:_MAX_CODE_LENGTH]}"] if error.code else []
    parts += [_page_text(error)] if error.page is not None else []
    return ", ".join(parts)


def _page_text(error: ApiError) -> str:
    """The page that a gateway sent instead of the API, and who it says it is."""
    sender = ", ".join(f"{name}: {value}" for name, value in error.gateway if name != "x-request-id")
    page = f'a page "{error.page[:_MAX_PAGE_LENGTH]}"' if error.page else "a page without a title"
    return f"{page}, {sender}" if sender else page


def _with_words(answer: CallResult, unusable: BadBody) -> str:
    """Why a 2xx can't be used, with its page's title or the code in its body."""
    if answer.reply is None:
        return unusable.reason
    error = parse_unusable(answer.reply, unusable.reason, redact=answer.redact)
    if error.page is not None:
        return f"{unusable.reason}: {_page_text(error)}"
    return f"{unusable.reason} (code {error.code[:_MAX_CODE_LENGTH]})" if error.code else unusable.reason


def _fallback_text(strategy: Strategy) -> str:
    return " Runs will ask item by item." if strategy is Strategy.AUTO else ""
