"""What the answers to doctor's few requests mean for the user: one finding for each of them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from monitor.cli.doctor.findings import Finding, Level, ended
from monitor.cli.doctor.locations import Places
from monitor.client.classify import cause_of, is_invalid_id
from monitor.config import ClientCredentialsConfig, TargetConfig
from monitor.model import BadBody, Cause, ItemState, ItemStatus
from monitor.model.http import UNUSABLE_CREDENTIALS, CallResult, ApiError, NetworkFault
from monitor.notifications.texts import CAUSE_TEXTS, format_items, what_to_check
from monitor.providers import Provider
from monitor.runs.strategy import AUTO_LIST_THRESHOLD, Strategy, list_failure_ends_run

_FAULTS: Mapping[NetworkFault | None, tuple[str, str]] = {
    NetworkFault.DNS: ("its name can't be resolved", "mend the name, or this machine's DNS"),
    NetworkFault.REFUSED: ("it takes no connection", "check host and port, firewall and HTTPS_PROXY"),
    NetworkFault.TLS: (
        "its certificate is not trusted: expired, self-signed, for another name, or put there by a proxy",
        "have it mended; or trust its authority: its PEM file in SSL_CERT_FILE; or begin base_url as the server does",
    ),
    NetworkFault.TIMEOUT: ("it did not answer in time", "check the network, firewall and HTTPS_PROXY"),
    NetworkFault.RESET: ("it drops the connection", "check host and port, and any proxy in between"),
    NetworkFault.PROTOCOL: ("what answers there does not speak HTTP", "check scheme, host and port"),
    NetworkFault.TOO_LARGE: ("its answer is too large", "check that this is the API"),
}
_SETTINGS: Mapping[Cause, str] = {
    Cause.UNAUTHORIZED: "auth",
    Cause.FORBIDDEN: "publisher_id",
    Cause.WRONG_SCOPE: "publisher_id",
    Cause.OUTAGE: "base_url",
    Cause.BAD_RESPONSE: "base_url",
    Cause.BAD_REQUEST: "base_url",
    Cause.RATE_LIMITED: "check",
    Cause.SPENDING_LIMIT: "auth",
}
_LONGEST_CODE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ListHeard:
    """What came of asking for the list."""

    error: ApiError | None = None
    bad: BadBody | None = None
    items: int = 0
    """Read so far."""
    whole: bool = False
    known: int = 0
    """Of the sample ids, those that it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Everything that the API said; None is what it was not asked."""

    replies: int
    """Answers over HTTP, of any status."""
    fault: NetworkFault | None = None
    """Of the last attempt, if it brought no answer."""
    refusal: ApiError | None = None
    """Why there is no token, or no key to send."""
    asked: tuple[tuple[str, CallResult], ...] = ()
    """Items that were asked for, until one was known."""
    list_: ListHeard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    target: TargetConfig
    provider: Provider
    places: Places
    row: int
    heard: Heard
    sample: tuple[str, ...]

    def connection(self) -> Finding:
        host = urlsplit(self.target.base_url).netloc
        if self.heard.replies:
            return self._finding("connection", Level.OK, f"{host} answers.")
        if self.heard.fault is None:
            return self._finding("connection", Level.NOT_TRIED, f"not tried, {self._why_not()}.")
        what, remedy = _FAULTS[self.heard.fault]
        return self._finding("connection", Level.PROBLEM, f"{host}: {what}.", "base_url", remedy)

    def credentials(self) -> Finding:
        auth, refusal = self.target.auth, self.heard.refusal
        if refusal is not None and (refusal.status is not None or refusal.is_local(UNUSABLE_CREDENTIALS)):
            return self._refused("credentials", refusal)
        if not self.heard.replies:
            return self._finding("credentials", Level.NOT_TRIED, f"not tried, {self._why_not()}.")
        if (rejected := next((each for each in self._errors() if each.status == 401), None)) is not None:
            return self._refused("credentials", rejected) if auth else self._wanted(rejected)
        if auth is None:
            return self._finding("credentials", Level.OK, "none are set, and requests go without.")
        what = "a token was issued" if self._token() else "the key"
        if self._accepted():
            return self._finding("credentials", Level.OK, f"{what}{' and' if self._token() else ' was'} accepted.")
        if self._token():
            return self._finding("credentials", Level.OK, "a token was issued; whether it is accepted was not seen.")
        return self._finding("credentials", Level.NOT_TRIED, "no answer shows whether the key is accepted.")

    def _wanted(self, error: ApiError) -> Finding:
        says = f"none are set, and the API wants some ({_how(error)})."
        return self._finding("credentials", Level.PROBLEM, says, "auth", "give the target its auth")

    def item(self) -> Finding:
        item_id, answer = self.heard.asked[-1] if self.heard.asked else ("", CallResult())
        error = answer.error
        if not self.heard.asked or self._told_already(error):
            return self._finding("item", Level.NOT_TRIED, f"not tried, {self._why_not()}.")
        if error is not None and error.status in {404, 410}:
            return self._not_found(error)
        if error is not None and is_invalid_id(error):
            says = f"the API does not take {item_id} for an id ({_how(error)})."
            return self._finding(
                "item", Level.PROBLEM, says, "sync_log.id_column", "is this the column of the API's ids?"
            )
        if error is not None:
            return self._refused("item", error)
        body = answer.reply.body if answer.reply else b""
        return self._read(item_id, self.provider.read_item(body, item_id))

    def list_(self) -> Finding:
        heard, strategy = self.heard.list_, Strategy(self.target.check.strategy)
        if self.provider.list_request() is None:
            return self._finding("list", Level.OK, "the API has none that is known; each item is asked for by itself.")
        if strategy is Strategy.ITEMS:
            return self._finding("list", Level.NOT_TRIED, 'not tried: strategy is "items".')
        if heard is None or self._told_already(heard.error):
            return self._finding("list", Level.NOT_TRIED, f"not tried, {self._why_not()}.")
        if heard.error is not None:
            return self._list_refused(heard.error, strategy)
        if heard.bad is not None:
            level = Level.PROBLEM if strategy is Strategy.LIST else Level.WARNING
            setting = "list" if self.target.list_ else "check.strategy"
            return self._finding("list", level, f"it can't be read: {heard.bad.reason}.{_instead(strategy)}", setting)
        return self._list_read(heard, strategy)

    def _list_read(self, heard: ListHeard, strategy: Strategy) -> Finding:
        size = format_items(heard.items) if heard.whole else f"the first {format_items(heard.items)} of it"
        use = "every run" if strategy is Strategy.LIST else f"runs with over {AUTO_LIST_THRESHOLD} due items"
        if heard.whole and self.sample and not heard.known:
            says = f"it holds {size}, and none of {len(self.sample)} ids from the sync log."
            return self._finding(
                "list", Level.WARNING, says, "publisher_id", "does the sync log belong to this publisher?"
            )
        said = f"{size} could be read" if heard.items else "it can be read, and is empty"
        return self._finding("list", Level.OK, f"{said}; {use} will use it.")

    def _list_refused(self, error: ApiError, strategy: Strategy) -> Finding:
        cause = cause_of(error)
        # without an item to ask, nothing else shows that a key is refused
        denied = cause is Cause.FORBIDDEN and not self.sample
        wrong = cause is Cause.WRONG_SCOPE or denied or list_failure_ends_run(strategy, cause)
        said = self._refused("list", error)
        if wrong:
            return said
        return self._finding("list", Level.WARNING, f"{said.says}{_instead(strategy)}", _SETTINGS[cause], said.remedy)

    def _not_found(self, error: ApiError) -> Finding:
        count = len(self.heard.asked)
        if count == 1:
            says = f"the API answers, and does not know {self.heard.asked[0][0]} (HTTP {error.status})."
            return self._finding("item", Level.OK, says)
        says = f"the API knows none of {count} ids from the sync log (HTTP {error.status})."
        return self._finding("item", Level.WARNING, says, "publisher_id", _checks(Cause.WRONG_SCOPE))

    def _read(self, item_id: str, status: ItemStatus | BadBody) -> Finding:
        if isinstance(status, BadBody):
            says = f"the API answers about {item_id}, but {status.reason}."
            setting = "item" if self.target.item else "base_url"
            return self._finding("item", Level.PROBLEM, says, setting, _checks(Cause.BAD_RESPONSE))
        if not status.recognised:
            says = f"{item_id} is {status.stage}, which nobody has described: it counts as pending."
            return self._finding("item", Level.WARNING, says, "statuses", "say there what it means")
        means = "" if status.stage.casefold() == status.state.value else f" ({_SPOKEN[status.state]})"
        return self._finding("item", Level.OK, f"{item_id} is {status.stage}{means}.")

    def _why_not(self) -> str:
        if self.heard.refusal is not None and self.heard.fault is None:
            return "as there are no credentials that work"
        if any(error.status == 401 for error in self._errors()):
            return "as the credentials are rejected"
        return "as nothing answers" if self.heard.fault else "as there is no usable id"

    def _told_already(self, error: ApiError | None) -> bool:
        """Whether another part tells of this error."""
        return error is not None and (error.status == 401 or (error.status is None and not self.heard.replies))

    def _errors(self) -> list[ApiError]:
        errors = [answer.error for _, answer in self.heard.asked]
        errors += [self.heard.list_.error] if self.heard.list_ else []
        return [error for error in errors if error is not None]

    def _token(self) -> bool:
        return isinstance(self.target.auth, ClientCredentialsConfig) and self.heard.refusal is None

    def _accepted(self) -> bool:
        """Whether an answer shows that the credentials are taken: any but their refusal, a limit and an outage."""
        calls = len(self.heard.asked) + (self.heard.list_ is not None)
        return calls > len(self._errors()) or any(_takes_credentials(error) for error in self._errors())

    def _refused(self, part: str, error: ApiError) -> Finding:
        if error.is_local(UNUSABLE_CREDENTIALS):
            return self._finding(part, Level.PROBLEM, ended(error.message or ""), "auth")
        cause, accepted = cause_of(error), self._token() or self._accepted()
        where = "the token endpoint: " if error.from_token_endpoint else ""
        # a key that nothing accepts may as well be malformed: Gloo answers that with 403
        setting = "auth" if cause is Cause.FORBIDDEN and not accepted else _SETTINGS[cause]
        remedy = _checks(cause, accepted=accepted)
        return self._finding(part, Level.PROBLEM, f"{where}{CAUSE_TEXTS[cause]} ({_how(error)}).", setting, remedy)

    def _finding(self, part: str, level: Level, says: str, setting: str | None = None, remedy: str = "") -> Finding:
        at = self.places.of("targets", self.row, *setting.split(".")) if setting else None
        return Finding(
            part=part,
            level=level,
            says=says,
            remedy=remedy,
            setting=at.setting if at else None,
            place=at.where if at else None,
        )


_SPOKEN = {ItemState.COMPLETED: "completed", ItemState.PENDING: "pending", ItemState.FAILED: "failed"}


def findings(
    heard: Heard, *, target: TargetConfig, provider: Provider, places: Places, row: int, sample: tuple[str, ...]
) -> list[Finding]:
    """The findings about connection, credentials, one item, and the list.

    Args:
        heard: what the API said.
        target: that was tried.
        provider: of the target.
        places: where its settings stand.
        row: which of the targets it is.
        sample: ids from its sync log.
    """
    judge = _Judge(target=target, provider=provider, places=places, row=row, heard=heard, sample=sample)
    return [judge.connection(), judge.credentials(), judge.item(), judge.list_()]


def _takes_credentials(error: ApiError) -> bool:
    return error.status in {400, 404, 410, 422} and not error.from_token_endpoint


def _checks(cause: Cause, *, accepted: bool = True) -> str:
    """What to check, without the questions that explain it: there is one line for it."""
    return "check " + "; ".join(check.partition(":")[0] for check in what_to_check(cause, accepted=accepted))


def _how(error: ApiError) -> str:
    if error.status is None:
        return _FAULTS[error.network][0] if error.network else "there was no answer in time"
    code = (error.code or "")[:_LONGEST_CODE]
    return f"HTTP {error.status}, code {code}" if code else f"HTTP {error.status}"


def _instead(strategy: Strategy) -> str:
    return " Runs will ask item by item." if strategy is Strategy.AUTO else ""
