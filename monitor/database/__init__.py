"""The database: connections, tables, schema, leases, retries and retention.

The queries of a feature are in its own package.
"""
