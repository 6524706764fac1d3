"""MediaPipe's hand detector in torch: its networks' files, and what runs them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handi_model.hands.detector import Detection, HandDetector
    from handi_model.hands.regions import regions_from_joints

__all__ = ["Detection", "HandDetector", "regions_from_joints"]


def __getattr__(name: str) -> Any:
    # Preprocessing needs the model files alone, on machines without torch.
    if name in ("Detection", "HandDetector"):
        from handi_model.hands import detector

        return getattr(detector, name)
    if name == "regions_from_joints":
        from handi_model.hands.regions import regions_from_joints

        return regions_from_joints
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
