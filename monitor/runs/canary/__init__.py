"""Canaries: a tiny document of the monitor's own that is uploaded, waited for, retrieved and deleted.

`canary` is one of them from begin to end, `requests` sends its requests, `clean_up` removes what it or an earlier one
left, `store` has its rows, `observations` says what they mean for incidents. What a request looks like is the
provider's: `monitor.providers.canary`.
"""
