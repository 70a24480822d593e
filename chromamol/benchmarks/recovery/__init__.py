"""`chromamol benchmark recovery`: known rates, seen as a microscope would see them, and recovered."""

from chromamol.benchmarks.recovery.cases import CASES, Case
from chromamol.benchmarks.recovery.table import RecoveryBenchmark, run

__all__ = ["CASES", "Case", "RecoveryBenchmark", "run"]
