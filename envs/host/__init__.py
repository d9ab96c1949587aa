"""The bridge to Gymnasium's environments on the host."""
