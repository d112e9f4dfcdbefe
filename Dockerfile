# The tags name a Python and a Debian release. To pin the exact image, append the digest that your own registry or
# `docker buildx imagetools inspect python:3.12-slim-bookworm` shows: FROM python:3.12-slim-bookworm@sha256:…
FROM python:3.12-slim-bookworm AS build

WORKDIR /src
# Dependencies first: they change more rarely than the code, so this layer is mostly cached.
COPY requirements/runtime.txt requirements/build.txt requirements/
# --no-deps: the lock names everything, so pip must not resolve (some of its versions fail at it).
RUN python -m venv --without-pip /opt/ingestion-monitor \
 && pip --python /opt/ingestion-monitor install --no-cache-dir --no-deps --require-hashes -r requirements/runtime.txt \
 && pip install --no-cache-dir --no-deps --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY docs docs
COPY migrations migrations
COPY ingestion_monitor.py ./
COPY monitor monitor
RUN python -m hatchling build -t wheel -d dist \
 && pip --python /opt/ingestion-monitor install --no-cache-dir --no-deps dist/*.whl


FROM python:3.12-slim-bookworm

LABEL org.opencontainers.image.title="Ingestion Monitor" \
      org.opencontainers.image.description="Watches what a hosted RAG data engine does with your uploads." \
      org.opencontainers.image.licenses="MIT"

# Byte code was compiled when the packages were installed; at run time nothing is written outside /data and /tmp, so the
# root file system can be mounted read-only.
ENV PATH=/opt/ingestion-monitor/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp

COPY --from=build /opt/ingestion-monitor /opt/ingestion-monitor
COPY deploy/healthcheck.py /opt/ingestion-monitor/healthcheck.py
RUN install -d -o 10001 -g 10001 /data

# A number, so that Kubernetes can verify `runAsNonRoot` without reading /etc/passwd.
USER 10001:10001
# monitor.toml and .env are looked for here, unless MONITOR_CONFIG names another place; without `database` in it, an
# embedded monitor.db is kept beside it.
WORKDIR /data
VOLUME /data

# The daemon's page, /healthz, /readyz and /metrics. It listens on loopback unless MONITOR_WEB__LISTEN=0.0.0.0:8990 is given; the
# page then needs a token (web.token_file).
EXPOSE 8990

# Healthy: the daemon's event loop runs. Kubernetes does not use this; its probes are in deploy/kubernetes.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
  CMD ["python", "-I", "/opt/ingestion-monitor/healthcheck.py"]

# On this signal it starts nothing new, stores finished work, and ends within ten seconds.
STOPSIGNAL SIGTERM

# The exec form makes the program process 1, which gets SIGTERM itself and handles it; it starts no children, so there is
# nothing to reap and no need for an init.
ENTRYPOINT ["ingestion-monitor"]
CMD ["daemon"]
