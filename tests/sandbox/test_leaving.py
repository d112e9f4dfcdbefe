import socket
import time

import httpx
import pytest

from monitor.sandbox import Sandbox

PARTS = {
    "upload": ("POST /ingestion/v2/files", "Content-Type: multipart/form-data; boundary=b\r\n", "--b\r\n"),
    "delete": ("DELETE /engine/v2/items", "", "{"),
}


@pytest.mark.parametrize(("call", "header", "start"), PARTS.values(), ids=PARTS)
def test_a_disconnect_during_the_request_body_is_counted_once_and_not_logged(call, header, start, caplog):
    with Sandbox() as sandbox:
        with socket.create_connection(("127.0.0.1", sandbox.port)) as client:
            head = f"{call} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox-key\r\n{header}"
            client.sendall(f"{head}Content-Length: 5000\r\n\r\n{start}".encode())
        deadline = time.monotonic() + 5
        while not sandbox.requests() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sandbox.stats()["requests"] == {f"{call} gone": 1}
    assert not caplog.records


def test_a_fault_affects_a_call_with_a_forwarded_client_address():
    with Sandbox() as sandbox:
        sandbox.add_fault(path="/engine", status=503)
        answer = httpx.get(f"{sandbox.url}/engine/v2/items/x", headers={"X-Forwarded-For": "10.1.2.3"})
    assert answer.status_code == 503
