"""linecard."""
