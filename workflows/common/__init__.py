"""What every workflow needs: calling activities, continuing as new, finishing its work despite a cancel."""
