"""The runnable system: a store, two HTTP faces and what sends webhooks out, all on the library."""
