"""Loads structlog without rich, 75 modules that it would take along for tracebacks which the log never shows."""

import sys

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # what is None here can't be imported, and structlog does without (its own words: rich is optional)
    sys.modules["rich"] = None  # type: ignore[assignment]  # the documented way to say so
    try:
        import structlog
    finally:
        del sys.modules["rich"]
else:
    import structlog

__all__ = ["structlog"]
