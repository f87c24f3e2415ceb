"""Side-by-side measurements, run by ``make bench``; nothing in the tests is timed."""
