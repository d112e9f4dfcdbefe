"""A mail server on loopback (aiosmtpd, in its own thread) with configurable replies; it keeps its mails."""

import asyncio
import email
import threading
from email.policy import default

from aiosmtpd.smtp import SMTP, AuthResult


class MailServer:
    """Accepts every mail unless configured otherwise.

    Args:
        answers: what it says in place of its own answer, by command: MAIL, RCPT, DATA (`552 too large`). For RCPT it
            may be a dictionary by address.
        users: passwords by user; if there are any, a login is required.
        tls: an `ssl.SSLContext`: STARTTLS is offered.
        implicit_tls: an `ssl.SSLContext`: it speaks TLS from the first byte.
        dies: closes the connection in place of its answer to that command.
        hangs: does not answer that command until it is stopped.
    """

    def __init__(self, answers=None, *, users=None, tls=None, implicit_tls=None, dies=None, hangs=None, **options):
        self.answers, self.users, self.dies, self.hangs = answers or {}, users or {}, dies, hangs
        self.mails, self.envelopes, self.logins, self.encrypted, self.sizes = [], [], [], [], []
        self._let_go = threading.Event()
        if users:
            options |= {"authenticator": self._let_in, "auth_required": True}
        self._options, self._implicit_tls = {"hostname": "localhost", "tls_context": tls, **options}, implicit_tls
        self._loop = asyncio.new_event_loop()
        self.port = 0

    def _let_in(self, _server, _session, _envelope, _mechanism, data):
        user, password = data.login.decode(), data.password.decode()
        self.logins.append(user)
        return AuthResult(success=self.users.get(user) == password, handled=False)  # the answer is aiosmtpd's

    async def _answer(self, server, command, otherwise, detail=None):
        if self.dies == command:
            server.transport.abort()
        if self.hangs == command:
            await asyncio.to_thread(self._let_go.wait, 60)
        said = self.answers.get(command)
        said = said.get(detail) if isinstance(said, dict) else said
        return said or otherwise

    async def handle_MAIL(self, server, session, envelope, address, options):  # noqa: N802  # aiosmtpd's name
        self.sizes += [int(each[5:]) for each in options if each.upper().startswith("SIZE=")]
        said = await self._answer(server, "MAIL", "250 OK")
        if said.startswith("250"):
            envelope.mail_from = address
        return said

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802  # aiosmtpd's name
        said = await self._answer(server, "RCPT", "250 OK", address)
        if said.startswith("250"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  # aiosmtpd's name
        said = await self._answer(server, "DATA", "250 OK")
        if said.startswith("250"):
            self.mails.append(envelope.original_content)
            self.envelopes.append((envelope.mail_from, tuple(envelope.rcpt_tos)))
            self.encrypted.append(session.ssl is not None or self._implicit_tls is not None)
        return said

    def read(self):
        """The only mail, parsed."""
        (raw,) = self.mails
        return email.message_from_bytes(raw, policy=default)

    async def _serve(self, serving):
        self._stopped = asyncio.Event()
        made = await self._loop.create_server(
            lambda: SMTP(self, loop=self._loop, **self._options), "127.0.0.1", 0, ssl=self._implicit_tls
        )
        self.port = made.sockets[0].getsockname()[1]
        serving.set()
        await self._stopped.wait()
        made.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def __enter__(self):
        serving = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(serving),))
        self._thread.start()
        assert serving.wait(10)
        return self

    def __exit__(self, *_):
        self._let_go.set()
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._loop.close()
