"""What a client meets: the HTTP application, and the deployment that runs it."""
