"""The field's tables from our own commands: one command a table, every one resumable."""
