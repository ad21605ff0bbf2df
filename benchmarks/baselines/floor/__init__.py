"""The floor: what the promises and the spans of an order cost at least, made by hand on bare ASGI, aiormq and sqlite3.

It keeps these promises: an order is stored durably before its check goes out, under a mandatory, confirmed publish; the
worker takes stock once per order id, in the durable transaction that records the decision; it acks after its reply was
confirmed; the API records the decision before it answers, and acks after. Its trace of an order has the same spans,
parents, links and main attributes as the product's, made with the SDK and sent by the official exporter.

It is no service. It has no relay (an order whose check was lost stays pending), no retries and no dead letters (a check
that fails stays unsettled), no reconnection, no draining at the end, no bound on what waits, no metrics, no logs, no
redaction, no probes but one, no validation beyond what it needs, one database, and trusts every message.
"""
