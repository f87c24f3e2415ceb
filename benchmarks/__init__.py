"""Side-by-side measurements, run by ``make bench``; the tests measure no times."""
