"""Which batch size should be used here: measured, predicted, recommended, and then checked."""
