"""Run every benchmark: ``make bench``."""

from benchmarks import busy, checkpoint, devices, engine, instrumented_run, live, pages, sweeps, toolbox

if __name__ == "__main__":
    instrumented_run.main()
    sweeps.main()
    busy.main()
    toolbox.main()
    live.main()
    engine.main()
    checkpoint.main()
    pages.main()
    devices.main()
