"""The method: equations, networks, losses and sampling. Imports neither Ray nor MediaPipe."""
