"""From observations to distributions: features, networks, action heads."""
