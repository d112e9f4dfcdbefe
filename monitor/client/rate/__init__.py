"""The request rate of one API and credential: limiter, estimate, rate-limit headers. Pure."""
