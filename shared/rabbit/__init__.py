"""RabbitMQ for a service: a connection kept up, publishing with confirms, a delivery from arrival to settlement."""
