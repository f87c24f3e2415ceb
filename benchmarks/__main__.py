"""Run every benchmark: ``make bench``."""

from benchmarks import instrumented_run

instrumented_run.main()
