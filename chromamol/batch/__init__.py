"""Many images into one output folder."""

from chromamol.batch.run import infer, segment

__all__ = ["infer", "segment"]
