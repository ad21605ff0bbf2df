"""Where everything is, and who logs in, unless somebody says otherwise: as `orders up` and Docker Compose have it."""

API_URL = "http://127.0.0.1:8000"
TRACES_URL = "http://127.0.0.1:5080"
AMQP_URL = "amqp://guest:guest@127.0.0.1:5672/"
LOCAL_USER, LOCAL_PASSWORD = "root@example.com", "Traced-orders-1"
