# One image for both services; the command says which.
FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
    UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/app/.venv
WORKDIR /src

# Only what the locks name, by hash: pip fetches uv, uv the rest, and builds the project by itself.
COPY requirements-uv.lock requirements.lock ./
RUN pip install --require-hashes -r requirements-uv.lock \
 && uv venv "$VIRTUAL_ENV" \
 && uv pip install --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY order_api order_api
COPY inventory_worker inventory_worker
COPY shared shared
RUN uv pip install --no-deps .


FROM python:3.13-slim

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
CMD ["order-api"]
