"""What holds the model: the deployment that renders, and what it needs for that."""
