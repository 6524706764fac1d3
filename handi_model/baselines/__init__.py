"""Image-to-video methods that generate the same test clips, this one among them."""
