"""What the daemon serves: /healthz, /readyz and /metrics, and the page for people, with its access check and actions.

FastAPI, uvicorn and Jinja are imported only if an address is configured.
"""
