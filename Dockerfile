# One image for both services; the command says which.
# By digest, so that who builds it later builds the same; Dependabot moves it.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS base


FROM base AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
    UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/app/.venv
WORKDIR /src

# Only what the locks name, by hash: pip fetches uv, uv the rest, and builds the project by itself.
COPY requirements-uv.lock requirements.lock ./
RUN pip install --require-hashes -r requirements-uv.lock \
 && uv venv "$VIRTUAL_ENV" \
 && uv pip install --require-hashes -r requirements.lock

# What changes more often comes later. The README is no part of the image, so that an edit of it builds nothing anew.
COPY pyproject.toml LICENSE ./
COPY shared shared
COPY inventory_worker inventory_worker
COPY order_api order_api
RUN touch README.md && uv pip install --no-deps .


FROM base

LABEL org.opencontainers.image.title="Traced Orders" \
      org.opencontainers.image.description="Order API and inventory worker over RabbitMQ, with one whole trace an order" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"

# Inside a container the loopback address reaches nobody.
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 \
    ORDER_API_HOST=0.0.0.0 INVENTORY_WORKER_HOST=0.0.0.0
COPY --from=build /app/.venv /app/.venv

# A number, so that an orchestrator can tell that it is not root; /app/var is where SQLite goes without DATABASE_URL, and a
# volume in /run/openobserve takes its owner from here.
WORKDIR /app
RUN install -d -o 10001 -g 10001 var /run/openobserve
USER 10001:10001

# In exec form the service gets the signal itself, with no shell before it.
STOPSIGNAL SIGTERM
EXPOSE 8000 8001
# Whether the process serves; whether all that it needs is there is what /ready says. Which service it is, its command says.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request; \
worker = b'inventory-worker' in open('/proc/1/cmdline', 'rb').read(); \
name, usual = ('INVENTORY_WORKER_PORT', '8001') if worker else ('ORDER_API_PORT', '8000'); \
port = (os.environ.get(name) or usual).rpartition(':')[2]; \
urllib.request.urlopen(f'http://127.0.0.1:{port}/health', timeout=4)"]
CMD ["order-api"]
