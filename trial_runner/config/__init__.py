"""The study's configuration: its schema, its file, and the training keys a space may search."""
