"""Where units are encoded: in this process, or on the workers of a cluster."""
