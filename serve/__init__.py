"""The Ray Serve application, its API types and its web page. Imports `pipelines` and
`handi_model`; nothing imports it."""
