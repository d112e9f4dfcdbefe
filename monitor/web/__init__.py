"""The daemon's read-only health endpoints: /healthz, /readyz and /metrics.

FastAPI and uvicorn are imported only if endpoints are configured.
"""
