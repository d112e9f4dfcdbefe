"""The resilient client: retries, budget, circuit breaker, authentication and error normalisation."""
