import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import CheckConfig
from monitor.config.fields import RequestRate


@pytest.mark.parametrize(
    ("written", "per_s"),
    [
        ("50/s", 50),
        ("1/s", 1),
        ("0.5/s", 0.5),
        ("0.000001/s", 0.000_001),
        ("100/m", 100 / 60),
        ("33.3/m", 33.3 / 60),
        ("3000/h", 3000 / 3600),
        ("99999999/s", 99_999_999),
    ],
)
def test_common_forms_of_rates_are_read(written, per_s):
    assert RequestRate(written) == pytest.approx(per_s, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "50", "/s", "50/", "50/d", "50/S", "50/min", "50 / s", " 50/s", "50/s\n", "-1/s", "+1/s", "0/s", "0.0/s",
     "0.000/h", ".5/s", "5./s", "05/s", "1e3/s", "1,5/s", "nan/s", "inf/s", "\u0665/s", "123456789/s", "5/10s"],
)  # fmt: skip
def test_other_texts_are_not_rates(text):
    with pytest.raises(ValueError, match="not a rate"):
        RequestRate(text)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_the_original_text(duplicate):
    made = duplicate(RequestRate("100/m"))

    assert (made, made.written) == (RequestRate("100/m"), "100/m")


COUNTS = st.from_regex(r"[1-9][0-9]{0,7}(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9]", fullmatch=True, alphabet="0123456789.")


@given(count=COUNTS, unit=st.sampled_from("smh"))
def test_a_setting_is_a_rate_above_zero_and_shown_as_written(count, unit):
    check = CheckConfig.model_validate({"rate": f"{count}/{unit}"})

    assert 0 < check.rate <= float(count)
    assert check.model_dump(mode="json")["rate"] == f"{count}/{unit}"
    assert CheckConfig.model_validate(check.model_dump()).rate == check.rate
