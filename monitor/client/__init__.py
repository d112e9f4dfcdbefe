"""The resilient client: it finds out what can be found out, and never hurts a service that is struggling."""
