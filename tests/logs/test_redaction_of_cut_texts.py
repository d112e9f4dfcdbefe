"""A secret that an API repeats may be cut before it is masked: reasons, statuses and messages have limits."""

import pytest

from monitor.logs import Redactor

SECRET = "Zq9-" + "a1b2c3d4e5" * 9


@pytest.mark.parametrize("length", [12, 30, len(SECRET) - 1])
@pytest.mark.parametrize("before", ["", "err_", "Zq9-a1b2c3d4e5 is no key: "])
@pytest.mark.parametrize("after", ["", "…"])
def test_the_beginning_of_a_secret_at_the_end_is_masked(before, length, after):
    redactor = Redactor()
    redactor.register(SECRET)
    assert redactor.text(f"{before}{SECRET[:length]}{after}") == f"{before}**********"


def test_the_host_of_a_secret_url_is_not_masked():
    redactor = Redactor()
    redactor.register("https://hooks.example.com/services/T0/B0/abcdefghijkl")
    assert redactor.text("no answer from https://hooks.example.com") == "no answer from https://hooks.example.com"
