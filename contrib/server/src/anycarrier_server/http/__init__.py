"""HTTP for every face: how endpoints are declared and run, what surrounds a request, and the OpenAPI document."""
