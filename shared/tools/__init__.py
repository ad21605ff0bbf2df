"""For people and tests, never imported by a service: the `orders` commands, trace readers, OpenObserve, the local stack."""
