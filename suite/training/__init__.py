"""The lecture's inner loop: update, epoch, and trainings with a stated protocol."""
