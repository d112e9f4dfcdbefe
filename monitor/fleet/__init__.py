"""Runs that workers share: their queue on PostgreSQL, by Procrastinate. Nothing here is loaded without workers.

What a share of a run is, and who checks it, is decided by the database, not by the queue: a job may come twice.
"""
