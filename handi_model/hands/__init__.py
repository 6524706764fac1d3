"""MediaPipe's hand networks: where their files come from."""
