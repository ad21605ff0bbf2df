"""Takes orders over HTTP, asks the inventory over RabbitMQ, and answers with the outcome."""
