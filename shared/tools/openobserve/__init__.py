"""OpenObserve provisioned through its API: the dashboard, the alert, and the commands that set them up."""
