"""From what is stored or was just found out to text and JSON. It queries nothing and decides nothing."""
