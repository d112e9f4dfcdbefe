"""A real Prometheus that scrapes /metrics of a test, for tests marked `process`: `make test` needs none."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from support.debian import program

_TIMEOUT_S = 60


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict]:
        """The result of an instant query. Raises AssertionError with Prometheus's own words if it refuses it."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer['error']}"
        return answer["data"]["result"]

    def await_result(self, expression: str) -> list[dict]:
        """Waits until a query has a result, and returns it."""
        ends_s = time.monotonic() + _TIMEOUT_S
        while not (found := self.query(expression)):
            assert time.monotonic() < ends_s, f"no result of {expression}"
            time.sleep(0.1)
        return found


@contextlib.contextmanager
def scraping(address: str, folder: Path) -> Iterator[Prometheus]:
    """Yields a Prometheus that scrapes `address` (host:port) five times a second, as the job of deploy/prometheus."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "prometheus.yml").write_text(
        "global: { scrape_interval: 200ms, scrape_timeout: 200ms }\n"
        f"scrape_configs: [{{ job_name: ingestion-monitor, static_configs: [{{ targets: ['{address}'] }}] }}]\n"
    )
    command = [
        program("prometheus", package="prometheus", elsewhere="brew install prometheus"),
        f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _await(f"{url}/-/ready", process, folder / "log")
            yield Prometheus(url)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _await(url: str, process: subprocess.Popen, log: Path) -> None:
    ends_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            httpx.get(url).raise_for_status()
        except httpx.HTTPError as error:
            if process.poll() is not None or time.monotonic() > ends_s:
                raise RuntimeError(f"Prometheus did not start: {log.read_text()}") from error
            time.sleep(0.1)
        else:
            return
