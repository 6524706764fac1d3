"""What makes `HandiPipeline` one of diffusers' pipelines, for those who know the others."""
