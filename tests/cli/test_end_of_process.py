"""A process ends with the command's exit code, even if threads of libraries are still working."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.process


def test_a_receiver_that_is_down_never_turns_the_exit_code_into_a_crash(small_world):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    more = f'[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "http://127.0.0.1:{port}/x"\n'
    small_world.configure(more=more)
    small_world.track(1)
    # without the hard end, each of these would crash with a chance of one in seven
    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(lambda _: small_world.cli("doctor", "--send-test"), range(12)))
    assert {end.returncode for end in ends} == {3}
    assert all("hook" in end.stdout for end in ends)
