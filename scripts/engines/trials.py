"""What an engine says of an item, beside what the product says of it."""

import json
import re
from dataclasses import dataclass

from engines.product import Product
from engines.recorder import recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One item of an engine, or one question to it."""

    item: str
    """What was uploaded or asked, in words."""
    says: str
    """The engine's own words."""
    means: str
    """What that means: a state, or for a whole target a cause."""
    found: str
    """What the product says."""
    why: str = ""
    """Why the two may differ, where that is known."""

    @property
    def is_right(self):
        return self.found.partition(" ")[0] == self.means

    @property
    def holds(self):
        return self.is_right or bool(self.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An item that the engine was given, before the product was asked."""

    item: str
    id: str
    says: str
    means: str
    why: str = ""


def compare(place, origin, target, uploads, *, strategies=("items",), concurrency=32):
    """The trials of these uploads: one product for each strategy, which must agree.

    `target` is TOML with `{url}` where the engine's origin stands.
    """
    uploads, found = list(uploads), {}
    for strategy in strategies:
        with recording(origin) as recorder:
            product = Product(
                folder=place.folder / f"monitor-{strategy}",
                target=target.replace("{url}", recorder.url),
                strategy=strategy,
                concurrency=concurrency,
            )
            found[strategy] = product.verdicts([each.id for each in uploads])
        _keep(place, recorder, name=strategy, target=target, strategy=strategy, states=found[strategy])
    for each in uploads:
        said = {name: verdicts.get(each.id, "nothing") for name, verdicts in found.items()}
        same = len({word.partition(" ")[0] for word in said.values()}) == 1
        text = max(said.values(), key=len) if same else "; ".join(f"{name}: {word}" for name, word in said.items())
        yield Trial(item=each.item, says=each.says, means=each.means, found=text, why=each.why)


def refused(place, origin, target, ids, *, item, says, means):
    """The trial of a target that the engine refuses as a whole: the cause that is found, and no item that is blamed."""
    with recording(origin) as recorder:
        product = Product(folder=place.folder / f"monitor-{means}", target=target.replace("{url}", recorder.url))
        states = product.verdicts(ids, runs=2)
        causes = product.causes()
    _keep(place, recorder, name=means, target=target, strategy="items", states=states, causes=causes)
    words = {word.partition(" ")[0] for word in states.values()}
    found = ", ".join(causes or ["no cause"]) if words == {"unknown"} else f"items {', '.join(sorted(words))}"
    return Trial(item=item, says=says, means=means, found=found)


def canary(place, origin, target, *, left):
    """The trial of a canary: it must work, and leave nothing; `left` says how many of its documents the engine has."""
    product = Product(folder=place.folder / "monitor-canary", target=target.replace("{url}", origin))
    said = product.canary()
    count = left(said["name"])
    found = said["status"] if said["failed_step"] is None else f"failed at {said['failed_step']}: {said['reason']}"
    found = found if said["clean_up"] == "done" and not count else f"{found}, {count} documents left"
    return Trial(
        item="a canary: upload, wait, retrieve, clean up", says=f"{count} left", means="succeeded", found=found
    )


def _keep(place, recorder, **session):
    """Keeps a session as the tests replay it, without this machine's folders."""
    if place.recordings is None:
        return
    file = place.recordings / f"{place.folder.name}.json"
    sessions = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    name = session.pop("name")
    text = json.dumps({**session, "exchanges": list(recorder.exchanges.values())})
    text = text.replace(str(place.folder), "/srv/engine").replace(_key(session["target"]), "the-key")
    sessions[name] = json.loads(text)
    file.write_text(_lines(sessions), encoding="utf-8")


def _key(target):
    """The key of a target; without one, a text that is nowhere."""
    found = re.search(r'api_key = "(.*?)"', target)
    return found[1] if found else "\0"


def _lines(sessions):
    """JSON with one exchange per line, so that a difference can be read."""
    parts = []
    for name, session in sessions.items():
        head = {key: value for key, value in session.items() if key != "exchanges"}
        exchanges = ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in session["exchanges"])
        shown = json.dumps(head, ensure_ascii=False, indent=2)[:-2].replace("\n", "\n ")
        parts.append(f'{json.dumps(name)}: {shown},\n "exchanges": [\n  {exchanges}\n ]}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"
