"""The experiment that a reader moves, in Jupyter and in the page."""
