"""The daemon's health endpoints: /healthz, /readyz and /metrics. They only look: nothing is changed, no secret is told.

`serving` is where it begins; whoever has no endpoints imports neither FastAPI nor uvicorn.
"""
