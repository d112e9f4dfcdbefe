"""A small browser for tests: it keeps cookies, posts forms as a page would, and follows nothing by itself."""

import re
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from web.served import ask

HTML = "text/html,application/xhtml+xml"


class Browser:
    """A client of one server under one host name; `cross_site` sends what a browser sends after a link elsewhere."""

    def __init__(self, address, host=None, *, https=False):
        self.address, self.host = address, host or f"{address[0]}:{address[1]}"
        self.origin = f"{'https' if https else 'http'}://{self.host}"
        self.cookies = {}

    def get(self, path, *, cross_site=False, method="GET", **headers):
        site = "cross-site" if cross_site else "same-origin"
        sent = {"Accept": HTML, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", **headers}
        return self._ask(path, method, sent, strict=not cross_site)

    def post(self, path, fields=None, *, cross_site=False, **headers):
        sent = {
            "Accept": HTML,
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": "https://evil.example" if cross_site else self.origin,
            "Sec-Fetch-Site": "cross-site" if cross_site else "same-origin",
            **headers,
        }
        return self._ask(path, "POST", sent, body=urlencode(fields or {}), strict=not cross_site)

    def _ask(self, path, method, headers, *, strict, body=None):
        cookies = {name: value for name, (value, flags) in self.cookies.items() if strict or "strict" not in flags}
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        answer = ask(self.address, path, method=method, headers={"Host": self.host, **headers}, body=body)
        for name, morsel in SimpleCookie(answer.headers.get("set-cookie", "")).items():
            if morsel.value and morsel["max-age"] != "0":
                self.cookies[name] = morsel.value, morsel["samesite"].lower()
            else:
                self.cookies.pop(name, None)
        return answer

    def log_in(self, token, name="Ana", there="/"):
        return self.post("/login", {"token": token, "name": name, "next": there})

    def csrf_token(self, path="/"):
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(path).body.decode())
        return found[1] if found else ""
