"""What helps testing: sandboxes, cassettes, the conformance kit. Nothing is imported here."""
