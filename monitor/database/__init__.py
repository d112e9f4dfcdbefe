"""All SQL on our own database; one module per group of tables. It decides nothing."""
