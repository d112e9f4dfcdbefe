"""How `make mutants` evaluates the results of mutmut."""

import pytest
from mutation_score import scores

RESULTS = """
    monitor.client.limits.xǁBreakerǁbegin__mutmut_1: killed
    monitor.client.limits.xǁBreakerǁbegin__mutmut_2: survived
    monitor.client.limits.xǁBreakerǁbegin__mutmut_3: timeout
    monitor.client.limits.x_is_outage__mutmut_1: no tests
    monitor.client.limits.x_is_outage__mutmut_2: not checked
    monitor.client.retry.x_decide__mutmut_10: killed
"""


def test_a_mutant_without_a_failing_test_counts_as_survived():
    found = scores(RESULTS, ["monitor.client.retry", "monitor.client.limits"])
    unnoticed = ["xǁBreakerǁbegin__mutmut_2", "x_is_outage__mutmut_1", "x_is_outage__mutmut_2"]
    assert found == {
        "monitor.client.limits": (5, [f"monitor.client.limits.{name}" for name in unnoticed]),
        "monitor.client.retry": (1, []),
    }


def test_a_module_without_mutants_has_no_score():
    with pytest.raises(SystemExit, match=r"mutmut changed nothing in monitor\.client\.hints$"):
        scores(RESULTS, ["monitor.client.retry", "monitor.client.hints"])
